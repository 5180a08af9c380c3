import { type ChildProcess, spawn } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { guest, missingForGuests } from './guests.js'

interface Running {
  readonly child: ChildProcess
  output(): string
  readonly ended: Promise<number | null>
}

function start(words: readonly string[], cwd: string): Running {
  const child = spawn(path.join(packageRoot, 'imago'), words, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk))
  const ended = new Promise<number | null>(resolve => child.on('close', code => resolve(code)))
  return { child, output: () => text, ended }
}

/** A server on a port of the system's choice. */
async function serve(cwd: string, ...words: string[]): Promise<Running & { port: number }> {
  const key = path.join(cwd, 'key')
  if (!fs.existsSync(key)) fs.writeFileSync(key, crypto.randomBytes(32).toString('hex'), { mode: 0o600 })
  const running = start(['vm', 'serve', '--port', '0', '--key', key, ...words], cwd)
  while (!/on port (\d+)/.test(running.output())) {
    await new Promise(resolve => setTimeout(resolve, 10))
    if (running.child.exitCode !== null) throw new Error(running.output())
  }
  return { ...running, port: Number(/on port (\d+)/.exec(running.output())![1]) }
}

/** Passes bytes on and cuts both sides after `limit` bytes of the source's. */
async function cuttingProxy(port: number, limit: number): Promise<{ server: net.Server; port: number }> {
  let left = limit
  const server = net.createServer(source => {
    const target = net.connect(port, '127.0.0.1')
    const cut = () => {
      source.destroy()
      target.destroy()
    }
    source.on('data', chunk => {
      if (chunk.length >= left) {
        target.write(chunk.subarray(0, left), cut)
        left = Number.POSITIVE_INFINITY // the next connection is whole
        return
      }
      left -= chunk.length
      target.write(chunk)
    })
    target.on('data', chunk => source.write(chunk))
    for (const socket of [source, target]) {
      socket.on('error', cut)
      socket.on('close', cut)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { server, port: (server.address() as net.AddressInfo).port }
}

test('the flow of the ScratchVM through the network: the guest goes on at the server', async ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const cwd = temporaryFolder()
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
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const cwd = temporaryFolder()
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
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const cwd = temporaryFolder()
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

test('after a cut at any byte the machine runs exactly once', async ({ skip }) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('caramba')
  for (let round = 0; round < rounds(500, 8); round++) {
    const cwd = temporaryFolder()
    expect(imago(['vm', 'run', '-q', '-o', 'c.vm', program], { cwd }).code).toBe(0)
    const server = await serve(cwd)
    // The whole conversation is some 82 kB; cuts beyond it do not happen.
    const proxy = await cuttingProxy(server.port, Math.floor(Math.random() * 84_000))
    const sent = start(['vm', 'send', '--key', 'key', 'c.vm', `127.0.0.1:${proxy.port}`], cwd)
    const code = await sent.ended
    const transcript = () => `${sent.output()}\n--- server:\n${server.output()}`
    if (code === 0) {
      expect(await server.ended, transcript()).toBe(0)
      expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8')).toBe('Hello World !!!\nBye Bye !!!\n')
      expect(fs.existsSync(path.join(cwd, 'c.vm'))).toBe(false)
    } else {
      server.child.kill()
      await server.ended
      // It did not run there, and the image is whole here.
      expect(fs.readFileSync(path.join(cwd, 'ay_caramba.txt'), 'utf8'), transcript()).toBe(
        'Hello World !!!\n',
      )
      expect(imago(['verify', 'c.vm'], { cwd }).code, transcript()).toBe(0)
    }
    proxy.server.close()
  }
})

test('after a kill of either side at any moment the machine has run once, or is a whole image', async ({
  skip,
}) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('caramba')
  for (let round = 0; round < rounds(200, 6); round++) {
    const cwd = temporaryFolder()
    expect(imago(['vm', 'run', '-q', '-o', 'c.vm', program], { cwd }).code).toBe(0)
    const server = await serve(cwd)
    const sent = start(
      ['vm', 'send', '--retries', '0', '--key', 'key', 'c.vm', `127.0.0.1:${server.port}`],
      cwd,
    )
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

const ticks = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `tick ${from + i}\n`).join('')

test('a server that is told to stop while its guest runs ends, and the image that came stays', async ({
  skip,
}) => {
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const cwd = temporaryFolder()
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
  const missing = missingForGuests()
  skip(missing !== undefined, missing)
  const program = guest('ticks')
  const count = 30
  for (let round = 0; round < rounds(100, 6); round++) {
    const cwd = temporaryFolder()
    const at = (name: string) => path.join(cwd, name)
    const server = await serve(cwd)
    const to = `127.0.0.1:${server.port}`
    const words = ['vm', 'send', '--retries', '0', '--key', 'key', '-o', 'c.vm', '--run', program, '--live']
    const sent = start([...words, to, String(count)], cwd)
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
      const again = start(['vm', 'send', '--key', 'key', 'c.vm', `127.0.0.1:${next.port}`], cwd)
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
