/**
 * Delivery of signals to the guest, as Linux does it on x86-64 (arch/x86/include/uapi/asm/sigcontext.h, ucontext.h).
 *
 *   stack, downwards:  red zone 128 │ XSAVE area, 64-aligned │ siginfo 128 │ ucontext 304 │ return address ◄ rsp
 *   ucontext: flags, link, sigaltstack 24, registers 256 (r8–r15 rdi rsi rbp rbx rdx rax rcx rsp rip rflags
 *             cs/gs/fs/ss err trapno oldmask cr2 fpstate reserved), signal mask 8
 */
import { R } from '../../isa/x86-64-kvm.js'
import { USER_END } from '../../isa/x86-64-program.js'
import { XSAVE_SIZE } from '../../isa/x86-64-xsave.js'
import { GUEST_PID, TIMER_ABSTIME } from './clocks.js'
import { fitXsave, initialXsave } from './cpu.js'
import { type Guest, GuestExit } from './guest.js'
import { BadAddress } from './guest-memory.js'
import { hostCall, NR } from './libc.js'
import { bitOf, type RaisedSignal } from './pending-signals.js'
import { E } from './syscalls/table.js'
import { noteTaken } from './timers.js'

const SA = {
  SIGINFO: 4n,
  RESTORER: 0x04000000n,
  ONSTACK: 0x08000000n,
  RESTART: 0x10000000n,
  NODEFER: 0x40000000n,
  RESETHAND: 0x80000000n,
}
const SIG_DFL = 0n
const SIG_IGN = 1n
const SS_DISABLE = 2
/** CHLD, CONT, URG, WINCH do nothing when nobody handles them; the stops are not offered. */
const IGNORED_BY_DEFAULT = new Set([17, 18, 23, 28, 19, 20, 21, 22])
/** SIGKILL and SIGSTOP are never blocked. */
export const UNBLOCKABLE = (1n << 8n) | (1n << 18n)
const SIGSEGV = 11
const NANOSLEEP = 35
const CLOCK_NANOSLEEP = 230
/** `syscall` (0f 05): rip goes back over it where a call is to be made again. */
export const SYSCALL_LENGTH = 2n
/** Those that SA_RESTART makes again after the handler: open, read, write, readv, writev, ioctl, fcntl, flock (signal(7)). */
const RESTARTED_AFTER_HANDLER = new Set([0, 1, 2, 16, 19, 20, 72, 73, 257])
const GENERAL_PROTECTION = 13
const CONTEXT = 40
const UCONTEXT_SIZE = 304
export const SIGINFO_SIZE = 128
const LEGACY_SIZE = 512
/** With the header of XSAVE. */
const XSAVE_LEAST = 576
/** x87, SSE, AVX and AVX-512. */
const USER_COMPONENTS = 0xe7n
const MAGIC1 = 0x46505853
const MAGIC2 = 0x46505845
/** The order of the registers in struct sigcontext. */
const ORDER = [
  ...[R.r8, R.r9, R.r10, R.r11, R.r12, R.r13, R.r14, R.r15, R.rdi, R.rsi],
  ...[R.rbp, R.rbx, R.rdx, R.rax, R.rcx, R.rsp, R.rip, R.rflags],
]
/** Flags that a program may set: CF PF AF ZF SF TF DF OF AC ID; bit 1 is always set. */
const USER_FLAGS = 0x240dd5n

/** What is told of a fault, beyond the number of its signal. */
export interface FaultInfo {
  readonly vector: number
  readonly errorCode: number
  readonly address: bigint
}

/** The signal of each exception (arch/x86/kernel/traps.c). */
export function signalOfVector(vector: number): number {
  if (vector === 0 || vector === 16 || vector === 19) return 8 // SIGFPE
  if (vector === 6) return 4 // SIGILL
  if (vector === 1 || vector === 3) return 5 // SIGTRAP
  if (vector === 17) return 7 // SIGBUS
  return SIGSEGV
}

