/**
 * `env.hflags`: the processor mode as QEMU's translator keeps it beside the registers. The loader under TCG takes
 * it as it comes (only the CPL is worked out anew), so it must fit the registers that a template gets.
 *
 *   0–1 CPL · 4 CS is 32 or 64 bit · 5 SS likewise · 6 segment bases count · 7 PE · 8 TF · 9 MP · 10 EM · 11 TS
 *   12–13 IOPL · 14 LMA · 15 CS is 64 bit · 17 VM · 22 OSFXSR · 23 SMAP · 27 UMIP
 *
 * Source: QEMU target/i386/cpu.h, HF_* and the values in captured streams.
 */
import type { MachineState } from '../../model/machine.js'

const OWN_BITS = 0x3n | 0xfff0n | (1n << 17n) | (1n << 22n) | (1n << 23n) | (1n << 27n)

const CR0 = { pe: 1n, mpEmTs: 0xen }
const CR4 = { osfxsr: 1n << 9n, umip: 1n << 11n, smap: 1n << 21n }
const RFLAGS = { tf: 1n << 8n, iopl: 3n << 12n, vm: 1n << 17n }
const EFER_LMA = 1n << 10n
/** Access rights of a segment. */
const Rights = { dplShift: 5, long: 1 << 13, big: 1 << 14 }

/** The flags for this state; bits with another meaning come from `template`. */
export function hiddenFlags({ cpu }: MachineState, template: bigint): bigint {
  const { cr0, cr4 } = cpu.control
  const { cs, ss, ds, es } = cpu.segments
  const longMode = (cpu.msr.efer & EFER_LMA) !== 0n
  const code64 = longMode && (cs.attributes & Rights.long) !== 0
  const code32 = code64 || (cs.attributes & Rights.big) !== 0
  const stack32 = code64 || (ss.attributes & Rights.big) !== 0
  const virtual8086 = (cpu.rflags & RFLAGS.vm) !== 0n
  const protectedMode = (cr0 & CR0.pe) !== 0n
  const basesCount =
    !code64 &&
    (!protectedMode || virtual8086 || !code32 || ds.base !== 0n || es.base !== 0n || ss.base !== 0n)
  let flags = template & ~OWN_BITS
  flags |= BigInt((ss.attributes >> Rights.dplShift) & 3)
  flags |= bit(4, code32) | bit(5, stack32) | bit(6, basesCount) | bit(7, protectedMode)
  flags |= (cr0 & CR0.mpEmTs) << 8n
  flags |= cpu.rflags & (RFLAGS.tf | RFLAGS.iopl | RFLAGS.vm)
  flags |= bit(14, longMode) | bit(15, code64)
  flags |= bit(22, (cr4 & CR4.osfxsr) !== 0n) | bit(23, (cr4 & CR4.smap) !== 0n)
  flags |= bit(27, (cr4 & CR4.umip) !== 0n)
  return flags
}

function bit(position: number, set: boolean): bigint {
  return set ? 1n << BigInt(position) : 0n
}
