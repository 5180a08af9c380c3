/**
 * The raw form of the ScratchVM's `vm_image.sav`: a C struct written as it stood in memory, little endian.
 *
 *   0        144   kvm_regs
 *   144      312   kvm_sregs
 *   456      520   MSRs: count u32, padding u32, 32 × {index u32, reserved u32, data u64}
 *   976      416   kvm_fpu
 *   1392       8   memory size            1400   8   guest physical base
 *   1408  983040   guest memory: a room of 0xF0000 bytes
 *   984448     1   number of open files   (7 bytes of padding; the 1,002,369 bytes that its README prints lack them)
 *   984456         64 × {guest fd i32, host fd i32, flags i32, start address u32, offset u64, path[256]}
 */
import { REGS_SIZE, SREGS_SIZE } from '../../isa/x86-64-kvm.js'
import { ByteReader, ByteWriter, cString } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'

export const MEMORY_ROOM = 0xf0000
export const MOST_FILES = 64
export const MSR_ROOM = 32
const FPU_SIZE = 416
export const PATH_ROOM = 256
const PADDING = 7
export const MEMORY_OFFSET = 1408
export const IMAGE_SIZE = 1_002_376
/** Without the padding before the files. */
export const IMAGE_SIZE_PACKED = IMAGE_SIZE - PADDING

export interface ScratchFile {
  guestFd: number
  hostFd: number
  flags: number
  startAddress: number
  offset: bigint
  /** 256 bytes; the path ends at the first NUL. */
  path: Uint8Array
}

/** All 32 MSRs and all 64 files, used or not: what lies in unused ones is kept. */
export interface ScratchRecord {
  registers: BigUint64Array
  special: Uint8Array
  msrCount: number
  msrPadding: number
  msrs: Array<{ index: number; reserved: number; data: bigint }>
  fpu: Uint8Array
  memorySize: bigint
  memoryBase: bigint
  /** 0xF0000 bytes. */
  memory: Uint8Array
  fileCount: number
  /** Empty in the packed form. */
  padding: Uint8Array
  files: ScratchFile[]
}

/** True when a file of this size and beginning may be one: the format has no magic. */
export function looksLikeScratch(size: number, head: Uint8Array): boolean {
  if (size !== IMAGE_SIZE && size !== IMAGE_SIZE_PACKED) return false
  const view = new DataView(head.buffer, head.byteOffset, head.length)
  return head.length >= 464 && view.getUint32(456, true) <= MSR_ROOM
}

/** @throws UnreadableError */
export function decodeScratch(bytes: Uint8Array, file?: string): ScratchRecord {
  if (bytes.length !== IMAGE_SIZE && bytes.length !== IMAGE_SIZE_PACKED)
    throw new UnreadableError('not an image of the ScratchVM', {
      file,
      found: `${bytes.length} bytes`,
      expected: `${IMAGE_SIZE} or ${IMAGE_SIZE_PACKED} bytes`,
    })
  const r = new ByteReader(bytes, { file })
  const registers = BigUint64Array.from({ length: REGS_SIZE / 8 }, () => r.u64())
  const special = r.take(SREGS_SIZE).slice()
  const msrCount = r.u32()
  const msrPadding = r.u32()
  const msrs = Array.from({ length: MSR_ROOM }, () => ({ index: r.u32(), reserved: r.u32(), data: r.u64() }))
  const fpu = r.take(FPU_SIZE).slice()
  const memorySize = r.u64()
  const memoryBase = r.u64()
  const memory = r.take(MEMORY_ROOM)
  const fileCount = r.u8()
  const padding = r.take(bytes.length === IMAGE_SIZE ? PADDING : 0).slice()
  const files = Array.from({ length: MOST_FILES }, () => ({
    guestFd: r.i32(),
    hostFd: r.i32(),
    flags: r.i32(),
    startAddress: r.u32(),
    offset: r.u64(),
    path: r.take(PATH_ROOM).slice(),
  }))
  const fail = (what: string, found: bigint | number): never => {
    throw new UnreadableError(what, { file, found })
  }
  if (msrCount > MSR_ROOM) fail('too many MSRs', msrCount)
  if (fileCount > MOST_FILES) fail('too many open files', fileCount)
  if (memorySize > BigInt(MEMORY_ROOM)) fail('impossible memory size', memorySize)
  if (memoryBase !== 0n) fail('a guest physical base other than 0', memoryBase)
  return {
    registers,
    special,
    msrCount,
    msrPadding,
    msrs,
    fpu,
    memorySize,
    memoryBase,
    memory,
    fileCount,
    padding,
    files,
  }
}

/** The reverse of `decodeScratch`. */
export function encodeScratch(record: ScratchRecord): Uint8Array {
  const w = new ByteWriter(IMAGE_SIZE)
  for (const value of record.registers) w.u64(value)
  w.put(record.special).u32(record.msrCount).u32(record.msrPadding)
  for (const { index, reserved, data } of record.msrs) w.u32(index).u32(reserved).u64(data)
  w.put(record.fpu).u64(record.memorySize).u64(record.memoryBase).put(record.memory)
  w.u8(record.fileCount).put(record.padding)
  for (const f of record.files)
    w.i32(f.guestFd).i32(f.hostFd).i32(f.flags).u32(f.startAddress).u64(f.offset).put(f.path)
  return w.finish()
}

export const filePath = (file: ScratchFile): string => cString(file.path)

/** struct kvm_fpu → the legacy area of XSAVE: fpr[8][16], fcw, fsw, ftwx, last_opcode, last_ip, last_dp, xmm[16][16], mxcsr. */
export function xsaveOfFpu(fpu: Uint8Array): Uint8Array {
  const from = new DataView(fpu.buffer, fpu.byteOffset, fpu.length)
  const xsave = new Uint8Array(4096)
  const to = new DataView(xsave.buffer)
  xsave.set(fpu.subarray(0, 128), 32)
  to.setUint16(0, from.getUint16(128, true), true)
  to.setUint16(2, from.getUint16(130, true), true)
  to.setUint8(4, from.getUint8(132))
  to.setUint16(6, from.getUint16(134, true), true)
  to.setBigUint64(8, from.getBigUint64(136, true), true)
  to.setBigUint64(16, from.getBigUint64(144, true), true)
  xsave.set(fpu.subarray(152, 408), 160)
  // KVM_GET_FPU leaves MXCSR 0 on some hosts: no program runs with all exceptions unmasked.
  to.setUint32(24, from.getUint32(408, true) & 0xffff || 0x1f80, true)
  to.setBigUint64(512, 3n, true)
  return xsave
}

/** The reverse. */
export function fpuOfXsave(xsave: Uint8Array): Uint8Array {
  const from = new DataView(xsave.buffer, xsave.byteOffset, xsave.length)
  const fpu = new Uint8Array(FPU_SIZE)
  const to = new DataView(fpu.buffer)
  fpu.set(xsave.subarray(32, 160))
  to.setUint16(128, from.getUint16(0, true), true)
  to.setUint16(130, from.getUint16(2, true), true)
  to.setUint8(132, from.getUint8(4))
  to.setUint16(134, from.getUint16(6, true), true)
  to.setBigUint64(136, from.getBigUint64(8, true), true)
  to.setBigUint64(144, from.getBigUint64(16, true), true)
  fpu.set(xsave.subarray(160, 416), 152)
  to.setUint32(408, from.getUint32(24, true), true)
  return fpu
}
