/**
 * aarch64 as Linux shows it to a process. Sources: Arm Architecture Reference Manual (FPCR, PSTATE), the AArch64 ELF ABI
 * (thread-local storage, variant I), Linux `arch/arm64/include/uapi/asm`, musl 1.2 `pthread_impl.h` (TLS_ABOVE_TP).
 */
import { alignUp } from '../lib/bytes.js'
import type { Isa } from './isa.js'

const FPCR_FLUSH_TO_ZERO = 1 << 24
const FPCR_ROUNDING_SHIFT = 22
/** FPCR.RMode: towards plus infinity comes before minus infinity, other than in x86's MXCSR. */
const roundings = ['nearest', 'up', 'down', 'zero'] as const
/** Two words between the thread pointer and the storage belong to the ABI. */
const GAP_ABOVE_POINTER = 16
const RECORD_SIZE = 200

export const aarch64: Isa = {
  name: 'aarch64',
  elfMachine: 183,
  userSpaceEnd: 1n << 48n,
  registers: [...Array.from({ length: 31 }, (_, i) => `x${i}`), 'sp', 'pc', 'pstate', 'tpidr_el0'],
  programCounter: 'pc',
  stackPointer: 'sp',
  framePointer: 'x29',
  threadPointer: 'tpidr_el0',
  openFlags: { O_DIRECTORY: 0o40000, O_NOFOLLOW: 0o100000, O_DIRECT: 0o200000, O_LARGEFILE: 0o400000 },
  minimumSignalStack: 0x1270n,
  musl: {
    record: [
      ['self', 0, 8],
      ['links and sysinfo', 8, 24],
      ['tid and all that follows', 32, 152],
      ['canary', 184, 8],
      ['dtv', 192, 8],
    ],
    pointerOffset: RECORD_SIZE,
    storageOffset: ({ alignment }) => RECORD_SIZE + alignUp(GAP_ABOVE_POINTER, alignment),
  },

  freshRegisters(place, control) {
    const general = new Map(this.registers.map(name => [name, 0n]))
    general.set('pc', place.programCounter)
    general.set('sp', place.stackPointer)
    general.set('x29', place.framePointer)
    general.set('tpidr_el0', place.threadPointer)
    // Zero and carry set: what a comparison of equal values leaves; user mode is EL0, 0.
    general.set('pstate', 0x6000_0000n)
    const fpcr =
      (roundings.indexOf(control.rounding) << FPCR_ROUNDING_SHIFT) |
      (control.flushToZero ? FPCR_FLUSH_TO_ZERO : 0)
    return {
      general,
      vector: { isa: 'aarch64', v: Array.from({ length: 32 }, () => 0n), fpsr: 0, fpcr },
    }
  },

  floatingControl({ vector }) {
    if (vector?.isa !== 'aarch64') return { rounding: 'nearest', flushToZero: false }
    return {
      rounding: roundings[(vector.fpcr >>> FPCR_ROUNDING_SHIFT) & 3]!,
      flushToZero: (vector.fpcr & FPCR_FLUSH_TO_ZERO) !== 0,
    }
  },
}
