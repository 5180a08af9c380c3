import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { engine } from '../../../src/engines/criu/engine.js'
import { checkProgram, findPrograms } from '../../../src/engines/criu/program.js'
import { liveProcess } from '../../../src/engines/live-process.js'
import { readImage } from '../../../src/formats/registry.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const missing = (() => {
  const [program] = findPrograms()
  if (program === undefined) return 'criu is not on this host (npm run setup -- criu-4.2)'
  return checkProgram(program).works ? undefined : `criu ${program.version} does not work on this kernel`
})()

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
})
