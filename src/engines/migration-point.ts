/**
 * Stopping a live program of `imago cc` where it can change its ISA, for an engine that freezes it from outside. The runtime does the
 * work (native/preload/program.c): with a file /tmp/imago-park-PID, SIGUSR2 makes every thread wait at its next migration point
 * and takes no checkpoint, and a word in memory counts those that wait. Read and written through /proc/PID/mem, at the addresses
 * of the symbols of /proc/PID/exe.
 */
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ElfFile } from '../lib/elf.js'
import { HostError, InterruptedError, UsageError } from '../lib/errors.js'
import { runtimeSymbols } from '../toolchain/program.js'
import { PATIENCE } from './engine.js'
import { liveProcess } from './live-process.js'

const SIGUSR2_BIT = 1n << 11n

export interface ParkedProgram {
  /** Lets it go on. */
  release(): void
}

interface Runtime {
  readonly request: bigint
  readonly parkedCount: bigint
  readonly threadCount: bigint
}

/**
 * Waits until all threads of `pid` stand at migration points. Undefined for a program that imago cc did not compile, and
 * nothing happens to it.
 * @throws HostError when they do not within `patience` milliseconds, InterruptedError; the program then goes on. UsageError when it ends.
 */
export async function parkAtMigrationPoint(
  pid: number,
  interrupted: () => boolean,
  patience = PATIENCE,
): Promise<ParkedProgram | undefined> {
  const runtime = runtimeOf(pid)
  if (runtime === undefined) return undefined
  const parked: ParkedProgram = { release: () => release(pid, runtime) }
  const end = performance.now() + patience
  // One that has only just been started would die of the signal.
  while (!takesSignal(pid)) {
    if (interrupted()) throw new InterruptedError('interrupted; the program goes on')
    if (performance.now() > end)
      throw new HostError(
        `process ${pid} has no handler for SIGUSR2, which would ask it to come to a migration point`,
      )
    await sleep(2)
  }
  askToPark(pid)
  for (; ; await sleep(2)) {
    const [request, waiting, threads] = [runtime.request, runtime.parkedCount, runtime.threadCount].map(
      address => readWord(pid, address),
    ) as [bigint, bigint, bigint]
    // A thread that ends counts itself out a moment before the kernel does.
    if (request !== 0n && waiting >= threads && threadsOf(pid) <= threads) return parked
    if (performance.now() < end && !interrupted()) continue
    parked.release()
    if (interrupted()) throw new InterruptedError('interrupted; the program goes on')
    throw new HostError(`process ${pid} did not come to a migration point`, {
      found: `${waiting} of ${threads} threads are at one`,
      hint: 'a thread that waits in a system call is at none (docs/cc.md); --patience 5m waits longer',
    })
  }
}

function takesSignal(pid: number): boolean {
  const found = liveProcess(pid)
  if (found === undefined || 'ZX'.includes(found.state)) throw hasEnded(pid)
  return (found.caught & SIGUSR2_BIT) !== 0n
}

function hasEnded(pid: number): UsageError {
  return new UsageError(`no process has the id ${pid} any more: it ended on the way to a migration point`)
}

/** Under /tmp as the program sees it, and by the pid that it sees itself. */
function askToPark(pid: number): void {
  try {
    const file = `/proc/${pid}/root/tmp/imago-park-${liveProcess(pid)?.innerPid}`
    fs.rmSync(file, { force: true })
    fs.closeSync(fs.openSync(file, 'wx', 0o600))
    process.kill(pid, 'SIGUSR2')
  } catch (error) {
    if ('ZX'.includes(liveProcess(pid)?.state ?? 'X')) throw hasEnded(pid)
    throw error
  }
}

/** After a restore of an image that was parked: on the same ISA the threads still wait there. */
export function releaseIfParked(pid: number): void {
  const runtime = runtimeOf(pid)
  if (runtime === undefined) return
  try {
    if (readWord(pid, runtime.request) !== 0n) release(pid, runtime)
  } catch (error) {
    // It had little left to do, and has ended: nobody waits.
    if (!'ZX'.includes(liveProcess(pid)?.state ?? 'X')) throw error
  }
}

function runtimeOf(pid: number): Runtime | undefined {
  let elf: ElfFile
  try {
    elf = ElfFile.open(`/proc/${pid}/exe`)
  } catch {
    return undefined
  }
  try {
    const [request, parkedCount, threadCount] = [
      runtimeSymbols.request,
      runtimeSymbols.parkedCount,
      runtimeSymbols.threadCount,
    ].map(name => elf.symbols.named(name)?.address)
    if (request === undefined || parkedCount === undefined || threadCount === undefined) return undefined
    return { request, parkedCount, threadCount }
  } finally {
    elf.close()
  }
}

/** The waiting threads sleep on the word; a stop and a start make the kernel look at it again. */
function release(pid: number, { request }: Runtime): void {
  const fd = fs.openSync(`/proc/${pid}/mem`, 'r+')
  try {
    fs.writeSync(fd, new Uint8Array(8), 0, 8, Number(request))
  } finally {
    fs.closeSync(fd)
  }
  process.kill(pid, 'SIGSTOP')
  process.kill(pid, 'SIGCONT')
}

function threadsOf(pid: number): number {
  try {
    return fs.readdirSync(`/proc/${pid}/task`).length
  } catch {
    return 0 // gone: the next look at its memory says so
  }
}

function readWord(pid: number, address: bigint): bigint {
  const word = Buffer.alloc(8)
  let fd: number | undefined
  try {
    fd = fs.openSync(`/proc/${pid}/mem`, 'r')
    if (fs.readSync(fd, word, 0, 8, address) === 8) return word.readBigUInt64LE()
  } catch (error) {
    if (!['ESRCH', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  } finally {
    if (fd !== undefined) fs.closeSync(fd)
  }
  throw hasEnded(pid)
}