/** The size of the XSAVE area that XCR0 asks for, standard format (Intel SDM 1, 13.4). */
const xsaveSize = (xcr0: bigint) => ((xcr0 & 0xe0n) !== 0n ? 2688 : (xcr0 & 4n) !== 0n ? 832 : 576)

/** True when the program has a handler of its own and does not block the signal. */
export function handles(guest: Guest, signal: number): boolean {
  const handler = guest.process.actions.get(signal)?.handler ?? SIG_DFL
  return handler > SIG_IGN && (guest.process.signalMask & bitOf(signal)) === 0n
}

/** The first signal that is pending, not blocked and not ignored; ignored ones are dropped. */
export function nextSignal({ process }: Guest): number | undefined {
  const { pending } = process
  for (;;) {
    const signal = pending.next(~process.signalMask)
    if (signal === undefined) return undefined
    const handler = process.actions.get(signal)?.handler ?? SIG_DFL
    if (handler !== SIG_IGN && (handler !== SIG_DFL || !IGNORED_BY_DEFAULT.has(signal))) return signal
    pending.replace(raised => raised.signal === signal)
  }
}

/** True when a call that waits ends with the handler of the signal, instead of being made again after it. */
export function endsCall(guest: Guest, nr: number, signal: number): boolean {
  const restarts = ((guest.process.actions.get(signal)?.flags ?? 0n) & SA.RESTART) !== 0n
  return !(restarts && RESTARTED_AFTER_HANDLER.has(nr))
}

/** A signal that the program itself is the cause of. False: too many wait. */
export function raiseBySelf({ process }: Guest, signal: number, code: number): boolean {
  const detail = hostCall(NR.getuid)
  return process.pending.raise({ signal, code, sender: GUEST_PID, detail, value: 0n })
}

/** Takes a signal that is pending: the program is told of it now. */
export function takeSignal(guest: Guest, signal: number): RaisedSignal {
  const raised = guest.process.pending.take(signal)
  noteTaken(guest, raised)
  return raised
}

/** Delivers what is pending and not blocked. The CPU must stand between two instructions of the program. @throws GuestExit */
export function deliverPending(guest: Guest): void {
  const { process } = guest
  for (let signal = nextSignal(guest); signal !== undefined; signal = nextSignal(guest)) {
    const raised = takeSignal(guest, signal)
    if ((process.actions.get(signal)?.handler ?? SIG_DFL) === SIG_DFL)
      throw new GuestExit(128 + signal, signal)
    endInterruptedCall(guest, signal)
    deliver(guest, signal, into => writeSiginfo(into, raised))
  }
}

/** The program stands at a call that waited and is to be made again: when its handler ends such a call, it ends now. */
function endInterruptedCall(guest: Guest, signal: number): void {
  const { process, cpu } = guest
  const left = process.waitLeft
  process.waitLeft = undefined
  if (left === undefined || !endsCall(guest, Number(cpu.registers[R.rax]), signal)) return
  tellRest(guest, left)
  cpu.registers[R.rip] = cpu.registers[R.rip]! + SYSCALL_LENGTH
  cpu.registers[R.rax] = BigInt.asUintN(64, BigInt(-E.EINTR))
}

/** The program's registers are those of a call that ends with a handler: a sleep says what is left of it. */
export function tellRest({ memory, cpu: { registers } }: Guest, left: bigint): void {
  const nr = Number(registers[R.rax])
  const toMoment = (registers[R.rsi]! & BigInt(TIMER_ABSTIME)) !== 0n
  const address =
    nr === NANOSLEEP ? registers[R.rsi]! : nr === CLOCK_NANOSLEEP && !toMoment ? registers[R.r10]! : 0n
  if (address === 0n) return
  try {
    memory.setU64(address, left / 1_000_000_000n)
    memory.setU64(address + 8n, left % 1_000_000_000n)
  } catch (error) {
    if (!(error instanceof BadAddress)) throw error
  }
}

