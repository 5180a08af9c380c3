/**
 * The notes that every ELF core holds, as records: what gdb, readelf and the kernel's own dumps agree on.
 * Sources: linux/elfcore.h, asm/user_64.h (x86-64), asm/ptrace.h (aarch64), binfmt_elf.c.
 *
 *   NT_PRSTATUS   a thread: signal, ids, times, general registers (the first note is the thread that dumped)
 *   NT_FPREGSET   its x87/SSE (FXSAVE) or FP/SIMD registers
 *   NT_X86_XSTATE its whole XSAVE area        NT_ARM_TLS  its TPIDR_EL0
 *   NT_PRPSINFO   the process: name, arguments, ids
 *   NT_SIGINFO    why it stopped              NT_AUXV  the auxiliary vector
 *   NT_FILE       which mapping maps which file
 */
import { STANDARD_XSAVE, type XsaveLayout } from '../../isa/x86-64-xsave.js'
import { ByteReader, ByteWriter, cString } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { Aarch64VectorState, IsaName, X86VectorState } from '../../model/process.js'

export const NT = {
  PRSTATUS: 1,
  FPREGSET: 2,
  PRPSINFO: 3,
  AUXV: 6,
  X86_XSTATE: 0x202,
  ARM_TLS: 0x401,
  SIGINFO: 0x53494749,
  FILE: 0x46494c45,
} as const

/** Order of the general registers in NT_PRSTATUS: user_regs_struct (x86-64), user_pt_regs (aarch64). */
export const prstatusRegisters: Readonly<Record<IsaName, readonly string[]>> = {
  'x86-64':
    'r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base gs_base ds es fs gs'.split(
      ' ',
    ),
  aarch64: [...Array.from({ length: 31 }, (_, i) => `x${i}`), 'sp', 'pc', 'pstate'],
}

export interface ThreadStatus {
  readonly signal: number
  readonly pendingSignals: bigint
  readonly signalMask: bigint
  readonly tid: number
  readonly parent: number
  readonly processGroup: number
  readonly session: number
  /** User, system, children's user and children's system time, each seconds and microseconds. */
  readonly times: readonly bigint[]
  readonly registers: ReadonlyMap<string, bigint>
}

const SIGNAL_INFO_SIZE = 12
const TIMES = 8

/** @throws UnreadableError when the note is too short for its ISA. */
export function readThreadStatus(descriptor: Uint8Array, isa: IsaName): ThreadStatus {
  const reader = new ByteReader(descriptor)
  reader.skip(SIGNAL_INFO_SIZE)
  const signal = reader.u16('pr_cursig')
  reader.skip(2)
  const pendingSignals = reader.u64('pr_sigpend')
  const signalMask = reader.u64('pr_sighold')
  const [tid, parent, processGroup, session] = [reader.i32(), reader.i32(), reader.i32(), reader.i32()]
  const times = Array.from({ length: TIMES }, () => reader.u64('times'))
  const registers = new Map(prstatusRegisters[isa].map(name => [name, reader.u64(name)]))
  return { signal, pendingSignals, signalMask, tid, parent, processGroup, session, times, registers }
}

/** 336 bytes on x86-64, 392 on aarch64. */
export function writeThreadStatus(status: ThreadStatus, isa: IsaName): Uint8Array {
  const writer = new ByteWriter(400)
  writer
    .i32(status.signal)
    .zeros(SIGNAL_INFO_SIZE - 4)
    .u16(status.signal)
    .zeros(2)
  writer.u64(status.pendingSignals).u64(status.signalMask)
  writer.i32(status.tid).i32(status.parent).i32(status.processGroup).i32(status.session)
  for (let i = 0; i < TIMES; i++) writer.u64(status.times[i] ?? 0n)
  for (const name of prstatusRegisters[isa]) writer.u64(BigInt.asUintN(64, status.registers.get(name) ?? 0n))
  return writer.i32(1).zeros(4).finish()
}

export interface ProcessInfo {
  /** The state's letter as in /proc: R, S, D, T, Z. */
  readonly state: string
  readonly nice: number
  readonly uid: number
  readonly gid: number
  readonly pid: number
  readonly parent: number
  readonly processGroup: number
  readonly session: number
  readonly name: string
  readonly arguments: string
}

export function readProcessInfo(descriptor: Uint8Array): ProcessInfo {
  const reader = new ByteReader(descriptor)
  reader.skip(1)
  const state = String.fromCharCode(reader.u8('pr_sname'))
  reader.skip(1)
  const nice = (reader.u8('pr_nice') << 24) >> 24
  reader.skip(4 + 8)
  const [uid, gid] = [reader.u32(), reader.u32()]
  const [pid, parent, processGroup, session] = [reader.i32(), reader.i32(), reader.i32(), reader.i32()]
  const name = cString(reader.take(16, 'pr_fname'))
  return {
    state,
    nice,
    uid,
    gid,
    pid,
    parent,
    processGroup,
    session,
    name,
    arguments: cString(reader.take(80, 'pr_psargs')),
  }
}

export function writeProcessInfo(info: ProcessInfo): Uint8Array {
  const writer = new ByteWriter(136)
  writer
    .u8('RSDTZW'.indexOf(info.state) & 0xff)
    .u8(info.state.charCodeAt(0))
    .u8(info.state === 'Z' ? 1 : 0)
    .u8(info.nice & 0xff)
  writer
    .zeros(4 + 8)
    .u32(info.uid)
    .u32(info.gid)
  writer.i32(info.pid).i32(info.parent).i32(info.processGroup).i32(info.session)
  writer.put(fixedText(info.name, 16)).put(fixedText(info.arguments, 80))
  return writer.finish()
}

