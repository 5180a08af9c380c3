/** What the tables of gem5's devices share. */
import { PS_PER_SECOND } from '../../../isa/pc.js'
import type { MachineState } from '../../../model/machine.js'
import type { Gem5Fields } from '../fields.js'

export type Fields = Gem5Fields & { readonly timing: Gem5Timing }

/** What a checkpoint does not say and its configuration does. */
export interface Gem5Timing {
  /** Clock of the CPU, which is the rate of its TSC, in Hz. */
  cpuClock: number
  /** Clock of the local APIC's timer, in Hz; undefined when nothing says it. */
  apicClock: number | undefined
}

export const integer = (raw: Gem5Fields, name: string): bigint => (raw.get(name) as bigint | undefined) ?? 0n
/** The tick at which the machine is written: its own time, or that of the skeleton. */
export const tickOf = (raw: Gem5Fields, devices: MachineState['devices']): bigint =>
  devices.time ?? integer(raw, 'globals.curTick')
/** An element of the miscellaneous registers, whose order all layouts share. */
export const reg = (index: number) => `isa.regVal[${index}]`

/** Cycles of the CPU from tick 0 to `tick`: gem5 rounds up. */
export const cyclesAt = (tick: bigint, clock: number): bigint => {
  const period = BigInt(Math.round(Number(PS_PER_SECOND) / clock))
  return (tick + period - 1n) / period
}
