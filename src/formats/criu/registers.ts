/**
 * Registers of both ISAs: CRIU's records ⇄ the model's names. One table a direction walks both ways, so that a
 * register read is a register written.
 *
 * x86-64: named integer fields; FXSAVE split into its parts (Intel SDM 1, table 10-2); each XSAVE component as an
 * array of words. aarch64: x0 to x30 in a list, V registers as pairs of 64 bits (low first), TPIDR_EL0 as `tls`.
 */
import { UnreadableError } from '../../lib/errors.js'
import type { MessageOf } from '../../lib/protobuf-schema.js'
import type { Aarch64VectorState, RegisterSet, X86VectorState } from '../../model/process.js'
import type { thread_info_aarch64 } from './schema/registers-aarch64.js'
import type { thread_info_x86, user_x86_fpregs_entry, user_x86_regs_entry } from './schema/registers-x86.js'

type X86Info = MessageOf<typeof thread_info_x86>
type X86General = MessageOf<typeof user_x86_regs_entry>
type X86Float = MessageOf<typeof user_x86_fpregs_entry>
type X86Xsave = NonNullable<X86Float['xsave']>
type Aarch64Info = MessageOf<typeof thread_info_aarch64>

/** The model's name of a register and CRIU's. */
const x86Names: ReadonlyArray<readonly [model: string, criu: Extract<keyof X86General, string>]> = [
  ['rax', 'ax'],
  ['rbx', 'bx'],
  ['rcx', 'cx'],
  ['rdx', 'dx'],
  ['rsi', 'si'],
  ['rdi', 'di'],
  ['rbp', 'bp'],
  ['rsp', 'sp'],
  ['r8', 'r8'],
  ['r9', 'r9'],
  ['r10', 'r10'],
  ['r11', 'r11'],
  ['r12', 'r12'],
  ['r13', 'r13'],
  ['r14', 'r14'],
  ['r15', 'r15'],
  ['rip', 'ip'],
  ['rflags', 'flags'],
  ['cs', 'cs'],
  ['ss', 'ss'],
  ['ds', 'ds'],
  ['es', 'es'],
  ['fs', 'fs'],
  ['gs', 'gs'],
  ['fs_base', 'fs_base'],
  ['gs_base', 'gs_base'],
  ['orig_rax', 'orig_ax'],
]

type WordList =
  | 'ymmh_space'
  | 'bndreg_state'
  | 'bndcsr_state'
  | 'opmask_reg'
  | 'zmm_upper'
  | 'hi16_zmm'
  | 'pkru'

/** XSAVE components by number (Intel SDM 1, 13.1): CRIU's field, bytes a word, bytes of the component. */
const components: ReadonlyArray<readonly [number: number, field: WordList, wordBytes: 4 | 8, size: number]> =
  [
    [2, 'ymmh_space', 4, 256],
    [3, 'bndreg_state', 8, 64],
    [4, 'bndcsr_state', 8, 64],
    [5, 'opmask_reg', 8, 64],
    [6, 'zmm_upper', 8, 512],
    [7, 'hi16_zmm', 8, 1024],
    [9, 'pkru', 4, 8],
  ]
const CET = 11

/** NATIVE of `user_x86_regs_mode`: a 64-bit task. */
const NATIVE = 1

/** The registers of a thread as the model has them. */
export function readX86Registers(info: X86Info): RegisterSet {
  const general = new Map(x86Names.map(([model, criu]) => [model, info.gpregs[criu] as bigint]))
  return { general, vector: readX86Vector(info.fpregs) }
}

/** CRIU's record of `registers`; what the model does not hold (GDT entries, the mode) comes from `before`. */
export function writeX86Registers(
  registers: RegisterSet,
  clearTidAddress: bigint,
  before?: X86Info,
): X86Info {
  const general: Record<string, unknown> = { ...before?.gpregs, mode: before?.gpregs.mode ?? NATIVE }
  for (const [model, criu] of x86Names)
    general[criu] = registers.general.get(model) ?? before?.gpregs[criu] ?? 0n
  const { vector } = registers
  if (vector?.isa === 'aarch64') throw new UnreadableError('aarch64 vectors in an x86-64 thread')
  const fpregs = vector === undefined ? before?.fpregs : writeX86Vector(vector, before?.fpregs)
  if (fpregs === undefined) throw new UnreadableError('a CRIU image of x86-64 needs the floating point state')
  return {
    ...before,
    clear_tid_addr: clearTidAddress,
    gpregs: general as X86General,
    fpregs,
    tls: before?.tls ?? [],
  }
}