function fixedText(text: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  bytes.set(Buffer.from(text, 'utf8').subarray(0, size - 1))
  return bytes
}

/** (type, value) pairs up to AT_NULL. */
export function readAuxv(descriptor: Uint8Array): Array<readonly [bigint, bigint]> {
  const reader = new ByteReader(descriptor)
  const pairs: Array<readonly [bigint, bigint]> = []
  while (reader.remaining >= 16) {
    const pair = [reader.u64(), reader.u64()] as const
    if (pair[0] === 0n) break
    pairs.push(pair)
  }
  return pairs
}

export function writeAuxv(pairs: ReadonlyArray<readonly [bigint, bigint]>): Uint8Array {
  const writer = new ByteWriter((pairs.length + 1) * 16)
  for (const [type, value] of pairs) writer.u64(type).u64(value)
  return writer.zeros(16).finish()
}

export interface MappedFile {
  readonly start: bigint
  readonly end: bigint
  /** Byte offset in the file. */
  readonly offset: bigint
  readonly path: string
}

export function readMappedFiles(descriptor: Uint8Array): MappedFile[] {
  const reader = new ByteReader(descriptor)
  const count = reader.u64('NT_FILE count')
  const unit = reader.u64('NT_FILE page size')
  if (count > BigInt(limits.memoryRanges) || count * 24n > BigInt(reader.remaining))
    throw new UnreadableError('NT_FILE claims more files than it holds', {
      found: count,
      expected: `at most ${Math.floor(reader.remaining / 24)}`,
    })
  const ranges = Array.from({ length: Number(count) }, () => ({
    start: reader.u64(),
    end: reader.u64(),
    offset: reader.u64() * unit,
  }))
  const names = reader.take(reader.remaining)
  let at = 0
  return ranges.map(range => {
    const end = names.indexOf(0, at)
    const path = Buffer.from(names.subarray(at, end < 0 ? names.length : end)).toString('utf8')
    at = end < 0 ? names.length : end + 1
    return { ...range, path }
  })
}

export function writeMappedFiles(files: readonly MappedFile[]): Uint8Array {
  const writer = new ByteWriter(16 + files.length * 64)
  writer.u64(BigInt(files.length)).u64(4096n)
  for (const file of files)
    writer
      .u64(file.start)
      .u64(file.end)
      .u64(file.offset / 4096n)
  for (const file of files) writer.put(Buffer.from(file.path, 'utf8')).u8(0)
  return writer.finish()
}

/** What gdb expects of NT_X86_XSTATE, whatever the CPU's own offsets are; and PKRU, which it does not know. */
const xsaveComponents: XsaveLayout = new Map([...STANDARD_XSAVE, [9, { offset: 2688, size: 8 }]])
const XSAVE_HEADER = 512
/** Where gdb looks for XCR0, in the bytes of FXSAVE that software may use. */
const XCR0_OFFSET = 464
/** Up to ZMM: what gdb 13 takes. PKRU would lie beyond. */
const XSTATE_NOTE_SIZE = 2688

export function readXsave(descriptor: Uint8Array): X86VectorState {
  if (descriptor.length < XSAVE_HEADER + 64)
    throw new UnreadableError('NT_X86_XSTATE is too short', {
      found: descriptor.length,
      expected: 'at least 576 bytes',
    })
  const inUse = new DataView(descriptor.buffer, descriptor.byteOffset).getBigUint64(XSAVE_HEADER, true)
  const components = new Map<number, Uint8Array>()
  for (const [component, { offset, size }] of xsaveComponents)
    if ((inUse >> BigInt(component)) & 1n && offset + size <= descriptor.length)
      components.set(component, descriptor.subarray(offset, offset + size))
  // Bytes 464–511 are software's (XCR0 for gdb), no state of the thread.
  const fxsave = Uint8Array.from(descriptor.subarray(0, 512)).fill(0, XCR0_OFFSET)
  return { isa: 'x86-64', fxsave, inUse, components }
}

export function writeXsave(state: X86VectorState): Uint8Array {
  const bytes = new Uint8Array(XSTATE_NOTE_SIZE)
  bytes.set(state.fxsave)
  const view = new DataView(bytes.buffer)
  let supported = 3n
  let inUse = state.inUse & 3n
  for (const [component, { offset, size }] of xsaveComponents) {
    if (offset + size > bytes.length) continue
    supported |= 1n << BigInt(component)
    const content = state.components.get(component)
    if (content === undefined || !((state.inUse >> BigInt(component)) & 1n)) continue
    inUse |= 1n << BigInt(component)
    bytes.set(content, offset)
  }
  view.setBigUint64(XCR0_OFFSET, supported, true)
  view.setBigUint64(XSAVE_HEADER, inUse, true)
  return bytes
}

/** aarch64: V0–V31, FPSR, FPCR and padding, 528 bytes. */
export function readFpsimd(descriptor: Uint8Array): Aarch64VectorState {
  const reader = new ByteReader(descriptor)
  const v = Array.from({ length: 32 }, () => reader.u64('V register') | (reader.u64('V register') << 64n))
  return { isa: 'aarch64', v, fpsr: reader.u32('FPSR'), fpcr: reader.u32('FPCR') }
}

export function writeFpsimd(state: Aarch64VectorState): Uint8Array {
  const writer = new ByteWriter(528)
  for (let i = 0; i < 32; i++)
    writer.u64(BigInt.asUintN(64, state.v[i] ?? 0n)).u64(BigInt.asUintN(64, (state.v[i] ?? 0n) >> 64n))
  return writer.u32(state.fpsr).u32(state.fpcr).zeros(8).finish()
}
