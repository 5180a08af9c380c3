/**
 * The rate of a machine's TSC by its stream. Under icount it is the virtual clock's, 1 GHz. Otherwise it is the host's,
 * which both count from the start of the machine: its ticks and its nanoseconds since then stand in the stream. (Not in
 * one that imago wrote over a template: there the record beside it says it.)
 */
import type { QemuStream } from './stream.js'

/** Under `-icount shift=0`: an instruction a nanosecond, and the TSC counts nanoseconds. */
export const ICOUNT_RATE = 1_000_000_000
/** x86 hosts have no other rates. */
const [MIN_RATE, MAX_RATE] = [500_000_000, 10_000_000_000]

/** Ticks a second; undefined when the stream does not tell. */
export function tscRateOf(stream: QemuStream): number | undefined {
  const timer = stream.device('timer')
  if (timer === undefined) return undefined
  if (timer.has('timer/icount.qemu_icount')) return ICOUNT_RATE
  const nanoseconds = Number(timer.integer('cpu_clock_offset'))
  const rate = Math.round((Number(timer.integer('cpu_ticks_offset')) / nanoseconds) * 1e9)
  return rate >= MIN_RATE && rate <= MAX_RATE ? rate : undefined
}