function readX86Vector(fp: X86Float): X86VectorState {
  const fxsave = new Uint8Array(512)
  const view = new DataView(fxsave.buffer)
  view.setUint16(0, fp.cwd, true)
  view.setUint16(2, fp.swd, true)
  view.setUint16(4, fp.twd, true)
  view.setUint16(6, fp.fop, true)
  view.setBigUint64(8, fp.rip, true)
  view.setBigUint64(16, fp.rdp, true)
  view.setUint32(24, fp.mxcsr, true)
  view.setUint32(28, fp.mxcsr_mask, true)
  setWords(view, 32, fp.st_space, 32)
  setWords(view, 160, fp.xmm_space, 64)
  setWords(view, 416, fp.padding, 24)
  const { xsave } = fp
  const inState = new Map<number, Uint8Array>()
  for (const [number, field, wordBytes, size] of xsave === undefined ? [] : components) {
    const words = xsave![field]
    if (words.length === 0) continue
    const component = new DataView(new ArrayBuffer(size))
    for (const [i, word] of words.entries()) {
      if ((i + 1) * wordBytes > size) break
      if (wordBytes === 4) component.setUint32(4 * i, word as number, true)
      else component.setBigUint64(8 * i, word as bigint, true)
    }
    inState.set(number, new Uint8Array(component.buffer))
  }
  if (xsave?.cet !== undefined) {
    const component = new DataView(new ArrayBuffer(16))
    component.setBigUint64(0, xsave.cet.cet, true)
    component.setBigUint64(8, xsave.cet.ssp, true)
    inState.set(CET, new Uint8Array(component.buffer))
  }
  return { isa: 'x86-64', fxsave, inUse: xsave?.xstate_bv ?? 3n, components: inState }
}

function writeX86Vector(vector: X86VectorState, before: X86Float | undefined): X86Float {
  const view = new DataView(vector.fxsave.buffer, vector.fxsave.byteOffset, 512)
  const words = (offset: number, count: number) =>
    Array.from({ length: count }, (_, i) => view.getUint32(offset + 4 * i, true))
  const fp = {
    ...before,
    cwd: view.getUint16(0, true),
    swd: view.getUint16(2, true),
    twd: view.getUint16(4, true),
    fop: view.getUint16(6, true),
    rip: view.getBigUint64(8, true),
    rdp: view.getBigUint64(16, true),
    mxcsr: view.getUint32(24, true),
    mxcsr_mask: view.getUint32(28, true),
    st_space: words(32, 32),
    xmm_space: words(160, 64),
    padding: before?.padding ?? [],
  }
  if (vector.components.size === 0 && before?.xsave === undefined) return fp
  const xsave: Record<string, unknown> = { ...before?.xsave, xstate_bv: vector.inUse }
  for (const [number, field, wordBytes] of components) {
    const bytes = vector.components.get(number)
    if (bytes === undefined) {
      xsave[field] ??= []
      continue
    }
    const component = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    // As many words as the record had: CRIU writes one of the two of PKRU.
    const count = before?.xsave?.[field].length || bytes.length / wordBytes
    xsave[field] = Array.from({ length: count }, (_, i) =>
      wordBytes === 4 ? component.getUint32(4 * i, true) : component.getBigUint64(8 * i, true),
    )
  }
  const cet = vector.components.get(CET)
  if (cet !== undefined) {
    const component = new DataView(cet.buffer, cet.byteOffset, cet.length)
    xsave.cet = {
      ...before?.xsave?.cet,
      cet: component.getBigUint64(0, true),
      ssp: component.getBigUint64(8, true),
    }
  }
  return { ...fp, xsave: xsave as X86Xsave }
}

function setWords(view: DataView, offset: number, words: readonly number[], most: number): void {
  for (let i = 0; i < Math.min(words.length, most); i++) view.setUint32(offset + 4 * i, words[i]!, true)
}

/** The same. @throws UnreadableError for another number of registers than the ISA has. */
export function readAarch64Registers(info: Aarch64Info): RegisterSet {
  const { gpregs, fpsimd } = info
  if (gpregs.regs.length !== 31 || fpsimd.vregs.length !== 64)
    throw new UnreadableError('an aarch64 thread with the wrong number of registers', {
      found: `${gpregs.regs.length} general, ${fpsimd.vregs.length} halves of vectors`,
      expected: '31 general, 64 halves of vectors',
    })
  const general = new Map(gpregs.regs.map((value, i) => [`x${i}`, value]))
  general.set('sp', gpregs.sp).set('pc', gpregs.pc).set('pstate', gpregs.pstate).set('tpidr_el0', info.tls)
  const v = Array.from({ length: 32 }, (_, i) => fpsimd.vregs[2 * i]! | (fpsimd.vregs[2 * i + 1]! << 64n))
  return { general, vector: { isa: 'aarch64', v, fpsr: fpsimd.fpsr, fpcr: fpsimd.fpcr } }
}

/** CRIU's record of `registers`; what the model does not hold comes from `before`. */
export function writeAarch64Registers(
  registers: RegisterSet,
  clearTidAddress: bigint,
  before?: Aarch64Info,
): Aarch64Info {
  const get = (name: string) => registers.general.get(name) ?? 0n
  const { vector } = registers
  if (vector?.isa === 'x86-64') throw new UnreadableError('x86-64 vectors in an aarch64 thread')
  const { v, fpsr, fpcr }: Aarch64VectorState = vector ?? {
    isa: 'aarch64',
    v: new Array<bigint>(32).fill(0n),
    fpsr: 0,
    fpcr: 0,
  }
  return {
    ...before,
    clear_tid_addr: clearTidAddress,
    tls: get('tpidr_el0'),
    gpregs: {
      ...before?.gpregs,
      regs: Array.from({ length: 31 }, (_, i) => get(`x${i}`)),
      sp: get('sp'),
      pc: get('pc'),
      pstate: get('pstate'),
    },
    fpsimd: {
      ...before?.fpsimd,
      vregs: v.flatMap(value => [BigInt.asUintN(64, value), value >> 64n]),
      fpsr,
      fpcr,
    },
  }
}
