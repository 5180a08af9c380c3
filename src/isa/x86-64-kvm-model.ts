/** The structures of KVM ⇄ the CPU of the machine model. */

import { isZero } from '../lib/bytes.js'
import { type Cpu, generalRegisters, initialCpu, msrNumbers, type Segment } from '../model/machine.js'
import { decodeFxsave, encodeFxsave } from './fxsave.js'
import { decodeSpecialRegisters, type KvmSegment, R, REGS_SIZE } from './x86-64-kvm.js'
import { STANDARD_XSAVE, XSAVE_SIZE } from './x86-64-xsave.js'

/** What an image in KVM's layouts holds of a CPU; `xsave` in the standard format, or a struct kvm_fpu made into one. */
export interface KvmCpuState {
  readonly registers: BigUint64Array
  readonly special: Uint8Array
  readonly msrs: ReadonlyArray<{ readonly index: number; readonly value: bigint }>
  readonly xcr0: bigint
  readonly xsave: Uint8Array
}

/** Offset of the upper halves of the YMM registers in an XSAVE area. */
const YMM_HIGH = STANDARD_XSAVE.get(2)!.offset

/** The way from KVM's structures to the model. */
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

/** The legacy area, which is an FXSAVE image, and the AVX component where it is in use. */
function fromXsave(cpu: Cpu, xsave: Uint8Array): void {
  const view = new DataView(xsave.buffer, xsave.byteOffset, xsave.length)
  const wide = (at: number) => view.getBigUint64(at, true) | (view.getBigUint64(at + 8, true) << 64n)
  const { x87, mxcsr, xmm } = decodeFxsave(xsave)
  Object.assign(cpu.x87, x87)
  cpu.mxcsr = mxcsr
  for (const [i, value] of xmm.entries()) cpu.xmm[i] = value
  if ((view.getBigUint64(512, true) & 4n) !== 0n && xsave.length >= YMM_HIGH + 256)
    for (let i = 0; i < 16; i++) cpu.ymmHigh[i] = wide(YMM_HIGH + i * 16)
  const extended = new Map<number, Uint8Array>()
  for (const [component, { offset, size }] of STANDARD_XSAVE) {
    const bytes = xsave.subarray(offset, offset + size)
    if (component !== 2 && bytes.length === size && !isZero(bytes)) extended.set(component, bytes.slice())
  }
  if (extended.size > 0) cpu.extendedState = extended
}

/** x87, SSE and AVX as an XSAVE area. */
export function xsaveOfCpu(cpu: Cpu): Uint8Array {
  const xsave = new Uint8Array(XSAVE_SIZE)
  // The mask of MXCSR is the host's to say: zero, as in the template.
  xsave.set(encodeFxsave(cpu, xsave))
  const view = new DataView(xsave.buffer)
  const wide = (at: number, value: bigint) => {
    view.setBigUint64(at, BigInt.asUintN(64, value), true)
    view.setBigUint64(at + 8, value >> 64n, true)
  }
  const avx = cpu.ymmHigh.some(value => value !== 0n)
  if (avx) for (let i = 0; i < 16; i++) wide(YMM_HIGH + i * 16, cpu.ymmHigh[i]!)
  view.setBigUint64(512, avx ? 7n : 3n, true)
  return xsave
}

/** The general registers in the order of struct kvm_regs. */
export function registersOfCpu(cpu: Cpu): BigUint64Array {
  const registers = new BigUint64Array(REGS_SIZE / 8)
  for (const name of generalRegisters) registers[R[name]] = cpu.general[name]
  registers[R.rip] = cpu.rip
  registers[R.rflags] = cpu.rflags
  return registers
}
