/**
 * Real programs are frozen at random moments, killed, woken up from their image, and must end with the output
 * of a run that was never stopped.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { packageRoot } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { canBeFrozen, imago } from '../../helpers/imago.js'
import { type RealProgram, realPrograms } from '../../helpers/programs.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const launcher = path.join(packageRoot, 'imago')

function prepare(program: RealProgram): string {
  const folder = temporaryFolder()
  for (const [name, content] of Object.entries(program.files ?? {}))
    fs.writeFileSync(path.join(folder, name), content)
  return folder
}

function start(program: RealProgram, folder: string, words: readonly string[]): ChildProcess {
  const out = fs.openSync(path.join(folder, 'out'), 'w')
  const child = spawn(words[0]!, [...words.slice(1), ...program.command], {
    cwd: folder,
    stdio: ['ignore', out, 'inherit'],
  })
  fs.closeSync(out)
  return child
}

const ended = (child: ChildProcess) =>
  new Promise<number | null>(resolve => child.once('exit', code => resolve(code)))

/** Output and duration (ms) of the program left alone. */
async function runNative(program: RealProgram): Promise<{ output: Buffer; milliseconds: number }> {
  const folder = prepare(program)
  const started = performance.now()
  const code = await ended(start(program, folder, ['env']))
  expect(code, `${program.name} by itself`).toBe(0)
  return { output: fs.readFileSync(path.join(folder, 'out')), milliseconds: performance.now() - started }
}

describe('a program frozen, killed and restarted at a random moment ends as if it had never stopped', () => {
  test.each(realPrograms().map(program => [program.name, program] as const))('%s', async (_, program) => {
    const native = await runNative(program)
    let frozen = 0
    let late = ''
    // The command itself takes some 200 ms to reach the program.
    let longest = Math.max(native.milliseconds - 300, 0)
    for (let round = 0; round < rounds(20, 6); round++) {
      const folder = prepare(program)
      const image = path.join(folder, 'image')
      const child = start(program, folder, [launcher, 'run', '--'])
      const exit = ended(child)
      await canBeFrozen(child.pid!)
      await sleep(Math.random() * longest)
      const taken = imago(['checkpoint', String(child.pid), '-o', image, '--stop'])
      if (taken.code !== 0) {
        // It was quicker than the checkpoint: then it must have ended well, or imago owes an explanation.
        expect(await exit, taken.stderr).toBe(0)
        late = taken.stderr
        longest /= 2 // the machine is not as busy as it was for the run by itself
        continue
      }
      frozen++
      await exit
      expect(imago(['verify', image]).stdout).toMatch(/sound/)
      // The image goes on from an open file: what was written before the freeze must still be there, once.
      const restored = imago(['restore', image], { cwd: '/', timeout: 120_000 })
      expect(restored.code, `round ${round}: ${restored.stderr}`).toBe(0)
      const output = fs.readFileSync(path.join(folder, 'out'))
      expect(
        output.equals(native.output),
        `round ${round}: output differs (${output.length} bytes, ${native.output.length} expected)`,
      ).toBe(true)
      fs.rmSync(folder, { recursive: true, force: true })
    }
    expect(frozen, `no round was frozen in time: ${late}`).toBeGreaterThan(0)
  })
})

test("the seed's flow: LD_PRELOAD, kill -12, kill -9, myrestart", async () => {
  const program: RealProgram = {
    name: 'four threads',
    command: realPrograms().find(each => each.name === 'four threads')!.command,
  }
  const native = await runNative(program)
  const folder = prepare(program)
  const library = imago(['path', 'libckpt.so']).stdout.trim()
  const child = start(program, folder, ['env', `LD_PRELOAD=${library}`])
  const exit = ended(child)
  await sleep(native.milliseconds / 2)
  spawnSync('kill', ['-12', String(child.pid)])
  for (let i = 0; i < 600 && !fs.existsSync(path.join(folder, 'myckpt')); i++) await sleep(10)
  spawnSync('kill', ['-9', String(child.pid)])
  expect(await exit).toBe(null)
  // The program went on for a moment after its checkpoint; the restored one writes from the image's offset on.
  const restart = imago(['path', 'myrestart']).stdout.trim()
  const restored = spawnSync(restart, ['myckpt'], { cwd: folder, encoding: 'utf8' })
  expect(restored.status, restored.stderr).toBe(0)
  expect(fs.readFileSync(path.join(folder, 'out')).equals(native.output)).toBe(true)
})
