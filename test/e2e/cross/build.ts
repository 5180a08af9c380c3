/** Workloads compiled for both ISAs, once a source and a compiler. */
import { copyFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'vitest'
import { liveProcess } from '../../../src/engines/live-process.js'
import { engine } from '../../../src/engines/preload/engine.js'
import { findPart } from '../../../src/lib/parts.js'
import { spawnSync } from '../../helpers/bounded.js'
import { imago } from '../../helpers/imago.js'
import { sharedFolder, temporaryFolder } from '../../helpers/temporary-folder.js'
import { travellingWords, type Workload } from './workloads.js'

export function missingCompiler(): string | undefined {
  for (const part of ['clang19', 'musl'])
    if (findPart(part) === undefined) return `part ${part} is not in the cache: npm run setup -- ${part}`
  return undefined
}

const built = new Map<string, string>()

/** Puts NAME_x86-64, NAME_aarch64 and NAME.imago.json into `folder`. */
export function build(workload: Workload, folder: string): void {
  let place = built.get(workload.name)
  if (place === undefined) {
    place = sharedFolder()
    const result = imago(['cc', '-O2', workload.source, '-o', path.join(place, workload.name), '-lm'])
    if (result.code !== 0) throw new Error(`imago cc ${workload.name}: ${result.stderr}`)
    built.set(workload.name, place)
  }
  for (const suffix of ['_x86-64', '_aarch64', '.imago.json'])
    copyFileSync(path.join(place, workload.name + suffix), path.join(folder, workload.name + suffix))
}

/** Whether it can be asked for a checkpoint: one that has only just been started cannot. */
export function canBeAsked(pid: number): boolean {
  return engine.canFreeze(pid) && ((liveProcess(pid)?.caught ?? 0n) & (1n << 11n)) !== 0n // SIGUSR2
}

interface Home {
  readonly output: string
  /** From its start to its end, in milliseconds. */
  readonly duration: number
}
const homes = new Map<string, Home>()

/** A travelling run that does not move. */
function atHome(workload: Workload, times: number): Home {
  const key = `${workload.name} ${times}`
  let home = homes.get(key)
  if (home === undefined) {
    const folder = temporaryFolder()
    build(workload, folder)
    const words = travellingWords(workload, folder, times)
    const begun = performance.now()
    const { stdout } = spawnSync(path.join(folder, `${workload.name}_x86-64`), words, {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    })
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(workload.verdict)
    home = { output: stdout, duration: performance.now() - begun }
    homes.set(key, home)
  }
  return home
}

/** What a travelling run prints when it does not move. */
export const athome = (workload: Workload, times = 1): string => atHome(workload, times).output

/**
 * How long a program stays before each of its moves, in milliseconds: at random, so that all of them together take most of its run.
 * `slower`: how many times as long as at home it takes where it stays.
 */
export function randomStay(workload: Workload, moves: number, slower: number): number {
  return ((Math.random() * atHome(workload, 1).duration * 0.8) / moves) * slower
}

/** By workload and number of moves: the length of a run that was enough the last time. */
const enough = new Map<string, number>()

/**
 * Travels with so many moves, and prints what it prints at home. On a busy host a program may end before its last move: then a longer
 * run of it does not; the first is `least` times as long as it travels otherwise.
 */
export async function movesEachTime(
  workload: Workload,
  expected: number,
  travel: (times: number) => Promise<{ output: string; moves: number }>,
  least = 1,
): Promise<void> {
  const key = `${workload.name} ${expected}`
  for (let times = enough.get(key) ?? least; ; times *= 2) {
    const { output, moves } = await travel(times)
    expect(output === athome(workload, times), `the output of a run with ${moves} moves`).toBe(true)
    if (moves === expected) {
      enough.set(key, times)
      return
    }
    expect(times, `${moves} of ${expected} moves`).toBeLessThan(64)
  }
}
