/**
 * The raw form of the format `microvm`: bytes ⇄ records, nothing lost, byte-identical both ways.
 *
 *   0        8   magic "IMAGOVM" 0x1a
 *   8        4   version, 1
 *   12       4   number of sections
 *   16       8   H: length of the header, a multiple of 4096; guest memory begins there
 *   24       8   bytes of guest physical memory
 *   32       8   of these, bytes that the guest may use (see engines/microvm/layout.ts)
 *   40      32   SHA-256 of the first H bytes, with these 32 as zeros
 *   72           section table: kind u32, reserved u32, offset u64, length u64 (24 bytes each)
 *   …            sections, within the header, each at a multiple of 8
 *   H            guest physical address a lies at H + a; what no extent names is a hole, and zero
 *   H + memory   contents of open files, one after the other
 *
 * Texts are u32 length and bytes (Latin-1: paths are bytes). docs/formats/microvm.md has every field.
 */
import crypto from 'node:crypto'
import { REGS_SIZE, SREGS_SIZE } from '../../isa/x86-64-kvm.js'
import { alignUp, ByteReader, ByteWriter } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'

export const MAGIC = Buffer.from('IMAGOVM\u001a', 'latin1')
export const VERSION = 1
const PAGE = 4096
const FIXED = 72
const ENTRY = 24
export const DIGEST_AT = 40
export const DIGEST = 32
/** Far above what a guest with 4 GiB in single pages needs. */
export const MOST_HEADER = 64 << 20
const MOST_MEMORY = 1n << 32n
const MOST_XSAVE = 16384
const MOST_TEXT = 4096

/** Sections by kind. Others are kept as they are. */
const SECTION = { cpu: 1, process: 2, signals: 3, mappings: 4, files: 5, extents: 6 } as const

export interface CpuRecord {
  /** 18 × u64, struct kvm_regs. */
  registers: BigUint64Array
  /** struct kvm_sregs. */
  special: Uint8Array
  msrs: Array<{ index: number; value: bigint }>
  xcr0: bigint
  xsave: Uint8Array
  /** CPU features (as /proc/cpuinfo names them) without which the program may not go on. */
  features: string
}

export interface ProcessRecord {
  engine: string
  name: string
  rootFolder: string
  workingDirectory: string
  readOnly: boolean
  umask: number
  brkStart: bigint
  brk: bigint
  clearTid: bigint
  signalMask: bigint
  pendingSignals: bigint
  alternateStack: { address: bigint; size: bigint; flags: number }
  /** What is left of a sleep, nanoseconds; −1: none. */
  sleepLeft: bigint
  /** Nanoseconds since 1970. */
  savedAt: bigint
}

export interface SignalRecord {
  signal: number
  handler: bigint
  flags: bigint
  restorer: bigint
  mask: bigint
}

export interface MappingRecord {
  start: bigint
  end: bigint
  protection: number
  name: string
}

export const fileKinds = ['standard', 'regular', 'directory', 'pipe-read', 'pipe-write'] as const

export interface FileRecord {
  kind: number
  flags: number
  mode: number
  /** Shared by the two ends of a pipe; −1: no pipe. */
  pipe: number
  offset: bigint
  size: bigint
  /** Nanoseconds since 1970. */
  mtime: bigint
  /** Where its first bytes stood in guest memory when they were written; 0: unknown. */
  writtenFrom: bigint
  /** Content in the image: offset 0 when it is not there. */
  contentOffset: bigint
  contentLength: bigint
  contentDigest: Uint8Array
  /** Absolute within the root. */
  path: string
  /** As the guest spelt it. */
  name: string
}

export interface DescriptorRecord {
  fd: number
  file: number
  closeOnExec: number
}

export interface ExtentRecord {
  address: bigint
  length: bigint
  /** CRC-32 of the bytes. */
  crc: number
}

export interface MicroVmRecord {
  /** H is at least this: a receiver chooses where memory lies before it knows the sections. */
  leastHeader?: number
  memoryBytes: bigint
  usableBytes: bigint
  cpu: CpuRecord
  process: ProcessRecord
  signals: SignalRecord[]
  mappings: MappingRecord[]
  files: FileRecord[]
  descriptors: DescriptorRecord[]
  extents: ExtentRecord[]
  /** Sections of a kind that this version does not know. */
  unknown: Array<{ kind: number; bytes: Uint8Array }>
}

