/**
 * Running a machine for exactly N instructions (with icount). QEMU counts but cannot stop at a count, tells the
 * true count only while it stands still, and the word `stop` takes it a moment. So the machine runs for half of
 * what is left, again and again, the slower the nearer it comes; nothing of that changes what is executed:
 *
 *   full speed                                  300 million/s   until 50 million are left
 *   one instruction a translation block          23 million/s   until 200 thousand are left
 *   braked by the log of its blocks               4 million/s   until 20 thousand are left (log-brake.ts)
 *   braked by the log of its registers          100 thousand/s  until 100 are left
 *   single steps through the gdb stub             4 thousand/s  to the very instruction
 *
 * A busy host takes longer to stop a machine that runs freely, so more is then left to the brakes.
 * A machine that stands after a single step is idle for QEMU, which then moves its clock to the next timer: so no
 * timer fires while it is stepped. Should one have been due meanwhile, the machine starts anew (capture.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { PeerError } from '../../lib/errors.js'
import type { Emulator } from './emulator.js'
import { GdbClient } from './gdb.js'
import { LogBrake } from './log-brake.js'
import { monitor, sleeps } from './monitor.js'

/** How the machine goes: monitor commands; of several spellings one works. */
type Commands = readonly (readonly string[])[]
const wholeBlocks = ['one-insn-per-tb off', 'singlestep off']
const singleInstructions = ['one-insn-per-tb on', 'singlestep on']

interface FreePace {
  readonly commands: Commands
  /** Instructions a millisecond on a fast host; a first guess. */
  readonly rate: number
  /** Instructions that may be left when the next pace begins. */
  readonly until: number
}
const freePaces: readonly FreePace[] = [
  { commands: [], rate: 500_000, until: 50_000_000 },
  { commands: [singleInstructions], rate: 40_000, until: 200_000 },
]

interface BrakedPace {
  readonly commands: Commands
  /** Instructions a line of the log; a first guess. */
  readonly perLine: number
  readonly until: number
}
const brakedPaces: readonly BrakedPace[] = [
  { commands: [wholeBlocks, ['log exec,nochain']], perLine: 20, until: 20_000 },
  { commands: [singleInstructions, ['log cpu,nochain']], perLine: 0.1, until: 100 },
]
const fullSpeed: Commands = [['log none'], wholeBlocks]

/** The machine ran past the instruction, because this host did not stop it in time. */
export class OvershotError extends PeerError {}

export interface RunOptions {
  /** How much earlier than usual the machine is slowed down: on a busy host more than 1. */
  readonly caution: number
  /** Gives up a machine that executes nothing for so long: it sleeps, and no timer of its own will wake it. */
  readonly patienceMs: number
  onProgress?(fraction: number): void
}

/** Instructions that are left to execute, of a machine that stands still. */
type Left = () => Promise<number>

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
    if (icount > count)
      throw new OvershotError('the machine ran past the instruction at which it should stop', {
        found: `${icount} instructions`,
        expected: `${count}`,
        hint: 'this host was too busy to stop it in time: try again',
      })
    onProgress?.(icount / count)
    return count - icount
  }
  await runFreely(emulator, left, caution)
  const brake = await LogBrake.on(emulator)
  try {
    await runBraked(emulator, brake, left, caution)
    // Where it sleeps in HLT, no time passes while it is stepped: it has to run until the timer that wakes it.
    while (!(await stepWhileAwake(emulator, left))) await brake.wake()
    for (const spellings of fullSpeed) await monitor(emulator, spellings)
  } finally {
    brake.close()
  }
}

/** Half of what is left at a time; the longer QEMU takes to stand still, the more is left in the end. */
async function runFreely(emulator: Emulator, left: Left, caution: number): Promise<void> {
  const { qmp } = emulator
  // The longest that QEMU took to stand still; until then the machine runs on.
  let latency = 0
  for (const pace of freePaces) {
    for (const spellings of pace.commands) await monitor(emulator, spellings)
    let { rate } = pace
    const until = () => Math.max(pace.until * caution, 2 * rate * latency)
    for (let rest = await left(); rest > until(); ) {
      const started = performance.now()
      await qmp.execute('cont')
      await sleep(Math.max(1, (rest - until() / 2) / 2 / rate - latency))
      const asked = performance.now()
      await qmp.execute('stop')
      latency = Math.max(latency, performance.now() - asked)
      const before = rest
      rest = await left()
      // A busy host runs the machine slower than guessed, and may at any time be idle again.
      rate = Math.max(rate / 2, (2 * (before - rest)) / (performance.now() - started))
    }
  }
}

async function runBraked(emulator: Emulator, brake: LogBrake, left: Left, caution: number): Promise<void> {
  for (const { commands, until, perLine: guess } of brakedPaces) {
    for (const spellings of commands) await monitor(emulator, spellings)
    let perLine = guess
    for (let rest = await left(); rest > until * caution; ) {
      const lines = await brake.run(Math.max(1, (rest - (until * caution) / 2) / perLine / 2))
      const before = rest
      rest = await left()
      perLine = Math.max(perLine / 2, (before - rest) / Math.max(1, lines))
    }
  }
}

/** Single steps until no instruction is left; false when the machine sleeps before. */
async function stepWhileAwake(emulator: Emulator, left: Left): Promise<boolean> {
  const gdb = await GdbClient.attach(emulator, { timers: false })
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
