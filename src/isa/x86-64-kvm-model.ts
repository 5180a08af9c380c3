/** The structures of KVM → the CPU of the machine model. */
import { type Cpu, generalRegisters, initialCpu, msrNumbers, type Segment } from '../model/machine.js'
import { decodeSpecialRegisters, type KvmSegment, R } from './x86-64-kvm.js'

/** What an image in KVM's layouts holds of a CPU; `xsave` in the standard format, or a struct kvm_fpu made into one. */
export interface KvmCpuState {
  readonly registers: BigUint64Array
  readonly special: Uint8Array
  readonly msrs: ReadonlyArray<{ readonly index: number; readonly value: bigint }>
  readonly xcr0: bigint
  readonly xsave: Uint8Array
}

/** Offset of the upper halves of the YMM registers in an XSAVE area, standard format. */
const YMM_HIGH = 576

export function cpuOfKvm(state: KvmCpuState): Cpu {
  const cpu = initialCpu()
  for (const name of generalRegisters) cpu.general[name] = state.registers[R[name]]!
  cpu.rip = state.registers[R.rip]!
  cpu.rflags = state.registers[R.rflags]!
  const special = decodeSpecialRegisters(state.special)
  for (const [name, segment] of Object.entries(special.segments))
    cpu.segments[name === 'ldt' ? 'ldtr' : (name as 'cs')] = modelSegment(segment)
  cpu.gdtr = special.gdt
  cpu.idtr = special.idt
  const { cr0, cr2, cr3, cr4 } = special
  cpu.control = { cr0, cr2, cr3, cr4 }
  cpu.taskPriority = Number(special.cr8 & 0xfn) << 4
  cpu.msr.efer = special.efer
  cpu.msr.apicBase = special.apicBase
  const names = new Map(Object.entries(msrNumbers).map(([name, index]) => [index as number, name]))
  const others = new Map<number, bigint>()
  for (const { index, value } of state.msrs) {
    const name = names.get(index)
    if (name === undefined) others.set(index, value)
    else (cpu.msr as Record<string, bigint | undefined>)[name] = value
  }
  if (others.size > 0) cpu.otherMsrs = others
  cpu.xcr0 = state.xcr0
  fromXsave(cpu, state.xsave)
  return cpu
}

function modelSegment(segment: KvmSegment): Segment {
  return {
    selector: segment.selector,
    base: segment.base,
    limit: segment.limit,
    attributes:
      segment.type |
      (segment.s << 4) |
      (segment.dpl << 5) |
      (segment.present << 7) |
      (segment.avl << 12) |
      (segment.l << 13) |
      (segment.db << 14) |
      (segment.g << 15) |
      (segment.unusable << 16),
  }
}

/** The legacy area (Intel SDM 1, table 10-2), and the AVX component where it is in use. */
function fromXsave(cpu: Cpu, xsave: Uint8Array): void {
  const view = new DataView(xsave.buffer, xsave.byteOffset, xsave.length)
  const wide = (at: number) => view.getBigUint64(at, true) | (view.getBigUint64(at + 8, true) << 64n)
  const { x87 } = cpu
  x87.control = view.getUint16(0, true)
  x87.status = view.getUint16(2, true)
  x87.valid = view.getUint8(4)
  x87.opcode = view.getUint16(6, true)
  x87.instruction = view.getBigUint64(8, true)
  x87.data = view.getBigUint64(16, true)
  // FXSAVE stores ST0…ST7; the model wants the physical registers.
  const top = (x87.status >> 11) & 7
  for (let i = 0; i < 8; i++) x87.registers[(top + i) & 7] = BigInt.asUintN(80, wide(32 + i * 16))
  cpu.mxcsr = view.getUint32(24, true)
  for (let i = 0; i < 16; i++) cpu.xmm[i] = wide(160 + i * 16)
  if ((view.getBigUint64(512, true) & 4n) !== 0n && xsave.length >= YMM_HIGH + 256)
    for (let i = 0; i < 16; i++) cpu.ymmHigh[i] = wide(YMM_HIGH + i * 16)
}
