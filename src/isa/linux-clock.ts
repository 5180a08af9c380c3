/**
 * The clock of a Linux guest as its own kernel keeps it, for images that do not hold the time-stamp counter (Palacios) or
 * its rate (streams of others).
 *
 *   tsc_khz                u32                  the rate that the kernel has measured, and counts time by
 *   tk_core                seqcount (8 bytes), struct timekeeper, which begins with
 *     tkr_mono             struct tk_read_base
 *       clock              struct clocksource *  &clocksource_tsc while the TSC is its clock
 *       [read              before 4.12: a function]
 *       mask               u64                   all ones for the TSC
 *       cycle_last         u64                   the TSC at the last tick
 *
 * Sources: Linux arch/x86/kernel/tsc.c, kernel/time/timekeeping.c, include/linux/timekeeper_internal.h, 4.0 to 6.12.
 */
import type { KernelSymbols } from '../lib/kernel-symbols.js'
import type { MachineImage } from '../model/machine.js'
import { kernelSlide, readAcross } from './linux-kernel.js'

export interface KernelClock {
  /** Ticks of the TSC a second. */
  readonly rate: number
  /** What the TSC was at least; undefined when the kernel takes its time from another clock. */
  readonly tsc: bigint | undefined
}

/** The image with its TSC and the rate of it as the kernel knows them, where the image itself does not say them. */
export function withKernelClock(image: MachineImage, symbols: KernelSymbols): MachineImage {
  const clock = kernelClock(image, symbols)
  if (clock === undefined) return image
  const workedOut = new Map(image.workedOut)
  const cpus = image.cpus.map(cpu => {
    const known = { ...cpu }
    if (cpu.tscRate === undefined || workedOut.has('cpu.tscRate')) {
      known.tscRate = clock.rate
      workedOut.set('cpu.tscRate', 'as the guest’s kernel has measured it')
    }
    if (clock.tsc !== undefined && (cpu.tsc === undefined || workedOut.has('cpu.tsc'))) {
      known.tsc = clock.tsc
      workedOut.set('cpu.tsc', 'a tick after the last that the guest’s kernel has seen')
    }
    return known
  })
  return { ...image, cpus, workedOut }
}

/** Where in `tk_core` the clock may stand: behind a counter that debugging makes longer. */
const CORE_BYTES = 128
const ALL_BITS = 0xffff_ffff_ffff_ffffn
/** Kernels tick a hundred times a second or more often (CONFIG_HZ). */
const TICKS_PER_SECOND = 100n
const MIN_KHZ = 100_000
const MAX_KHZ = 20_000_000

/**
 * undefined when the guest is not Linux, or these are not its symbols. A busy kernel has read the TSC since its last tick,
 * and must not see it go backwards: so a whole tick is added. One that sleeps without ticks does not see what it slept.
 */
function kernelClock(image: MachineImage, symbols: KernelSymbols): KernelClock | undefined {
  const cpu = image.cpus[0]
  if (cpu === undefined) return undefined
  const slide = kernelSlide(cpu, symbols)
  const addressOf = (name: string) => {
    const linked = symbols.addressOf(name)
    return linked === undefined ? undefined : BigInt.asUintN(64, linked + slide)
  }
  const [rateAt, coreAt, sourceAt] = ['tsc_khz', 'tk_core', 'clocksource_tsc'].map(addressOf)
  const khz = rateAt === undefined ? undefined : readAcross(image, cpu, rateAt, 4)?.readUInt32LE()
  if (khz === undefined || khz < MIN_KHZ || khz > MAX_KHZ) return undefined
  const core = coreAt === undefined ? undefined : readAcross(image, cpu, coreAt, CORE_BYTES)
  const last = core && sourceAt && cyclesBehind(core, sourceAt)
  const tick = (BigInt(khz) * 1000n) / TICKS_PER_SECOND
  return { rate: khz * 1000, tsc: last === undefined ? undefined : last + tick }
}

/** `cycle_last` of the first clock in these bytes that is `source`. */
function cyclesBehind(core: Buffer, source: bigint): bigint | undefined {
  const words = Array.from({ length: core.length / 8 }, (_, i) => core.readBigUInt64LE(i * 8))
  const clock = words.indexOf(source)
  if (clock < 0) return undefined
  const mask = [clock + 1, clock + 2].find(at => words[at] === ALL_BITS)
  return mask === undefined ? undefined : words[mask + 1]
}