const text = (w: ByteWriter, value: string) => {
  const bytes = Buffer.from(value, 'latin1')
  w.u32(bytes.length).put(bytes)
}
const readText = (r: ByteReader, what: string, most = MOST_TEXT): string => {
  const length = r.u32(what)
  if (length > most)
    throw new UnreadableError(`${what} is too long`, { found: length, expected: `at most ${most} bytes` })
  return Buffer.from(r.take(length, what)).toString('latin1')
}
const readList = <T>(r: ByteReader, most: number, smallest: number, what: string, one: () => T): T[] => {
  const count = r.u32(what)
  if (count > most || count * smallest > r.remaining)
    throw new UnreadableError(`too many ${what}`, {
      found: count,
      expected: `at most ${Math.min(most, Math.floor(r.remaining / smallest))}`,
    })
  return Array.from({ length: count }, one)
}

/** Each section: how it is written and read, side by side. */
const codecs = {
  [SECTION.cpu]: {
    write(w: ByteWriter, { cpu }: MicroVmRecord) {
      for (const value of cpu.registers) w.u64(value)
      w.put(cpu.special).u32(cpu.msrs.length)
      for (const { index, value } of cpu.msrs) w.u32(index).u64(value)
      w.u64(cpu.xcr0).u32(cpu.xsave.length).put(cpu.xsave)
      text(w, cpu.features)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      const registers = BigUint64Array.from({ length: REGS_SIZE / 8 }, () => r.u64('register'))
      const special = r.take(SREGS_SIZE, 'special registers').slice()
      const msrs = readList(r, 256, 12, 'MSRs', () => ({ index: r.u32(), value: r.u64() }))
      const xcr0 = r.u64('XCR0')
      const length = r.u32('XSAVE length')
      if (length < 576 || length > MOST_XSAVE)
        throw new UnreadableError('impossible length of the XSAVE area', {
          found: length,
          expected: `576 to ${MOST_XSAVE}`,
        })
      const xsave = r.take(length, 'XSAVE area').slice()
      into.cpu = { registers, special, msrs, xcr0, xsave, features: readText(r, 'CPU features') }
    },
  },
  [SECTION.process]: {
    write(w: ByteWriter, { process: p }: MicroVmRecord) {
      w.u32(p.readOnly ? 1 : 0).u32(p.umask)
      for (const value of [p.brkStart, p.brk, p.clearTid, p.signalMask, p.pendingSignals]) w.u64(value)
      w.u64(p.alternateStack.address).u64(p.alternateStack.size).i32(p.alternateStack.flags)
      w.i64(p.sleepLeft).u64(p.savedAt)
      for (const value of [p.engine, p.name, p.rootFolder, p.workingDirectory]) text(w, value)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      const flags = r.u32('process flags')
      if (flags > 1) throw new UnreadableError('unknown process flags', { found: flags, expected: '0 or 1' })
      const readOnly = flags === 1
      const umask = r.u32()
      const [brkStart, brk, clearTid, signalMask, pendingSignals] = Array.from({ length: 5 }, () =>
        r.u64(),
      ) as [bigint, bigint, bigint, bigint, bigint]
      const alternateStack = { address: r.u64(), size: r.u64(), flags: r.i32() }
      const sleepLeft = r.i64()
      const savedAt = r.u64()
      const [engine, name, rootFolder, workingDirectory] = [
        'engine',
        'program',
        'root folder',
        'working directory',
      ].map(what => readText(r, what)) as [string, string, string, string]
      into.process = {
        engine,
        name,
        rootFolder,
        workingDirectory,
        readOnly,
        umask,
        brkStart,
        brk,
        clearTid,
        signalMask,
        pendingSignals,
        alternateStack,
        sleepLeft,
        savedAt,
      }
    },
  },
  [SECTION.signals]: {
    write(w: ByteWriter, { signals }: MicroVmRecord) {
      w.u32(signals.length)
      for (const s of signals) w.u32(s.signal).u64(s.handler).u64(s.flags).u64(s.restorer).u64(s.mask)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.signals = readList(r, 64, 36, 'signal actions', () => ({
        signal: r.u32(),
        handler: r.u64(),
        flags: r.u64(),
        restorer: r.u64(),
        mask: r.u64(),
      }))
    },
  },
  [SECTION.mappings]: {
    write(w: ByteWriter, { mappings }: MicroVmRecord) {
      w.u32(mappings.length)
      for (const m of mappings) {
        w.u64(m.start).u64(m.end).u32(m.protection)
        text(w, m.name)
      }
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.mappings = readList(r, limits.memoryRanges, 24, 'mappings', () => ({
        start: r.u64(),
        end: r.u64(),
        protection: r.u32(),
        name: readText(r, 'name of a mapping'),
      }))
    },
  },
  [SECTION.files]: {
    write(w: ByteWriter, { files, descriptors }: MicroVmRecord) {
      w.u32(files.length)
      for (const f of files) {
        w.u32(f.kind).u32(f.flags).u32(f.mode).i32(f.pipe)
        for (const value of [f.offset, f.size, f.mtime, f.writtenFrom, f.contentOffset, f.contentLength])
          w.u64(value)
        w.put(f.contentDigest)
        text(w, f.path)
        text(w, f.name)
      }
      w.u32(descriptors.length)
      for (const d of descriptors) w.u32(d.fd).u32(d.file).u32(d.closeOnExec)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.files = readList(r, 4096, 104, 'open files', () => {
        const [kind, flags, mode] = [r.u32(), r.u32(), r.u32()] as const
        const pipe = r.i32()
        const [offset, size, mtime, writtenFrom, contentOffset, contentLength] = Array.from(
          { length: 6 },
          () => r.u64(),
        ) as [bigint, bigint, bigint, bigint, bigint, bigint]
        return {
          kind,
          flags,
          mode,
          pipe,
          offset,
          size,
          mtime,
          writtenFrom,
          contentOffset,
          contentLength,
          contentDigest: r.take(DIGEST, 'digest').slice(),
          path: readText(r, 'path'),
          name: readText(r, 'name of a file'),
        }
      })
      into.descriptors = readList(r, 4096, 12, 'descriptors', () => ({
        fd: r.u32(),
        file: r.u32(),
        closeOnExec: r.u32(),
      }))
    },
  },
  [SECTION.extents]: {
    write(w: ByteWriter, { extents }: MicroVmRecord) {
      w.u32(extents.length)
      for (const e of extents) w.u64(e.address).u64(e.length).u32(e.crc)
    },
    read(r: ByteReader, into: MicroVmRecord) {
      into.extents = readList(r, limits.memoryRanges, 20, 'extents', () => ({
        address: r.u64(),
        length: r.u64(),
        crc: r.u32(),
      }))
    },
  },
} as const

