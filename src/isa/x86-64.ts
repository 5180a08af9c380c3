/**
 * x86-64 as Linux shows it to a process. Sources: Intel SDM volume 1 (FXSAVE image, MXCSR), the System V psABI
 * (thread-local storage, variant II), Linux `arch/x86/include/uapi/asm` and the generic `fcntl.h`, musl 1.2 `pthread_impl.h`.
 */
import { alignUp } from '../lib/bytes.js'
import type { FloatingControl, Isa } from './isa.js'

const MXCSR_OFFSET = 24
const MXCSR_DEFAULT = 0x1f80
const MXCSR_FLUSH_TO_ZERO = 1 << 15
const MXCSR_ROUNDING_SHIFT = 13
const roundings = ['nearest', 'down', 'up', 'zero'] as const
const FCW_DEFAULT = 0x37f

export const x86_64: Isa = {
  name: 'x86-64',
  elfMachine: 62,
  userSpaceEnd: 0x7fff_ffff_f000n,
  // biome-ignore format: the order of struct user_regs_struct
  registers: [
    'r15', 'r14', 'r13', 'r12', 'rbp', 'rbx', 'r11', 'r10', 'r9', 'r8', 'rax', 'rcx', 'rdx', 'rsi', 'rdi', 'orig_rax',
    'rip', 'cs', 'rflags', 'rsp', 'ss', 'fs_base', 'gs_base', 'ds', 'es', 'fs', 'gs',
  ],
  programCounter: 'rip',
  stackPointer: 'rsp',
  framePointer: 'rbp',
  threadPointer: 'fs_base',
  openFlags: { O_DIRECTORY: 0o200000, O_NOFOLLOW: 0o400000, O_DIRECT: 0o40000, O_LARGEFILE: 0o100000 },
  minimumSignalStack: 0xd30n,
  musl: {
    record: [
      ['self', 0, 8],
      ['links and sysinfo', 16, 24],
      ['tid and all that follows', 48, 152],
      ['canary', 40, 8],
      ['dtv', 8, 8],
    ],
    pointerOffset: 0,
    storageOffset: ({ memorySize, alignment }) => -alignUp(memorySize, alignment),
  },

  freshRegisters(place, control) {
    const general = new Map(this.registers.map(name => [name, 0n]))
    general.set('rip', place.programCounter)
    general.set('rsp', place.stackPointer)
    general.set('rbp', place.framePointer)
    general.set('fs_base', place.threadPointer)
    // cs and ss of user space: with zeros the restored task faults at its first instruction.
    general.set('cs', 0x33n)
    general.set('ss', 0x2bn)
    general.set('rflags', 0x202n)
    general.set('orig_rax', 0xffff_ffff_ffff_ffffn)
    const fxsave = new Uint8Array(512)
    const view = new DataView(fxsave.buffer)
    view.setUint16(0, FCW_DEFAULT, true)
    view.setUint32(MXCSR_OFFSET, mxcsr(control), true)
    view.setUint32(MXCSR_OFFSET + 4, 0x2ffff, true) // MXCSR_MASK
    return { general, vector: { isa: 'x86-64', fxsave, inUse: 3n, components: new Map() } }
  },

  floatingControl({ vector }) {
    if (vector?.isa !== 'x86-64') return { rounding: 'nearest', flushToZero: false }
    const value = new DataView(vector.fxsave.buffer, vector.fxsave.byteOffset).getUint32(MXCSR_OFFSET, true)
    return {
      rounding: roundings[(value >>> MXCSR_ROUNDING_SHIFT) & 3]!,
      flushToZero: (value & MXCSR_FLUSH_TO_ZERO) !== 0,
    }
  },
}

function mxcsr({ rounding, flushToZero }: FloatingControl): number {
  return (
    MXCSR_DEFAULT |
    (roundings.indexOf(rounding) << MXCSR_ROUNDING_SHIFT) |
    (flushToZero ? MXCSR_FLUSH_TO_ZERO : 0)
  )
}
