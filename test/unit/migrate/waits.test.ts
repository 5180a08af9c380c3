/** Each wait between two sides, and between a monitor and its guest's thread, has an end. */
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect, onTestFinished, test } from 'vitest'
import { nextReply } from '../../../src/engines/microvm/micro-vm.js'
import { connect, connectPlain } from '../../../src/migrate/channel.js'
import { FRAME, FrameStream, PROTOCOL, parseJson } from '../../../src/migrate/frames.js'
import { Receiver } from '../../../src/migrate/receive-machine.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** The two ends of a connection. */
async function pair(): Promise<[net.Socket, net.Socket]> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [far] = (await once(server, 'connection')) as [net.Socket]
  server.close()
  for (const socket of [near, far]) {
    socket.on('error', () => {})
    onTestFinished(() => void socket.destroy())
  }
  return [near, far]
}

test('a side that says nothing is given up', async () => {
  const [near] = await pair()
  await expect(new FrameStream(near, 50).receive()).rejects.toMatchObject({
    message: 'the connection was cut',
    details: { found: 'the other side says nothing for 0.05 s' },
  })
})

test('a side that takes nothing is given up', async () => {
  const [near] = await pair()
  const stream = new FrameStream(near, 50)
  const frame = new Uint8Array(4 << 20)
  const sendAll = async () => {
    for (;;) await stream.send(FRAME.pages, frame)
  }
  await expect(sendAll()).rejects.toMatchObject({
    details: { found: 'the other side takes nothing for 0.05 s' },
  })
})

const ids = ['11111111-1111-1111-1111-111111111111', '22222222-2222-2222-2222-222222222222'] as const

/** A target whose guests are nothing, and a source's connection to it that has said hello. */
function target() {
  const store = path.join(temporaryFolder(), 'store')
  const receiver = new Receiver(store, async () => ({ release: async () => {} }), 50)
  onTestFinished(() => receiver.close())
  const hello = async (id: string) => {
    const [near, far] = await pair()
    const served = receiver.serve(new FrameStream(far))
    served.catch(() => {})
    const stream = new FrameStream(near)
    await stream.sendJson(FRAME.hello, { protocol: PROTOCOL, id, totalSize: 4096 })
    return { stream, served }
  }
  return { store, hello }
}

test('a source that comes again is heard, though its first connection still seems to stand', async () => {
  const { hello } = target()
  const first = await hello(ids[0])
  await first.stream.expect(FRAME.ready)
  const second = await hello(ids[0])
  expect(parseJson((await second.stream.expect(FRAME.ready)).payload)).toMatchObject({ standing: 'partial' })
  await expect(first.served).rejects.toThrow('the connection was cut')
})

test('another source is told that the target is busy, and the first one is not disturbed', async () => {
  const { hello } = target()
  const first = await hello(ids[0])
  await first.stream.expect(FRAME.ready)
  const other = await hello(ids[1])
  await expect(other.stream.expect(FRAME.ready)).rejects.toThrow('busy with another machine')
  await first.stream.send(FRAME.abort)
  expect(await first.served).toBe(undefined)
})

test('a target that runs a machine takes no other, which would never run', async () => {
  const { store, hello } = target()
  fs.writeFileSync(path.join(store, `${ids[0]}.vm`), '')
  const first = await hello(ids[0])
  await first.stream.expect(FRAME.ready)
  await first.stream.expect(FRAME.verified)
  await first.stream.send(FRAME.commit)
  await first.stream.expect(FRAME.running)
  expect(await first.served).toMatchObject({ id: ids[0] })
  const other = await hello(ids[1])
  await expect(other.stream.expect(FRAME.ready)).rejects.toThrow('it runs another machine')
  const again = await hello(ids[0])
  expect(parseJson((await again.stream.expect(FRAME.ready)).payload)).toMatchObject({ standing: 'started' })
})

test('the wait for somebody who listens ends when it is to', async () => {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  const end = new AbortController()
  const attempt = connectPlain('127.0.0.1', port, { signal: end.signal, onRetry: () => end.abort() })
  await expect(attempt).rejects.toThrow('cannot connect')
})

test('the wait for one who listens and says nothing ends when it is to', async () => {
  const server = net.createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const end = new AbortController()
  const attempt = connect(Buffer.alloc(32), '127.0.0.1', port, { signal: end.signal })
  attempt.catch(() => {})
  const [socket] = (await once(server, 'connection')) as [net.Socket]
  onTestFinished(() => void socket.destroy())
  await once(socket, 'data') // it has begun the handshake
  end.abort()
  await expect(attempt).rejects.toThrow('interrupted')
})

test.for([
  ['without a word', 'process.exit(0)', 'the thread of the guest has ended'],
  ['with an error', 'throw new Error("no memory")', 'no memory'],
])('a thread that ends %s is not waited for', async ([, code, message]) => {
  await expect(nextReply(new Worker(code!, { eval: true }))).rejects.toThrow(message)
})