/** The header, digest included. */
export function encodeHeader(record: MicroVmRecord): Uint8Array {
  const sections: Array<{ kind: number; bytes: Uint8Array }> = []
  for (const [kind, codec] of Object.entries(codecs)) {
    const w = new ByteWriter(1024)
    codec.write(w, record)
    sections.push({ kind: Number(kind), bytes: w.finish() })
  }
  sections.push(...record.unknown)
  let at = alignUp(FIXED + sections.length * ENTRY, 8)
  const places = sections.map(({ bytes }) => {
    const place = at
    at = alignUp(at + bytes.length, 8)
    return place
  })
  const header = new Uint8Array(alignUp(Math.max(at, record.leastHeader ?? 0), PAGE))
  const w = new ByteWriter(FIXED + sections.length * ENTRY)
  w.put(MAGIC).u32(VERSION).u32(sections.length).u64(BigInt(header.length))
  w.u64(record.memoryBytes).u64(record.usableBytes).zeros(DIGEST)
  for (const [i, { kind, bytes }] of sections.entries())
    w.u32(kind).u32(0).u64(BigInt(places[i]!)).u64(BigInt(bytes.length))
  header.set(w.finish())
  for (const [i, { bytes }] of sections.entries()) header.set(bytes, places[i]!)
  header.set(digestOf(header), DIGEST_AT)
  return header
}

function digestOf(header: Uint8Array): Uint8Array {
  const zeros = new Uint8Array(DIGEST)
  return crypto
    .createHash('sha256')
    .update(header.subarray(0, DIGEST_AT))
    .update(zeros)
    .update(header.subarray(DIGEST_AT + DIGEST))
    .digest()
}

/** Length of the header, from the first 72 bytes. @throws UnreadableError */
export function headerLength(head: Uint8Array, file?: string): number {
  const r = new ByteReader(head, { file })
  if (!MAGIC.equals(r.take(8, 'magic')))
    throw new UnreadableError('not a microvm image', {
      file,
      found: Buffer.from(head.subarray(0, 8)).toString('hex'),
    })
  const version = r.u32('version')
  if (version !== VERSION)
    throw new UnreadableError('an unknown version of the format microvm', {
      file,
      offset: 8,
      found: version,
      expected: VERSION,
    })
  r.skip(4)
  const length = r.u64('header length')
  if (length < PAGE || length > MOST_HEADER || length % 4096n !== 0n)
    throw new UnreadableError('impossible header length', {
      file,
      offset: 16,
      found: length,
      expected: `a multiple of 4096 up to ${MOST_HEADER}`,
    })
  return Number(length)
}

