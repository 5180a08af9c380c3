/**
 * Programs of imago cc freeze themselves (the checkpointer of libckpt.so, linked in), change their ISA as cores, and go on: natively on
 * this machine's ISA, under qemu-aarch64 on the other. Whatever the moments, they print what they print at home.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { engine } from '../../../src/engines/preload/engine.js'
import { nativePart } from '../../../src/engines/preload/native-parts.js'
import { findPart } from '../../../src/lib/parts.js'
import type { IsaName } from '../../../src/model/process.js'
import { retargetImage } from '../../../src/retarget/retarget-image.js'
import { rounds } from '../../helpers/rounds.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { build, canBeAsked, missingCompiler, movesEachTime, randomStay } from './build.js'
import { travellingWords, type Workload, workloads } from './workloads.js'

function missing(): string | undefined {
  if (process.arch !== 'x64') return 'this test goes from x86-64 to aarch64 under an emulator'
  for (const part of ['qemu-user', 'arm64-headers'])
    if (findPart(part) === undefined) return `part ${part} is not in the cache: npm run setup -- ${part}`
  try {
    nativePart('myrestart-aarch64')
  } catch (error) {
    return (error as Error).message
  }
  return missingCompiler()
}
const reason = missing()

const other: Readonly<Record<IsaName, IsaName>> = { 'x86-64': 'aarch64', aarch64: 'x86-64' }

interface Running {
  readonly pid: number
  /** Its exit code. */
  readonly ended: Promise<number>
}

function start(folder: string, workload: Workload, isa: IsaName, times: number): Running {
  const words = travellingWords(workload, folder, times)
  const program = path.join(folder, `${workload.name}_${isa}`)
  const emulator = path.join(findPart('qemu-user')!, 'usr/bin/qemu-aarch64-static')
  const out = fs.openSync(path.join(folder, 'out'), 'w')
  const [command, before] = isa === 'aarch64' ? [emulator, [program]] : [program, []]
  const child = spawn(command, [...before, ...words], { cwd: folder, stdio: ['ignore', out, out] })
  fs.closeSync(out)
  return { pid: child.pid!, ended: endOf(child) }
}

function endOf(child: ChildProcess): Promise<number> {
  return new Promise(resolve => child.on('exit', code => resolve(code ?? -1)))
}

/**
 * Whether it has come as far as its checkpointer. An emulator catches all signals from its own beginning, and ends a program that has no handler yet;
 * that it has computed for a while tells that it has one.
 */
function isUnderWay(pid: number, isa: IsaName): boolean {
  return canBeAsked(pid) && (isa === 'x86-64' || processorTime(pid) >= WARM_UP)
}

/** What is emulated is slower, thrice at least. */
const SLOWER = 2

/** Some times what an emulator takes to begin. */
const WARM_UP = 10

/** Of the program and the kernel for it, in ticks of 10 ms. Source: proc_pid_stat(5). */
function processorTime(pid: number): number {
  try {
    const fields = fs
      .readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  } catch {
    return 0 // it has ended
  }
}

/** Runs it on `from` and moves it so many times, at random; returns what it printed and how often it moved. */
async function travel(
  workload: Workload,
  from: IsaName,
  wanted: number,
  times: number,
): Promise<{ output: string; moves: number }> {
  const folder = temporaryFolder()
  build(workload, folder)
  let isa = from
  let running = start(folder, workload, isa, times)
  onTestFinished(() => {
    try {
      process.kill(running.pid, 'SIGKILL')
    } catch {} // it has ended, as it should
  })
  let moves = 0
  let ended = false
  while (moves < wanted) {
    void running.ended.then(() => {
      ended = true
    })
    while (!ended && !isUnderWay(running.pid, isa)) await sleep(5) // it has only just been started
    await sleep(randomStay(workload, wanted, isa === 'aarch64' ? SLOWER : 1))
    const image = path.join(temporaryFolder(), 'image')
    try {
      await engine.checkpoint(running.pid, { output: image, stop: true })
    } catch (error) {
      // It may have come to its end before it came to a migration point.
      await Promise.race([running.ended, sleep(10_000)])
      if (ended) break
      throw error
    }
    await running.ended
    // A way with many hops goes on with one file.
    const moved = wanted > 2 ? image : `${image}.moved`
    isa = other[isa]
    await retargetImage({ source: image, target: moved === image ? undefined : moved, to: isa })
    if (moved !== image) fs.rmSync(image)
    const restored = await engine.restore(moved, { detach: true })
    running = { pid: restored.pid, ended: restored.wait() }
    ended = false
    moves++
  }
  expect(await running.ended).toBe(0)
  return { output: fs.readFileSync(path.join(folder, 'out'), 'utf8'), moves }
}

/** Emulation is slow: the ordinary run takes some of them. */
const all = process.env.IMAGO_FULL === '1' ? workloads.map(({ name }) => name) : undefined
const travellers = new Set(all ?? ['is', 'fib-tree', 'interpreter', 'threads', 'files'])
const hoppers = new Set(all ?? ['is', 'threads', 'files'])

const kinds = [
  ['goes to aarch64 and comes back', 'x86-64', 2, travellers],
  ['goes to x86-64 and back to aarch64', 'aarch64', 2, travellers],
  ['goes there and back, ten hops', 'x86-64', 10, hoppers],
] as const

describe('cores of programs that change their ISA', () => {
  for (const workload of workloads)
    for (const [kind, from, moves, which] of kinds)
      if (which.has(workload.name))
        test(`${workload.name} ${kind}, and prints the same`, async ({ skip }) => {
          skip(reason !== undefined, reason)
          for (let round = 0; round < rounds(20, 1); round++)
            await movesEachTime(workload, moves, times => travel(workload, from, moves, times))
        })
})
