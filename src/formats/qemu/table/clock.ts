/** The virtual clock of a stream, to which all times of its devices are related. */
import type { CompoundRow } from '../../machine-table.js'
import type { QemuFields } from '../fields.js'

export type Fields = QemuFields
export const PS = 1000n
export const NS_PER_SECOND = 1_000_000_000n

export const bits = (mask: number) => ({
  read: (raw: bigint) => Number(raw) & mask,
  write: (value: unknown) => BigInt(value as number),
})

/** Ticks of the APIC timer before division, and of the TSC under -icount, per second. */
export const QEMU_APIC_RATE = 1_000_000_000

/** What is due at this moment and has not happened: the least time that there is. */
export const DUE = 1n
/** From the neutral picoseconds to nanoseconds: up, so that nothing happens early; what is due stays due. */
export const toNs = (ps: bigint) => (ps === DUE ? 0n : (ps + PS - 1n) / PS)

const ICOUNT = 'timer/timer/icount.qemu_icount'
const BIAS = 'timer/timer/icount.qemu_icount_bias'
const hasIcount = (raw: Fields) => raw.has(ICOUNT)

/** The virtual clock, in ns. */
export function virtualNow(raw: Fields): bigint {
  return hasIcount(raw)
    ? raw.integer(BIAS) + (raw.integer(ICOUNT) << raw.icountShift)
    : raw.integer('timer/cpu_clock_offset')
}

export const time: CompoundRow<Fields> = {
  about: 'the virtual clock; under -icount the TSC is that clock, otherwise the host’s plus an offset',
  read(raw, { cpu, devices }) {
    const now = virtualNow(raw)
    devices.time = now * PS
    cpu.tsc = BigInt.asUintN(
      64,
      hasIcount(raw) ? now : raw.integer('timer/cpu_ticks_offset') + raw.integer('cpu/env.tsc'),
    )
    const kHz = raw.integer('cpu/cpu/tsc_khz.env.tsc_khz')
    cpu.tscRate = hasIcount(raw) ? QEMU_APIC_RATE : kHz > 0n ? Number(kHz) * 1000 : undefined
  },
  write({ cpu }, raw) {
    if (cpu.tsc === undefined) return
    if (hasIcount(raw)) {
      raw.set(BIAS, BigInt.asIntN(64, cpu.tsc - (raw.integer(ICOUNT) << raw.icountShift)))
      raw.set('timer/cpu_clock_offset', BigInt.asIntN(64, cpu.tsc))
    } else {
      raw.set('timer/cpu_ticks_offset', BigInt.asIntN(64, cpu.tsc))
      raw.set('cpu/env.tsc', 0n)
    }
  },
}