/** The records of a whole header. @throws UnreadableError */
export function decodeHeader(header: Uint8Array, file?: string): MicroVmRecord {
  if (headerLength(header, file) !== header.length) throw new UnreadableError('truncated header', { file })
  const found = header.slice(DIGEST_AT, DIGEST_AT + DIGEST)
  if (!Buffer.from(digestOf(header)).equals(found))
    throw new UnreadableError('the header is damaged: its checksum differs', { file, offset: DIGEST_AT })
  const r = new ByteReader(header, { file, position: 12 })
  const count = r.u32()
  r.skip(8)
  const record = { memoryBytes: r.u64(), usableBytes: r.u64(), unknown: [] } as unknown as MicroVmRecord
  if (
    record.memoryBytes > MOST_MEMORY ||
    record.usableBytes > record.memoryBytes ||
    record.memoryBytes % 4096n !== 0n
  )
    throw new UnreadableError('impossible memory size', { file, offset: 24, found: record.memoryBytes })
  r.skip(DIGEST)
  if (count > 64)
    throw new UnreadableError('too many sections', { file, found: count, expected: 'at most 64' })
  const seen = new Set<number>()
  for (let i = 0; i < count; i++) {
    const kind = r.u32('section')
    r.skip(4)
    const offset = r.u64('section offset')
    const length = r.u64('section length')
    if (offset < FIXED || offset + length > header.length || seen.has(kind))
      throw new UnreadableError(`section ${kind} is repeated or lies outside of the header`, { file, offset })
    seen.add(kind)
    const bytes = header.subarray(Number(offset), Number(offset + length))
    const codec = codecs[kind as keyof typeof codecs]
    if (codec === undefined) {
      record.unknown.push({ kind, bytes: bytes.slice() })
      continue
    }
    const section = new ByteReader(bytes, { base: Number(offset), file })
    codec.read(section, record)
    if (section.remaining > 0)
      throw new UnreadableError(`section ${kind} is longer than its content`, {
        file,
        offset,
        found: `${section.remaining} bytes left`,
      })
  }
  for (const [name, kind] of Object.entries(SECTION))
    if (!seen.has(kind)) throw new UnreadableError(`the section '${name}' is missing`, { file })
  checkMeaning(record, file)
  // What is longer than its sections need must stay so for the same bytes to come out.
  if (encodeHeader(record).length < header.length) record.leastHeader = header.length
  return record
}

/** What the rest relies on: everything lies where it may, nothing overlaps. */
function checkMeaning(record: MicroVmRecord, file: string | undefined): void {
  const fail = (what: string, found?: bigint | number): never => {
    throw new UnreadableError(what, { file, found })
  }
  let end = 0n
  for (const m of record.mappings) {
    if (
      m.start < end ||
      m.end <= m.start ||
      m.end > record.usableBytes ||
      (m.start | m.end) % 4096n !== 0n ||
      m.protection > 7
    )
      fail('an impossible mapping', m.start)
    end = m.end
  }
  end = 0n
  for (const e of record.extents) {
    if (
      e.address < end ||
      e.length === 0n ||
      e.address + e.length > record.memoryBytes ||
      (e.address | e.length) % 4096n !== 0n
    )
      fail('an impossible extent of memory', e.address)
    end = e.address + e.length
  }
  for (const f of record.files) if (f.kind >= fileKinds.length) fail('an open file of unknown kind', f.kind)
  const fds = new Set<number>()
  for (const d of record.descriptors) {
    if (d.file >= record.files.length || d.fd > 4096 || fds.has(d.fd) || d.closeOnExec > 1)
      fail('an impossible descriptor', d.fd)
    fds.add(d.fd)
  }
  if (
    record.process.brkStart > record.usableBytes ||
    record.process.brk > record.usableBytes ||
    record.process.brk < record.process.brkStart
  )
    fail('an impossible heap', record.process.brk)
  const xsave = new DataView(record.cpu.xsave.buffer, record.cpu.xsave.byteOffset)
  if ((xsave.getUint32(24, true) & ~0xffff) !== 0) fail('impossible MXCSR', xsave.getUint32(24, true))
  if (
    (xsave.getBigUint64(512, true) & ~record.cpu.xcr0) !== 0n ||
    record.cpu.xsave.subarray(520, 576).some(byte => byte !== 0)
  )
    fail('an XSAVE header that XCR0 does not allow', xsave.getBigUint64(512, true))
  if ((record.cpu.xcr0 & 3n) !== 3n || (record.cpu.xcr0 & ~0xe7n) !== 0n)
    fail('impossible XCR0', record.cpu.xcr0)
  if (record.cpu.registers[16]! >= record.usableBytes)
    fail('rip lies outside of memory', record.cpu.registers[16]!)
  if ((record.cpu.registers[17]! & ~0x240dd7n) !== 0n) fail('impossible flags', record.cpu.registers[17]!)
  for (const s of record.signals) if (s.signal < 1 || s.signal > 64) fail('an impossible signal', s.signal)
}
