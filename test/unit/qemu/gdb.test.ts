import net from 'node:net'
import path from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { GdbClient, gdbRegisters } from '../../../src/engines/qemu/gdb.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const packet = (payload: string) => {
  const sum = [...payload].reduce((all, each) => (all + each.charCodeAt(0)) & 0xff, 0)
  return `$${payload}#${sum.toString(16).padStart(2, '0')}`
}

/** A stub that sends what `answer` says to each packet; undefined is silence. Returns where it listens. */
async function stub(answer: (payload: string) => string | undefined): Promise<string> {
  const where = path.join(temporaryFolder(), 'gdb')
  const server = net.createServer(socket => {
    socket.on('error', () => {})
    let text = ''
    socket.on('data', data => {
      text += String(data)
      for (let match = /\$(.*?)#../.exec(text); match !== null; match = /\$(.*?)#../.exec(text)) {
        text = text.slice(match.index + match[0].length)
        const words = answer(match[1]!)
        if (words !== undefined) socket.write(words)
      }
    })
  })
  await new Promise<void>(resolve => server.listen(where, resolve))
  onTestFinished(() => void server.close())
  return where
}

async function client(answer: (payload: string) => string | undefined, timeoutMs?: number) {
  const gdb = await GdbClient.connect(await stub(answer), timeoutMs)
  onTestFinished(() => gdb.close())
  return gdb
}

describe('a gdb stub', () => {
  it('gives the registers in their order, and steps', async () => {
    const wide = Array.from({ length: 17 }, (_, i) =>
      Buffer.from([i + 1, 0, 0, 0, 0, 0, 0, 0x80]).toString('hex'),
    )
    const narrow = Array.from({ length: 7 }, (_, i) => Buffer.from([i + 100, 0, 0, 0]).toString('hex'))
    const gdb = await client(payload => `+${packet(payload === 'g' ? [...wide, ...narrow].join('') : 'S05')}`)
    await gdb.step()
    expect([...(await gdb.registers())]).toEqual(
      gdbRegisters.map((name, i) => [name, i < 17 ? (0x80n << 56n) + BigInt(i + 1) : BigInt(i - 17 + 100)]),
    )
  })

  it('that has fewer registers, or whose machine ends, is refused', async () => {
    const gdb = await client(payload =>
      packet(payload === 'g' ? '00112233' : payload === 's' ? 'W00' : 'S05'),
    )
    await expect(gdb.registers()).rejects.toThrow(/other registers/)
    await expect(gdb.step()).rejects.toThrow(/ended/)
  })

  it.each([
    ['says nothing', undefined, 200, /no answer for 0\.2 s/],
    ['sends a packet that never ends', `$${'0'.repeat(2 ** 20)}`, 10_000, /never ends/],
  ])('that %s fails what waits, and all that comes later', async (_, words, patience, message) => {
    const gdb = await client(payload => (payload === '?' ? packet('S05') : words), patience)
    await expect(gdb.step()).rejects.toMatchObject({ details: { found: expect.stringMatching(message) } })
    await expect(gdb.registers()).rejects.toThrow(/stub failed/)
  })

  it('that never answers at all is given up', async () => {
    const where = await stub(() => undefined)
    await expect(GdbClient.connect(where, 100)).rejects.toThrow(/stub failed/)
  })

  it('that is let go fails what still waits for it', async () => {
    const gdb = await client(payload => (payload === '?' ? packet('S05') : undefined))
    const step = gdb.step()
    gdb.close()
    await expect(step).rejects.toThrow(/closed the connection/)
  })
})