/** siginfo_t of a signal that somebody raised, into 128 zeros. */
export function writeSiginfo(into: DataView, { signal, code, sender, detail, value }: RaisedSignal): void {
  into.setInt32(0, signal, true)
  into.setInt32(8, code, true)
  into.setInt32(16, sender, true)
  into.setInt32(20, detail, true)
  into.setBigUint64(24, value, true)
}

/** The signal of an exception of the program. */
export function deliverFault(guest: Guest, signal: number, fault: FaultInfo): void {
  const tell = (into: DataView) => {
    into.setInt32(0, signal, true)
    into.setInt32(8, faultCode(fault), true)
    into.setBigUint64(16, fault.vector === 14 ? fault.address : guest.cpu.registers[R.rip]!, true)
  }
  deliver(guest, signal, tell, fault)
}

/** Builds the frame and lets the program go on in its handler. `tell` fills siginfo_t. */
function deliver(guest: Guest, signal: number, tell: (siginfo: DataView) => void, fault?: FaultInfo): void {
  const { memory, process, cpu } = guest
  cpu.settle()
  const action = process.actions.get(signal)!
  const state = cpu.readState()
  const { registers } = cpu
  const onAlternate = (sp: bigint) =>
    sp > process.alternateStack.address && sp <= process.alternateStack.address + process.alternateStack.size
  let sp = registers[R.rsp]! - 128n
  if ((action.flags & SA.ONSTACK) !== 0n && process.alternateStack.flags !== SS_DISABLE && !onAlternate(sp))
    sp = process.alternateStack.address + process.alternateStack.size
  const extended = xsaveSize(state.xcr0)
  const fpstate = (sp - BigInt(extended) - 4n) & ~63n
  const siginfo = fpstate - BigInt(SIGINFO_SIZE)
  const frame = ((siginfo - BigInt(UCONTEXT_SIZE) - 8n) & ~15n) - 8n
  const ucontext = frame + 8n
  let at: number
  try {
    at = memory.writable(frame, Number(sp - frame))
  } catch (error) {
    // No room for the frame: the program cannot be told, as in Linux.
    if (error instanceof BadAddress) throw new GuestExit(128 + SIGSEGV, SIGSEGV)
    throw error
  }
  const { view, bytes } = memory
  bytes.fill(0, at, at + Number(sp - frame))
  const u64 = (address: bigint, value: bigint) => view.setBigUint64(Number(address), value, true)
  u64(frame, action.restorer)
  u64(ucontext, 1n) // UC_FP_XSTATE
  u64(ucontext + 16n, process.alternateStack.address)
  u64(ucontext + 24n, BigInt(process.alternateStack.flags))
  u64(ucontext + 32n, process.alternateStack.size)
  const context = ucontext + BigInt(CONTEXT)
  for (const [i, register] of ORDER.entries()) u64(context + BigInt(i * 8), registers[register]!)
  u64(context + 144n, 0x002b_0000_0000_0033n) // ss, fs, gs, cs as Linux's own
  u64(context + 152n, BigInt(fault?.errorCode ?? 0))
  u64(context + 160n, BigInt(fault?.vector ?? 0))
  // The handler's mask is that of the wait; what it returns to is the one before.
  const maskBefore = process.maskPutAside ?? process.signalMask
  process.maskPutAside = undefined
  u64(context + 168n, maskBefore)
  u64(context + 176n, fault?.address ?? 0n)
  u64(context + 184n, fpstate)
  u64(ucontext + 296n, maskBefore)
  const fp = Number(fpstate)
  bytes.set(state.xsave.subarray(0, extended), fp)
  view.setUint32(fp + 464, MAGIC1, true)
  view.setUint32(fp + 468, extended + 4, true)
  view.setBigUint64(fp + 472, state.xcr0, true)
  view.setUint32(fp + 480, extended, true)
  view.setUint32(fp + extended, MAGIC2, true)
  tell(new DataView(bytes.buffer, bytes.byteOffset + Number(siginfo), SIGINFO_SIZE))

  process.signalMask |= action.mask
  if ((action.flags & SA.NODEFER) === 0n) process.signalMask |= bitOf(signal)
  if ((action.flags & SA.RESETHAND) !== 0n) process.actions.delete(signal)
  registers[R.rsp] = frame
  registers[R.rip] = action.handler
  registers[R.rdi] = BigInt(signal)
  registers[R.rsi] = siginfo
  registers[R.rdx] = ucontext
  registers[R.rax] = 0n
  registers[R.rflags] = registers[R.rflags]! & ~0x400n // DF clear, as the ABI wants
}

