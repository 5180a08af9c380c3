/** Must show: whatever is killed at whatever moment of a checkpoint, the image under its name is whole. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { verify } from '../../../src/formats/core/verify.js'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

/** Counts up for ever in `ticks`, with memory enough that writing it takes a while. */
const program = `
import os, sys, time
memory = bytearray(os.urandom(1 << 20)) * 48
n = int(open('ticks').read() or 0) if os.path.exists('ticks') else 0
while True:
    n += 1
    memory[(n * 4096) % len(memory)] = n % 251
    with open('ticks.new', 'w') as f: f.write(str(n))
    os.rename('ticks.new', 'ticks')
    time.sleep(0.0005)
`

function start(folder: string): ChildProcess {
  return spawn('python3', ['-S', '-c', program], {
    cwd: folder,
    stdio: 'ignore',
    env: { ...process.env, LD_PRELOAD: nativePart('libckpt.so') },
  })
}

const ticks = (folder: string) => {
  try {
    return Number(fs.readFileSync(path.join(folder, 'ticks'), 'utf8'))
  } catch {
    return 0
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (condition()) return
    await sleep(10)
  }
  throw new Error(`no ${what}`)
}

/** The image is sealed, its checksums fit, and the program in it runs on. */
async function expectWhole(image: string, folder: string, restart: boolean): Promise<void> {
  expect(await verify(image)).toEqual([])
  if (!restart) return
  const before = ticks(folder)
  const child = spawn(nativePart('myrestart'), ['--pid', 'new', image], { stdio: 'ignore' })
  try {
    await until(() => ticks(folder) !== before, 'sign of life of the restored program')
  } finally {
    child.kill('SIGKILL')
    await new Promise(resolve => child.on('exit', resolve))
  }
}

test('imago or the program killed at random moments of a checkpoint: the previous image stays whole', async ({
  skip,
}) => {
  skip(spawnSync('python3', ['-V']).status !== 0, 'python3 is not installed')
  const folder = temporaryFolder()
  const image = path.join(folder, 'image')
  const imago = (...words: string[]) =>
    spawn(path.join(packageRoot, 'imago'), words, { stdio: 'ignore', cwd: folder, env: process.env })
  let child = start(folder)
  onTestFinished(() => void child.kill('SIGKILL'))
  await until(() => ticks(folder) > 0, 'first tick')
  const begun = performance.now()
  const first = imago('checkpoint', String(child.pid), '-o', image)
  expect(await new Promise(resolve => first.on('exit', resolve))).toBe(0)
  const usual = performance.now() - begun
  await expectWhole(image, folder, true)

  const count = rounds(200, 24)
  let replaced = 0
  for (let round = 0; round < count; round++) {
    const stamp = fs.statSync(image).ino
    const checkpoint = imago('checkpoint', String(child.pid), '-o', image)
    const ended = new Promise(resolve => checkpoint.on('exit', resolve))
    await sleep(usual * (0.2 + Math.random())) // Node starts, the program freezes, the image is written, synced, verified
    const victim = round % 2 === 0 ? checkpoint : child
    victim.kill('SIGKILL')
    await ended
    if (victim === child) {
      child = start(folder)
      const now = ticks(folder)
      await until(() => ticks(folder) !== now, 'tick')
    }
    if (fs.statSync(image).ino !== stamp) replaced++
    await expectWhole(image, folder, round % 10 === 0)
  }
  // Some rounds must have come before, and some after the image was put in its place, or nothing was tried.
  console.log(`${count} rounds, ${replaced} of them had replaced the image`)
  expect(replaced).toBeGreaterThan(0)
  await expectWhole(image, folder, true)
})

test('the writer itself killed at random moments: no half image under the name, the program goes on', async ({
  skip,
}) => {
  skip(spawnSync('python3', ['-V']).status !== 0, 'python3 is not installed')
  const folder = temporaryFolder()
  const image = path.join(folder, 'myckpt')
  const child = start(folder)
  onTestFinished(() => void child.kill('SIGKILL'))
  await until(() => ticks(folder) > 0, 'first tick')
  let killed = 0
  for (let round = 0; round < rounds(60, 8); round++) {
    child.kill('SIGUSR2')
    const limit = performance.now() + Math.random() * 120
    let writer: number | undefined
    while (performance.now() < limit || writer === undefined) {
      writer = fs
        .readdirSync(folder)
        .map(name => Number(/^\.myckpt\.(\d+)\.tmp$/.exec(name)?.[1]))
        .find(Number.isInteger)
      if (writer === undefined && performance.now() > limit) break
      await sleep(1)
    }
    if (writer !== undefined) {
      try {
        process.kill(writer, 'SIGKILL')
        killed++
      } catch {
        // It had just ended.
      }
    }
    const now = ticks(folder)
    await until(() => ticks(folder) !== now, 'tick after the writer was killed')
    await until(() => writer === undefined || !fs.existsSync(`/proc/${writer}`), 'end of the writer')
    if (fs.existsSync(image)) await expectWhole(image, folder, false)
    for (const name of fs.readdirSync(folder).filter(name => name.endsWith('.tmp'))) {
      const file = path.join(folder, name)
      const pid = /\.(\d+)\.tmp$/.exec(name)?.[1]
      await until(() => !fs.existsSync(`/proc/${pid}`), 'end of a writer that was not seen, and lives')
      if (!fs.existsSync(file)) continue // it has put it in its place
      // What is left under a temporary name is refused, unless it was whole when its writer died just before the rename.
      const whole = await verify(file).then(
        problems => problems.length === 0,
        () => false,
      )
      if (!whole)
        expect(spawnSync(nativePart('myrestart'), [file], { encoding: 'utf8' })).toMatchObject({
          status: 3,
          stderr: expect.stringContaining('myrestart: '),
        })
      fs.rmSync(file)
    }
  }
  expect(killed).toBeGreaterThan(0)
})
