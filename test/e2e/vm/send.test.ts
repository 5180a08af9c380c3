import crypto from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { expect, test } from 'vitest'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { guest, needGuests, ticks } from './guests.js'
import { folderWithKey, serve, start } from './running.js'

type Direction = 'to the target' | 'to the source'

/** Passes bytes on, counts them, and cuts the first connection for both sides after so many bytes of one direction. */
async function cuttingProxy(port: number, direction?: Direction, limit = Number.POSITIVE_INFINITY) {
  const passed = { 'to the target': 0, 'to the source': 0 }
  let isCut = false
  const server = net.createServer(source => {
    const target = net.connect(port, '127.0.0.1')
    const cut = () => {
      source.destroy()
      target.destroy()
    }
    const pass = (from: net.Socket, to: net.Socket, way: Direction) =>
      from.on('data', chunk => {
        const left = limit - passed[way]
        passed[way] += chunk.length
        if (isCut || way !== direction || chunk.length < left) return void to.write(chunk)
        isCut = true // the next connection is whole
        to.write(chunk.subarray(0, left), cut)
      })
    pass(source, target, 'to the target')
    pass(target, source, 'to the source')
    for (const socket of [source, target]) {
      socket.on('error', cut)
      socket.on('close', cut)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { server, passed, port: (server.address() as net.AddressInfo).port }
}

test('the flow of the ScratchVM through the network: the guest goes on at the server', async ({ skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const server = await serve(cwd, '--trace')
  const words = ['--trace', '--key', 'key', '--run', guest('caramba'), `127.0.0.1:${server.port}`]
  const sent = imago(['vm', 'send', ...words], { cwd })
  expect(sent.code).toBe(0)
  expect(sent.stderr).toMatch(/SAVE requested\n===== VM Image Info: ======\n/)
  expect(sent.stderr).toMatch(/Connected to VMM in 127\.0\.0\.1:\d+\nSent \d+ bytes\nTook .*B\/s\n$/)
  expect(await server.ended).toBe(0)
  expect(server.output()).toMatch(/Received \d+ bytes\nTook .*B\/s\n===== VM Image Info: ======\n/)
  expect(server.output()).toContain('VM_APP - CLOSE 3 - return 0\nVM_APP - EXIT 0\n')
  expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
  // What stays behind cannot be mistaken for a machine that still waits to go on.
  expect(fs.existsSync(path.join(cwd, 'caramba.vm'))).toBe(false)
})

test('a server without our key gets nothing, and the guest goes on here', async ({ skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const server = await serve(cwd)
  fs.writeFileSync(path.join(cwd, 'other'), crypto.randomBytes(32).toString('hex'), { mode: 0o600 })
  const words = ['-q', '--key', 'other', '--run', guest('caramba'), `127.0.0.1:${server.port}`]
  const sent = imago(['vm', 'send', ...words], { cwd })
  server.child.kill()
  await server.ended
  expect(sent.stderr).toContain('does not accept our key')
  expect(sent.code).toBe(0)
  expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
})

test.for([
  ['as they are', []],
  ['compressed', ['--compress']],
] as const)('a running guest is sent live, its pages %s, and ends at the server with the output it has natively', async ([
  ,
  compress,
], { skip }) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const program = guest('sort')
  const count = '3000000'
  const server = await serve(cwd)
  const words = [
    '--key',
    'key',
    '--run',
    program,
    '--live',
    '--after',
    '300ms',
    ...compress,
    `127.0.0.1:${server.port}`,
    count,
  ]
  const sent = imago(['vm', 'send', ...words], { cwd })
  expect(sent.code).toBe(0)
  expect(sent.stderr).toMatch(/round 1: \d+ pages .*; \d+ pages dirtied meanwhile, .*B\/s\n/)
  expect(sent.stderr).toMatch(/downtime /)
  expect(await server.ended).toBe(0)
  const there = server.output().split(`${'='.repeat(26)}\n`)[1]!
  expect(sent.stdout + there).toBe(spawnSync(program, [count], { encoding: 'utf8' }).stdout)
})

/** A saved guest is sent through a proxy that cuts, and must run once, or be whole where it was. Returns what the proxy passed. */
async function sendThroughCut(direction?: Direction, limit?: number) {
  const cwd = folderWithKey()
  expect(imago(['vm', 'run', '-q', '-o', 'c.vm', guest('caramba')], { cwd }).code).toBe(0)
  const server = await serve(cwd)
  const proxy = await cuttingProxy(server.port, direction, limit)
  const sent = start(cwd, 'vm', 'send', '--key', 'key', 'c.vm', `127.0.0.1:${proxy.port}`)
  // Where the last answer was cut, the guest may have ended there before its source could ask again.
  void server.ended.then(async code => {
    if (code === 0) await sent.said('asking the target whether it runs').catch(() => {})
    sent.child.kill()
  })
  const code = await sent.ended
  const ran = code === 0 || server.child.exitCode === 0
  if (!ran) server.child.kill()
  const transcript = `cut ${direction} after ${limit}\n${sent.output()}\n--- server:\n${server.output()}`
  expect(await server.ended, transcript).toBe(ran ? 0 : 130)
  const text = fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')
  expect(text, transcript).toBe(ran ? 'Hello World !!!\nBye Bye !!!\n' : 'Hello World !!!\n')
  expect(fs.existsSync(path.join(cwd, 'c.vm')), transcript).toBe(!ran)
  if (!ran) expect(imago(['verify', 'c.vm'], { cwd }).code, transcript).toBe(0)
  proxy.server.close()
  return proxy.passed
}

test('after a cut at any byte of the conversation, either way, the machine runs exactly once', async ({
  skip,
}) => {
  needGuests(skip)
  const whole = await sendThroughCut()
  for (let round = 0; round < rounds(500, 8); round++) {
    const direction = round % 2 === 0 ? 'to the target' : 'to the source'
    await sendThroughCut(direction, 1 + Math.floor(Math.random() * whole[direction]))
  }
})

test('after a kill of either side at any moment the machine has run once, or is a whole image', async ({
  skip,
}) => {
  needGuests(skip)
  const program = guest('caramba')
  for (let round = 0; round < rounds(200, 6); round++) {
    const cwd = folderWithKey()
    expect(imago(['vm', 'run', '-q', '-o', 'c.vm', program], { cwd }).code).toBe(0)
    const server = await serve(cwd)
    const words = ['vm', 'send', '--retries', '0', '--key', 'key']
    const sent = start(cwd, ...words, 'c.vm', `127.0.0.1:${server.port}`)
    const victim = round % 2 === 0 ? sent : server
    await new Promise(resolve => setTimeout(resolve, 60 + Math.random() * 300))
    victim.child.kill('SIGKILL')
    if (victim === server) sent.child.kill('SIGTERM')
    await sent.ended
    if (
      victim === sent &&
      !fs.readdirSync(path.join(cwd, '.imago-store')).some(name => name.endsWith('.started'))
    )
      server.child.kill()
    await server.ended
    const text = fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')
    const images = ['c.vm', 'c.vm.sent'].map(name => path.join(cwd, name)).filter(name => fs.existsSync(name))
    const transcript = `${sent.output()}\n--- server:\n${server.output()}\n${text}`
    expect(images.length, transcript).toBe(1)
    expect(imago(['verify', images[0]!]).code, transcript).toBe(0)
    // Run twice, the second line would be there twice.
    expect(text, transcript).toMatch(/^Hello World !!!\n(Bye Bye !!!\n)?$/)
  }
})

test('a server that is told to stop while its guest runs ends, and the image that came stays', async ({
  skip,
}) => {
  needGuests(skip)
  const cwd = folderWithKey()
  const server = await serve(cwd)
  const words = ['vm', 'send', '-q', '--key', 'key', '--live', '--run', guest('ticks')]
  expect(imago([...words, `127.0.0.1:${server.port}`, '1000'], { cwd }).code).toBe(0)
  while (!server.output().includes('tick ')) await new Promise(resolve => setTimeout(resolve, 5))
  server.child.kill()
  expect(await server.ended).toBe(130)
  const store = path.join(cwd, '.imago-store')
  const images = fs.readdirSync(store).filter(name => name.endsWith('.vm'))
  expect(imago(['verify', ...images], { cwd: store })).toMatchObject({ code: 0 })
})

/** True when a guest counted on from somewhere to the end without a gap; other lines may lie between. */
function lastTicks(output: string, count: number): boolean {
  const said = output.match(/^tick \d+\n/gm) ?? []
  return said.length > 0 && said.join('') === ticks(count - said.length, count)
}

test('after a kill of either side in a live send there is one guest that ends as it should', async ({
  skip,
}) => {
  needGuests(skip)
  const program = guest('ticks')
  const count = 30
  for (let round = 0; round < rounds(100, 6); round++) {
    const cwd = folderWithKey()
    const at = (name: string) => path.join(cwd, name)
    const server = await serve(cwd)
    const to = `127.0.0.1:${server.port}`
    const words = ['vm', 'send', '--retries', '0', '--key', 'key', '-o', 'c.vm', '--run', program, '--live']
    const sent = start(cwd, ...words, to, String(count))
    const transcript = () => `${sent.output()}\n--- server:\n${server.output()}`
    while (!sent.output().includes('tick ')) await new Promise(resolve => setTimeout(resolve, 5))
    await new Promise(resolve => setTimeout(resolve, Math.random() * 400))
    const victim = round % 2 === 0 ? sent : server
    victim.child.kill('SIGKILL')
    await victim.ended
    const started = () => fs.readdirSync(at('.imago-store')).find(name => name.endsWith('.started'))
    if (victim === sent) {
      if (fs.existsSync(at('c.vm'))) {
        expect(imago(['verify', 'c.vm'], { cwd }).code, transcript()).toBe(0)
        const again = imago(['vm', 'send', '--key', 'key', 'c.vm', to], { cwd })
        expect(again.code, `${again.stderr}\n${transcript()}`).toBe(0)
      } else if (fs.existsSync(at('c.vm.sent')) && fs.existsSync(at('c.vm.sending'))) {
        const again = imago(['vm', 'send', '--key', 'key', 'c.vm', to], { cwd })
        expect(again.code, `${again.stderr}\n${transcript()}`).toBe(0)
      } else if (started() === undefined) {
        // Killed before anything was sent: that guest is gone, as with `vm run`.
        expect(transcript()).not.toContain('kept safe')
        server.child.kill()
        await server.ended
        continue
      }
      expect(await server.ended, transcript()).toBe(5)
      expect(lastTicks(server.output(), count), transcript()).toBe(true)
    } else {
      const code = await sent.ended
      if (started() === undefined && code !== 6) {
        expect(code, transcript()).toBe(5)
        expect(lastTicks(sent.output(), count), transcript()).toBe(true)
        expect(fs.existsSync(at('c.vm')), transcript()).toBe(false)
        continue
      }
      // Given away: whoever is asked at the target knows, and the image there goes on.
      const next = await serve(cwd)
      const again = start(cwd, 'vm', 'send', '--key', 'key', 'c.vm', `127.0.0.1:${next.port}`)
      const id = started()?.replace('.started', '')
      if (code === 6) expect(await again.ended, `${again.output()}\n${transcript()}`).toBe(0)
      else again.child.kill()
      if (id === undefined) expect(await next.ended, next.output()).toBe(5)
      else {
        next.child.kill()
        await next.ended
        const restored = imago(['vm', 'restore', '-q', at(`.imago-store/${id}.vm`)], { cwd })
        expect(restored.code, `${restored.stderr}\n${transcript()}`).toBe(5)
        expect(lastTicks(restored.stdout, count)).toBe(true)
      }
    }
    expect(fs.existsSync(at('c.vm')), transcript()).toBe(false)
    expect(fs.existsSync(at('c.vm.sending')), transcript()).toBe(false)
  }
})