/** SEGV_MAPERR 1, SEGV_ACCERR 2, FPE_INTDIV 1, ILL_ILLOPN 2. */
function faultCode(fault: FaultInfo): number {
  if (fault.vector === 14) return (fault.errorCode & 1) !== 0 ? 2 : 1
  if (fault.vector === 0) return 1
  if (fault.vector === 6) return 2
  return 0x80 // SI_KERNEL
}

/** rt_sigreturn: everything back from the frame at rsp. Returns what rax is to be. */
export function returnFromHandler(guest: Guest): bigint {
  const { memory, process, cpu } = guest
  cpu.settle()
  const ucontext = cpu.registers[R.rsp]!
  const at = memory.readable(ucontext, UCONTEXT_SIZE)
  const { view } = memory
  const registers = cpu.registers.slice()
  const context = at + CONTEXT
  for (const [i, register] of ORDER.entries()) registers[register] = view.getBigUint64(context + i * 8, true)
  registers[R.rflags] = (registers[R.rflags]! & USER_FLAGS) | 2n
  process.signalMask = view.getBigUint64(at + 296, true) & ~UNBLOCKABLE
  const state = cpu.readState()
  const fpstate = view.getBigUint64(context + 184, true)
  const xsave = fpstate === 0n ? state.xsave : fitXsave(xsaveOfFrame(guest, fpstate), state.xcr0)
  const rip = registers[R.rip]!
  // No CPU takes such an address: Linux kills with SIGSEGV there, too.
  if (rip >= USER_END) registers[R.rip] = 0n
  cpu.writeState({ ...state, registers, xsave })
  if (rip < USER_END) return registers[R.rax]!
  if (!handles(guest, SIGSEGV)) throw new GuestExit(128 + SIGSEGV, SIGSEGV)
  deliverFault(guest, SIGSEGV, { vector: GENERAL_PROTECTION, errorCode: 0, address: 0n })
  return 0n
}

/**
 * The XSAVE area of a frame. The frame itself says how long it is: it may have been built by another CPU.
 * What a program may have put there must not be refused by the CPU.
 */
function xsaveOfFrame(guest: Guest, address: bigint): Uint8Array {
  const { memory } = guest
  const legacy = memory.readable(address, LEGACY_SIZE)
  const size = memory.view.getUint32(legacy + 480, true)
  const extended =
    memory.view.getUint32(legacy + 464, true) === MAGIC1 && size >= XSAVE_LEAST && size <= XSAVE_SIZE
  const at = memory.readable(address, extended ? size : LEGACY_SIZE)
  const xsave = initialXsave()
  xsave.set(memory.bytes.subarray(at, at + (extended ? size : LEGACY_SIZE)))
  const header = new DataView(xsave.buffer, xsave.byteOffset)
  header.setUint32(24, header.getUint32(24, true) & 0xffff, true)
  header.setBigUint64(512, (header.getBigUint64(512, true) & USER_COMPONENTS) | 3n, true)
  xsave.fill(0, 520, 576)
  return xsave
}
