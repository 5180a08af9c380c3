import net from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { QmpClient } from '../../../src/engines/qemu/qmp.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n'

/** A monitor that answers each command by what `answer` writes; returns a connected client. */
async function client(
  answer: (command: { execute: string; id: number }, socket: net.Socket) => void,
  timeoutMs?: number,
) {
  const where = path.join(temporaryFolder(), 'qmp')
  const server = net.createServer(socket => {
    socket.on('error', () => {})
    socket.write(greeting)
    let text = ''
    socket.on('data', data => {
      text += String(data)
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const command = JSON.parse(text.slice(0, end)) as { execute: string; id: number }
        text = text.slice(end + 1)
        if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${command.id}}\r\n`)
        else answer(command, socket)
      }
    })
  })
  await new Promise<void>(resolve => server.listen(where, resolve))
  onTestFinished(() => void server.close())
  const connected = await QmpClient.connect(where, timeoutMs)
  onTestFinished(() => connected.close())
  return connected
}

describe("QEMU's monitor", () => {
  it('is understood with events in between, answers out of order, and lines that come in pieces', async () => {
    const held: number[] = []
    const qmp = await client(({ id }, socket) => {
      held.push(id)
      if (held.length < 2) return
      socket.write('{"event": "STOP", "timestamp": {}}\r\n{"return": {"of": ')
      setTimeout(
        () =>
          socket.write(
            `${held[1]}}, "id": ${held[1]}}\r\n{"return": {"of": ${held[0]}}, "id": ${held[0]}}\r\n`,
          ),
        5,
      )
    })
    const answers = await Promise.all([qmp.execute<{ of: number }>('a'), qmp.execute<{ of: number }>('b')])
    expect(answers.map(({ of }) => of)).toEqual(held)
  })

  it('refuses in its own words, and goes on working', async () => {
    const qmp = await client(({ execute, id }, socket) =>
      socket.write(
        execute === 'bad'
          ? `{"error": {"class": "GenericError", "desc": "no such thing"}, "id": ${id}}\n`
          : `{"return": 5, "id": ${id}}\n`,
      ),
    )
    await expect(qmp.execute('bad')).rejects.toThrow('no such thing')
    expect(await qmp.execute('good')).toBe(5)
  })

  it.each([
    ['closes the connection', ''],
    ['sends what is no JSON', 'Segmentation fault\n'],
    ['sends JSON that is no message', 'null\n'],
    ['answers an error to nobody', '{"error": {"class": "GenericError", "desc": "Invalid JSON"}}\n'],
  ])('fails every command that waits, and all later ones, when it %s', async (_, words) => {
    const qmp = await client((_command, socket) => void socket.end(words))
    await expect(qmp.execute('query-status')).rejects.toThrow(/went away/)
    await expect(qmp.execute('stop')).rejects.toThrow(/went away/)
  })

  it('fails what waits when it says nothing for too long, and not because nobody asks', async () => {
    const qmp = await client(({ execute, id }, socket) => {
      if (execute === 'quick') socket.write(`{"return": 1, "id": ${id}}\n`)
    }, 100)
    await sleep(300)
    expect(await qmp.execute('quick')).toBe(1)
    await expect(qmp.execute('never')).rejects.toMatchObject({
      details: { found: 'QEMU said nothing for 0.1 s' },
    })
  })

  it('that does not even greet is given up', async () => {
    const where = path.join(temporaryFolder(), 'qmp')
    const server = net.createServer(() => {})
    await new Promise<void>(resolve => server.listen(where, resolve))
    onTestFinished(() => void server.close())
    await expect(QmpClient.connect(where, 100)).rejects.toMatchObject({
      details: { found: 'QEMU said nothing for 0.1 s' },
    })
  })
})
