import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { engine } from '../../../src/engines/criu/engine.js'
import { liveProcess } from '../../../src/engines/live-process.js'
import { readImage } from '../../../src/formats/registry.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { missingCriu } from '../../helpers/criu-program.js'
import { imago } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const missing = missingCriu()

/** Counts in a file; holds 4 MiB whose sum it knows; ends with exit code 7 when `stop` appears. */
const program = `
import os, sys, time
folder = sys.argv[1]
block = bytearray(i % 251 for i in range(4 << 20))
total = sum(block)
count = 0
log = open(folder + '/log', 'w', buffering=1)
while not os.path.exists(folder + '/stop'):
    print(count, file=log); count += 1; time.sleep(0.01)
print('sum', sum(block) == total, file=log)
os._exit(7)
`

function startCounter(folder: string): ChildProcess {
  const child = spawn('python3', ['-c', program, folder], { cwd: '/', stdio: 'ignore', detached: true })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

const lines = (folder: string) =>
  fs.existsSync(path.join(folder, 'log'))
    ? fs.readFileSync(path.join(folder, 'log'), 'utf8').trim().split('\n')
    : []

async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !condition(); await new Promise(go => setTimeout(go, 10)))
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`)
}

/** `imago checkpoint --stop` in a process of its own: its exit code, its image, and where it and criu work. */
function startCheckpoint(source: ChildProcess, folder: string) {
  const work = path.join(folder, "work's")
  fs.mkdirSync(work)
  const image = path.join(folder, 'image')
  const words = ['checkpoint', String(source.pid), '--engine', 'criu', '-o', image, '--stop']
  const asked = spawn(path.join(packageRoot, 'imago'), words, {
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: work },
  })
  const ended = new Promise<number | null>(resolve => asked.once('close', resolve))
  return { asked, ended, image, work }
}

/** Whether a file whose name matches is anywhere in `folder`, now. */
function found(folder: string, name: RegExp): boolean {
  try {
    return fs.readdirSync(folder, { recursive: true }).some(file => name.test(path.basename(String(file))))
  } catch {
    return false // a folder went between two looks
  }
}

const counted = (folder: string, more = 3) => {
  const before = lines(folder).length
  return until(() => lines(folder).length >= before + more, 'the program counts')
}

describe('engine criu', () => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing))

  test('a program goes on where it was, to its own exit code, with no line lost or doubled', async () => {
    const folder = temporaryFolder()
    const source = startCounter(folder)
    await counted(folder)
    const done = await engine.checkpoint(source.pid!, { output: path.join(folder, 'image'), stop: true })
    expect(liveProcess(source.pid!)?.state ?? 'Z').toBe('Z')
    expect(done.pauseMs).toBeGreaterThan(0)
    expect(done.bytes).toBeGreaterThan(4 << 20)
    const restored = await engine.restore(done.path, { detach: false })
    onTestFinished(() => {
      try {
        process.kill(restored.pid, 'SIGKILL')
      } catch {}
    })
    expect(restored.pid).toBe(source.pid)
    await counted(folder)
    fs.writeFileSync(path.join(folder, 'stop'), '')
    expect(await restored.wait()).toBe(7)
    const all = lines(folder)
    expect(all.pop()).toBe('sum True')
    expect(all).toEqual(all.map((_, i) => String(i)))
  })

  test('without stop the program is left running, and its image can be read', async () => {
    const folder = temporaryFolder()
    const source = startCounter(folder)
    await counted(folder)
    const { path: image } = await engine.checkpoint(source.pid!, {
      output: path.join(folder, 'image'),
      stop: false,
    })
    await counted(folder)
    const read = await readImage(image)
    expect(read.format.name).toBe('criu')
    expect(read.kind === 'process' && read.image.processes[0]?.pid).toBe(source.pid)
  })

  test('a checkpoint that cannot be written leaves the program running and no half image', async () => {
    const folder = temporaryFolder()
    const source = startCounter(folder)
    await counted(folder)
    const output = path.join(folder, 'image')
    fs.writeFileSync(output, 'not a folder, but mine')
    fs.chmodSync(output, 0o444)
    await expect(
      engine.checkpoint(source.pid!, { output: path.join(output, 'below'), stop: true }),
    ).rejects.toThrow()
    await counted(folder)
    expect(fs.readFileSync(output, 'utf8')).toBe('not a folder, but mine')
    expect(fs.readdirSync(folder).filter(name => name.endsWith('.tmp'))).toEqual([])
  })

  test('a program that cannot be dumped goes on, and the reason is one sentence with the cure', async ({
    skip,
  }) => {
    const folder = temporaryFolder()
    const ring = `
