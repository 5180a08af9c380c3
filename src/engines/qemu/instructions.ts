/**
 * Running a machine for exactly N instructions (with icount). QEMU counts but cannot stop at a count, tells the
 * true count only while it stands still, and the word `stop` takes it a moment. So the machine runs for half of
 * what is left, again and again, and is slowed down the nearer it comes with QEMU's own debugging aids, which do
 * not change what is executed:
 *
 *   full speed                            300 million/s   until 50 million are left
 *   one instruction a translation block    23 million/s   until 200 thousand are left
 *   and each one logged to /dev/null      220 thousand/s  until 10 thousand are left
 *   and with it the FPU's registers        50 thousand/s  until 100 are left
 *   single steps through the gdb stub       4 thousand/s  to the very instruction
 *
 * A machine that stands after a single step is idle for QEMU, which then moves its clock to the next timer: so no
 * timer fires while it is stepped. Should one have been due meanwhile, the machine starts anew (capture.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { PeerError } from '../../lib/errors.js'
import type { Emulator } from './emulator.js'
import { GdbClient } from './gdb.js'

interface Pace {
  /** Monitor commands that slow the machine down; of several spellings one works. */
  readonly slowDown: readonly (readonly string[])[]
  /** Instructions a millisecond on a fast host; a first guess. */
  readonly rate: number
  /** Instructions that may be left when the next pace begins. */
  readonly until: number
}

const paces: readonly Pace[] = [
  { slowDown: [], rate: 500_000, until: 50_000_000 },
  { slowDown: [['one-insn-per-tb on', 'singlestep on']], rate: 40_000, until: 200_000 },
  { slowDown: [['logfile /dev/null'], ['log cpu,nochain']], rate: 400, until: 10_000 },
  { slowDown: [['log cpu,fpu,nochain']], rate: 100, until: 100 },
]

const fullSpeed = [['log none'], ['one-insn-per-tb off', 'singlestep off']]

/** The machine ran past the instruction, because this host did not stop it in time. */
export class OvershotError extends PeerError {}

export interface RunOptions {
  /** How much earlier than usual the machine is slowed down: on a busy host more than 1. */
  readonly caution: number
  /** Gives up a machine that executes nothing for so long: it sleeps, and no timer of its own will wake it. */
  readonly patienceMs: number
  onProgress?(fraction: number): void
}

/** @throws OvershotError, or PeerError when the machine ends or sleeps for good. */
export async function runInstructions(
  emulator: Emulator,
  count: number,
  { caution, patienceMs, onProgress }: RunOptions,
): Promise<void> {
  const { qmp } = emulator
  let [seen, since] = [-1, performance.now()]
  const left = async () => {
    if (emulator.ended) throw new PeerError('the guest ended before the moment came')
    const { icount } = await qmp.execute<{ icount: number }>('query-replay')
    if (icount !== seen) [seen, since] = [icount, performance.now()]
    if (icount < count && performance.now() - since > patienceMs)
      throw new PeerError('the guest sleeps, and nothing wakes it', {
        found: `${icount} instructions in all, none in the last ${patienceMs / 1000} s`,
        expected: `${count}`,
        hint: 'look at its serial line with --serial -; --timeout says how long it may sleep',
      })
    onProgress?.(icount / count)
    return count - icount
  }
  // The longest that QEMU took to stand still; until then the machine runs on, far on a busy host.
  let latency = 0
  for (const pace of paces) {
    for (const spellings of pace.slowDown) await monitor(emulator, spellings)
    let { rate } = pace
    const until = () => Math.max(pace.until * caution, pace === paces.at(-1) ? 0 : 2 * rate * latency)
    for (let now = await left(); now > until(); ) {
      const started = performance.now()
      await qmp.execute('cont')
      await sleep(Math.max(1, (now - until() / 2) / 2 / rate - latency))
      const asked = performance.now()
      await qmp.execute('stop')
      latency = Math.max(latency, performance.now() - asked)
      const before = now
      now = await left()
      // A busy host runs the machine slower than guessed, and may at any time be idle again.
      rate = Math.max(rate / 2, (2 * (before - now)) / (performance.now() - started))
    }
  }
  for (let rest = await left(); rest !== 0; rest = await left()) {
    if (rest < 0)
      throw new OvershotError('the machine ran past the instruction at which it should stop', {
        found: `${count - rest} instructions`,
        expected: `${count}`,
        hint: 'this host was too busy to stop it in time: try again',
      })
    if (await stepWhileAwake(emulator, left)) break
    // It sleeps in HLT: no time passes while it is stepped, so it has to run until the timer that wakes it.
    await qmp.execute('cont')
    await qmp.execute('stop')
  }
  for (const spellings of fullSpeed) await monitor(emulator, spellings)
}

/** Single steps until no instruction is left; false when the machine sleeps before. */
async function stepWhileAwake(emulator: Emulator, left: () => Promise<number>): Promise<boolean> {
  const gdb = await GdbClient.attach(emulator, false)
  try {
    // A step may deliver an interrupt and execute nothing, so the count is asked each time.
    while ((await left()) > 0) {
      const stepped = gdb.step().then(() => true)
      stepped.catch(() => {}) // the stub is closed while it waits
      while (!(await Promise.race([stepped, sleep(LOOK_MS, false)]))) if (await sleeps(emulator)) return false
    }
    return true
  } finally {
    gdb.close()
    await emulator.qmp.execute('stop')
  }
}

/** A step takes less than this on an idle host, unless the CPU waits for an interrupt. */
const LOOK_MS = 10

async function sleeps(emulator: Emulator): Promise<boolean> {
  const registers = await emulator.qmp.execute<string>('human-monitor-command', {
    'command-line': 'info registers',
  })
  return /\bHLT=1\b/.test(registers)
}

/** Runs a command of the human monitor in the first spelling that this version of QEMU knows. */
export async function monitor(emulator: Emulator, spellings: readonly string[]): Promise<void> {
  for (const line of spellings) {
    const answer = await emulator.qmp.execute<string>('human-monitor-command', { 'command-line': line })
    if (answer === '') return
  }
}
