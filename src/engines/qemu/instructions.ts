/**
 * Running a machine for exactly N instructions (with icount). QEMU counts but cannot stop at a count, tells the
 * true count only while it stands still, and the word `stop` takes it a moment. So the machine runs for half of
 * what is left, again and again, and is slowed down the nearer it comes with QEMU's own debugging aids, which do
 * not change what is executed:
 *
 *   full speed                            300 million/s   until 100 million are left
 *   one instruction a translation block    23 million/s   until 1 million are left
 *   and each one logged to /dev/null      220 thousand/s  until 6 thousand are left
 *   single steps through the gdb stub       4 thousand/s  to the very instruction
 *
 * With sleep=off a machine that is stopped counts as idle, and its clock may jump to its next timer. So the count is
 * exact, but when timers fired on the way may differ from run to run.
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
  { slowDown: [], rate: 500_000, until: 100_000_000 },
  { slowDown: [['one-insn-per-tb on', 'singlestep on']], rate: 40_000, until: 1_000_000 },
  { slowDown: [['logfile /dev/null'], ['log cpu,nochain']], rate: 400, until: 6_000 },
]

const fullSpeed = [['log none'], ['one-insn-per-tb off', 'singlestep off']]

/** The machine ran past the instruction, because this host did not stop it in time. */
export class OvershotError extends PeerError {}

/** @throws OvershotError, or PeerError when the machine ends. */
export async function runInstructions(
  emulator: Emulator,
  count: number,
  onProgress?: (fraction: number) => void,
): Promise<void> {
  const { qmp } = emulator
  const left = async () => {
    if (emulator.ended) throw new PeerError('the guest ended before the moment came')
    const { icount } = await qmp.execute<{ icount: number }>('query-replay')
    onProgress?.(icount / count)
    return count - icount
  }
  for (const pace of paces) {
    let now = await left()
    if (now <= pace.until) continue
    for (const spellings of pace.slowDown) await monitor(emulator, spellings)
    for (let { rate } = pace; now > pace.until; ) {
      const started = performance.now()
      await qmp.execute('cont')
      await sleep(Math.max(1, (now - pace.until / 2) / 2 / rate))
      await qmp.execute('stop')
      const before = now
      now = await left()
      rate = Math.max(rate, (before - now) / (performance.now() - started))
    }
  }
  const rest = await left()
  if (rest < 0)
    throw new OvershotError('the machine ran past the instruction at which it should stop', {
      found: `${count - rest} instructions`,
      expected: `${count}`,
      hint: 'this host was too busy to stop it in time: try again',
    })
  for (const spellings of fullSpeed) await monitor(emulator, spellings)
  if (rest === 0) return
  const gdb = await GdbClient.attach(emulator)
  try {
    // A step may deliver an interrupt and execute nothing, so the count is asked each time.
    while ((await left()) > 0) await gdb.step()
  } finally {
    gdb.close()
  }
}

/** Runs a command of the human monitor in the first spelling that this version of QEMU knows. */
export async function monitor(emulator: Emulator, spellings: readonly string[]): Promise<void> {
  for (const line of spellings) {
    const answer = await emulator.qmp.execute<string>('human-monitor-command', { 'command-line': line })
    if (answer === '') return
  }
}