import ctypes
ring = ctypes.CDLL(None).syscall(425, 8, (ctypes.c_char * 256)())
open(sys.argv[1] + '/ring', 'w').write(str(ring))
`
    const source = spawn('python3', ['-c', program.replace('folder =', `${ring}\nfolder =`), folder], {
      cwd: '/',
      stdio: 'ignore',
      detached: true,
    })
    onTestFinished(() => void source.kill('SIGKILL'))
    await counted(folder)
    skip(Number(fs.readFileSync(path.join(folder, 'ring'), 'utf8')) < 0, 'this kernel gives no io_uring')
    const output = path.join(folder, 'image')
    await expect(engine.checkpoint(source.pid!, { output, stop: true })).rejects.toMatchObject({
      message: expect.stringContaining('io_uring'),
      details: { hint: expect.stringContaining('UV_USE_IO_URING=0') },
    })
    await counted(folder)
    expect(fs.readdirSync(folder).sort()).toEqual(['log', 'ring'])
  })

  test('a restore while the source lives says whose the process id is', async () => {
    const folder = temporaryFolder()
    const source = startCounter(folder)
    await counted(folder)
    const { path: image } = await engine.checkpoint(source.pid!, {
      output: path.join(folder, 'image'),
      stop: false,
    })
    await expect(engine.restore(image, { detach: true })).rejects.toThrow(`process id ${source.pid} is taken`)
    await counted(folder)
  })

  test('a file that changed its size is named, with both sizes', async () => {
    const folder = temporaryFolder()
    const copy = path.join(folder, 'prog')
    fs.copyFileSync('/bin/sleep', copy)
    fs.chmodSync(copy, 0o755)
    const source = spawn(copy, ['1000'], { cwd: '/', stdio: 'ignore', detached: true })
    await until(() => liveProcess(source.pid!)?.name === 'prog', 'the program is started')
    const { path: image } = await engine.checkpoint(source.pid!, {
      output: path.join(folder, 'image'),
      stop: true,
    })
    const size = fs.statSync(copy).size
    fs.appendFileSync(copy, 'x')
    await expect(engine.restore(image, { detach: true })).rejects.toThrow(
      `${copy} has ${size + 1} bytes now, and had ${size} at the checkpoint`,
    )
  })

  test('a program is found by its name', async () => {
    const folder = temporaryFolder()
    const name = `counter${process.pid}`
    fs.symlinkSync('/usr/bin/python3', path.join(folder, name))
    const source = spawn(path.join(folder, name), ['-c', program, folder], {
      cwd: '/',
      stdio: 'ignore',
      detached: true,
    })
    onTestFinished(() => void source.kill('SIGKILL'))
    await counted(folder)
    const image = path.join(folder, 'image')
    const done = imago(['checkpoint', name, '--engine', 'criu', '-o', image, '--json'])
    expect([done.stderr, done.code]).toEqual(['', 0])
    const read = await readImage(image)
    expect(read.kind === 'process' && read.image.processes[0]?.pid).toBe(source.pid)
  })

  test.for([
    ['at once', () => true],
    ['when the dump begins', (work: string) => fs.readdirSync(work).length > 0],
    ['when pages are written', (_: string, folder: string) => found(folder, /^pages-1.img$/)],
    ['when all is written', (work: string) => found(work, /^dumped$/)],
  ] as const)('Ctrl-C %s leaves the program running and no image, or a whole one', async ([, moment]) => {
    const folder = temporaryFolder()
    const source = startCounter(folder)
    await counted(folder)
    const { asked, ended, image, work } = startCheckpoint(source, folder)
    let ran = true
    void ended.then(() => {
      ran = false
    })
    await until(() => !ran || moment(work, folder), 'the moment')
    asked.kill('SIGINT')
    const code = await ended
    if (fs.existsSync(image)) {
      expect(code).toBe(0) // it came too late
      expect(liveProcess(source.pid!)?.state ?? 'Z').toBe('Z')
      const read = await readImage(image)
      return expect(read.kind === 'process' && read.image.processes[0]?.pid).toBe(source.pid)
    }
    expect(code === 130 || code === null, `exit code ${code}`).toBe(true) // null: before it listened
    expect(fs.readdirSync(folder).sort()).toEqual(['log', "work's"])
    await counted(folder)
  })

  /** Two processes that count together over a TCP connection; the first one's exit code is 7. */
  function startTalk(folder: string): ChildProcess {
    const talk = `
import os, socket, sys, time
folder = sys.argv[1]
server = socket.create_server(('127.0.0.1', 0))
if os.fork() == 0:
    peer = socket.create_connection(server.getsockname()); server.close()
    while word := peer.recv(64): peer.sendall(b'%d' % (int(word) + 1))
    os._exit(0)
peer, _ = server.accept(); server.close()
log = open(folder + '/log', 'w', buffering=1)
count = 0
while not os.path.exists(folder + '/stop'):
    print(count, file=log); peer.sendall(b'%d' % count); count = int(peer.recv(64)); time.sleep(0.01)
peer.close(); os.wait(); os._exit(7)
`
    const source = spawn('python3', ['-c', talk, folder], { cwd: '/', stdio: 'ignore', detached: true })
    onTestFinished(() => {
      try {
        process.kill(-source.pid!, 'SIGKILL')
      } catch {}
    })
    return source
  }

  test('two processes go on talking over their TCP connection', async () => {
    const folder = temporaryFolder()
    const source = startTalk(folder)
    await counted(folder)
    const { path: image } = await engine.checkpoint(source.pid!, {
      output: path.join(folder, 'image'),
      stop: true,
    })
    const restored = await engine.restore(image, { detach: false })
    await counted(folder)
    fs.writeFileSync(path.join(folder, 'stop'), '')
    expect(await restored.wait()).toBe(7)
    expect(lines(folder)).toEqual(lines(folder).map((_, i) => String(i)))
  })

  test('… and also when a checkpoint that was to stop them is interrupted', async () => {
    const folder = temporaryFolder()
    const source = startTalk(folder)
    await counted(folder)
    const { asked, ended, image, work } = startCheckpoint(source, folder)
    await until(() => fs.readdirSync(work).length > 0, 'the dump begins')
    asked.kill('SIGINT')
    expect(await ended).toBe(130)
    expect(fs.existsSync(image)).toBe(false)
    await counted(folder)
  })
})
