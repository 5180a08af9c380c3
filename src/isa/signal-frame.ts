/**
 * The frame that the kernel puts on a stack when it delivers a signal, and takes a thread's registers back from: rt_sigreturn
 * with the stack pointer at it makes the thread go on. Sources: Linux arch/x86/include/uapi/asm/sigcontext.h and
 * arch/arm64/include/uapi/asm/sigcontext.h. `context` below is where the kernel's ucontext_t lies: native/restore enters there.
 *
 *   x86-64                                    aarch64
 *     0  ucontext ◄ context                     0  siginfo, 128 bytes
 *          0 flags, link, alternate stack     128  ucontext ◄ context
 *         40 registers, pointer to FXSAVE          0 flags, link, alternate stack
 *        296 signal mask                          40 signal mask, room to 168
 *   304  siginfo, 128 bytes                      176 fault address, x0 … x30, sp, pc, pstate
 *   448  FXSAVE, 512 bytes; with vector          464 records { u32 magic, u32 size, … }: FPSIMD, end
 *        registers beyond SSE the XSAVE area   4688 (their room is 4096 bytes)
 */
import { ByteWriter } from '../lib/bytes.js'
import type { IsaName, Thread, X86VectorState } from '../model/process.js'
import { STANDARD_XSAVE } from './x86-64-xsave.js'

export interface SignalFrame {
  readonly bytes: Uint8Array
  /** Offset of the ucontext in the frame. */
  readonly context: number
}

interface FrameRules {
  /** Bytes below the stack pointer that belong to the code that was interrupted. */
  readonly redZone: bigint
  /** The frame's address is a multiple of it. */
  readonly alignment: bigint
  make(thread: Thread, address: bigint): SignalFrame
}

/** struct sigcontext_64 of x86-64, in order. */
const x86Order = 'r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip rflags'.split(' ')
const UC_FP_XSTATE = 1n
/** UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS: ss is taken from the frame. */
const UC_SS = 6n
const FXSAVE_AT = 448
const XSAVE_MAGIC_1 = 0x46505853
const XSAVE_MAGIC_2 = 0x46505845
const FPSIMD_MAGIC = 0x46508001
const FPSIMD_SIZE = 528

export const signalFrames: Readonly<Record<IsaName, FrameRules>> = {
  'x86-64': {
    redZone: 128n,
    alignment: 64n,
    make(thread, address) {
      const { general, vector } = thread.registers
      const state = vector?.isa === 'x86-64' ? floatingState(vector) : undefined
      const extended = state !== undefined && state.length > 512
      const out = new ByteWriter(FXSAVE_AT + (state?.length ?? 0))
      out.u64(UC_SS | (extended ? UC_FP_XSTATE : 0n)).u64(0n)
      alternateStack(out, thread)
      for (const name of x86Order) out.u64(general.get(name) ?? 0n)
      for (const name of ['cs', 'gs', 'fs', 'ss']) out.u16(Number(general.get(name) ?? 0n))
      out.zeros(4 * 8) // err, trapno, oldmask, cr2
      out.u64(state === undefined ? 0n : address + BigInt(FXSAVE_AT)).zeros(64)
      out.u64(thread.signalMask).zeros(FXSAVE_AT - 304)
      if (state) out.put(state)
      return { bytes: out.finish(), context: 0 }
    },
  },
  aarch64: {
    redZone: 0n,
    alignment: 16n,
    make(thread) {
      const { general, vector } = thread.registers
      const out = new ByteWriter(4688)
      out.zeros(128).u64(0n).u64(0n)
      alternateStack(out, thread)
      out.u64(thread.signalMask).zeros(128)
      out.u64(0n)
      for (let i = 0; i < 31; i++) out.u64(general.get(`x${i}`) ?? 0n)
      for (const name of ['sp', 'pc', 'pstate']) out.u64(general.get(name) ?? 0n)
      out.zeros(8)
      if (vector?.isa === 'aarch64') {
        out.u32(FPSIMD_MAGIC).u32(FPSIMD_SIZE).u32(vector.fpsr).u32(vector.fpcr)
        for (const v of vector.v) out.u64(v & 0xffff_ffff_ffff_ffffn).u64(v >> 64n)
      }
      out.zeros(4688 - out.length)
      return { bytes: out.finish(), context: 128 }
    },
  },
}

/** stack_t: what sigaltstack(2) had set; SS_DISABLE where there is none. */
function alternateStack(out: ByteWriter, { alternateStack: stack }: Thread): void {
  const SS_DISABLE = 2
  out
    .u64(stack?.address ?? 0n)
    .u32(stack?.flags ?? SS_DISABLE)
    .u32(0)
    .u64(stack?.size ?? 0n)
}

/** The FXSAVE image, or the XSAVE area when a component beyond SSE is in use. */
function floatingState({ fxsave, inUse, components }: X86VectorState): Uint8Array {
  const used = [...STANDARD_XSAVE].filter(
    ([number]) => components.has(number) && (inUse >> BigInt(number)) & 1n,
  )
  const plain = new Uint8Array(512)
  plain.set(fxsave.subarray(0, 464))
  if (used.length === 0) return plain
  const size = Math.max(...used.map(([, { offset, size }]) => offset + size))
  const features = used.reduce((bits, [number]) => bits | (1n << BigInt(number)), 3n)
  const area = new Uint8Array(size + 4)
  area.set(plain)
  const view = new DataView(area.buffer)
  view.setUint32(464, XSAVE_MAGIC_1, true)
  view.setUint32(468, area.length, true)
  view.setBigUint64(472, features, true)
  view.setUint32(480, size, true)
  view.setBigUint64(512, inUse & features, true)
  for (const [number, place] of used) area.set(components.get(number)!.subarray(0, place.size), place.offset)
  view.setUint32(size, XSAVE_MAGIC_2, true)
  return area
}
