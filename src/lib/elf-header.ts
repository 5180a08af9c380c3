/**
 * The parts of ELF64 (little endian) that executables, libraries and cores share: the file header, program
 * headers and notes, read and written. Source: the System V ABI, chapters "Object Files" and "Program Loading".
 *
 *   0            64                    e_phoff + 56·n            p_offset of PT_NOTE
 *   ├─ header ───┤ … ├─ program headers ┤ …  ├─ notes ─┤ … ├─ segments ─┤
 *
 *   note:  u32 name size, u32 descriptor size, u32 type, name (NUL, padded to 4), descriptor (padded to 4)
 *
 * More than 65 534 program headers: e_phnum is PN_XNUM (0xffff) and the number is sh_info of section header 0.
 */

import type { ByteSource } from './byte-source.js'
import { alignUp, ByteReader, ByteWriter } from './bytes.js'
import { UnreadableError } from './errors.js'
import { limits } from './limits.js'

export const ELF_HEADER_SIZE = 64
export const PROGRAM_HEADER_SIZE = 56
export const SECTION_HEADER_SIZE = 64
const PN_XNUM = 0xffff

export const ET = { REL: 1, EXEC: 2, DYN: 3, CORE: 4 } as const
export const EM = { X86_64: 62, AARCH64: 183 } as const
export const PT = { LOAD: 1, DYNAMIC: 2, INTERP: 3, NOTE: 4, TLS: 7, GNU_STACK: 0x6474e551 } as const
/** Segment permissions, p_flags. */
export const PF = { X: 1, W: 2, R: 4 } as const

export interface ElfHeader {
  readonly type: number
  readonly machine: number
  readonly entry: bigint
  readonly flags: number
  readonly programHeaderOffset: number
  readonly programHeaderCount: number
  readonly sectionHeaderOffset: number
  readonly sectionHeaderCount: number
  readonly sectionNameIndex: number
}

export interface ProgramHeader {
  readonly type: number
  readonly flags: number
  readonly offset: number
  readonly virtualAddress: bigint
  readonly physicalAddress: bigint
  readonly fileSize: number
  readonly memorySize: number
  readonly alignment: number
}

export interface Note {
  readonly name: string
  readonly type: number
  readonly descriptor: Uint8Array
  /** File offset of the descriptor, for messages. */
  readonly offset: number
}

const MAGIC = 0x464c457f

/** True when the first bytes of a file are those of an ELF64 little-endian file of this type. */
export function isElf(head: Uint8Array, type: number): boolean {
  return (
    head.length >= ELF_HEADER_SIZE &&
    Buffer.from(head.buffer, head.byteOffset, 4).readUInt32LE() === MAGIC &&
    head[4] === 2 &&
    head[5] === 1 &&
    head[16] === type &&
    head[17] === 0
  )
}

/** @throws UnreadableError for anything but an ELF64 little-endian file with sane counts. */
export function readElfHeader(source: ByteSource): ElfHeader {
  const file = source.path
  const reader = new ByteReader(source.read(0, Math.min(ELF_HEADER_SIZE, source.size)), { file })
  const magic = reader.u32('ELF magic')
  if (magic !== MAGIC)
    throw new UnreadableError('not an ELF file', {
      file,
      found: `0x${magic.toString(16)}`,
      expected: '0x464c457f',
    })
  const [elfClass, encoding] = [reader.u8('EI_CLASS'), reader.u8('EI_DATA')]
  if (elfClass !== 2 || encoding !== 1)
    throw new UnreadableError('not a 64-bit little-endian ELF file', {
      file,
      found: `class ${elfClass}, data ${encoding}`,
      expected: 'class 2, data 1',
    })
  reader.skip(10)
  const type = reader.u16('e_type')
  const machine = reader.u16('e_machine')
  reader.skip(4)
  const entry = reader.u64('e_entry')
  const programHeaderOffset = fileNumber(reader.u64('e_phoff'), 'e_phoff', file)
  const sectionHeaderOffset = fileNumber(reader.u64('e_shoff'), 'e_shoff', file)
  const flags = reader.u32('e_flags')
  reader.skip(2)
  const [programHeaderSize, shortCount, sectionHeaderSize] = [
    reader.u16('e_phentsize'),
    reader.u16('e_phnum'),
    reader.u16('e_shentsize'),
  ]
  const sectionHeaderCount = reader.u16('e_shnum')
  const sectionNameIndex = reader.u16('e_shstrndx')
  if (shortCount > 0 && programHeaderSize !== PROGRAM_HEADER_SIZE)
    throw new UnreadableError('program headers of an unknown size', {
      file,
      found: programHeaderSize,
      expected: PROGRAM_HEADER_SIZE,
    })
  if (sectionHeaderCount > 0 && sectionHeaderSize !== SECTION_HEADER_SIZE)
    throw new UnreadableError('section headers of an unknown size', {
      file,
      found: sectionHeaderSize,
      expected: SECTION_HEADER_SIZE,
    })
  const programHeaderCount = shortCount === PN_XNUM ? extendedCount(source, sectionHeaderOffset) : shortCount
  return {
    type,
    machine,
    entry,
    flags,
    programHeaderOffset,
    programHeaderCount,
    sectionHeaderOffset,
    sectionHeaderCount,
    sectionNameIndex,
  }
}

function extendedCount(source: ByteSource, sectionHeaderOffset: number): number {
  const info = new ByteReader(source.read(sectionHeaderOffset, SECTION_HEADER_SIZE), {
    base: sectionHeaderOffset,
    file: source.path,
  })
  info.skip(44)
  const count = info.u32('sh_info')
  if (count > limits.memoryRanges)
    throw new UnreadableError('too many program headers', {
      file: source.path,
      found: count,
      expected: `at most ${limits.memoryRanges}`,
    })
  return count
}

/** Offsets and sizes beyond what a number holds exactly cannot be true. */
function fileNumber(value: bigint, what: string, file: string | undefined): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new UnreadableError(`${what} is beyond any file`, { file, found: `0x${value.toString(16)}` })
  return Number(value)
}

/** All of them, in the order of the file. @throws UnreadableError when the file ends before they do. */
export function readProgramHeaders(source: ByteSource, header: ElfHeader): ProgramHeader[] {
  const base = header.programHeaderOffset
  const file = source.path
  const reader = new ByteReader(source.read(base, header.programHeaderCount * PROGRAM_HEADER_SIZE), {
    base,
    file,
  })
  return Array.from({ length: header.programHeaderCount }, () => ({
    type: reader.u32(),
    flags: reader.u32(),
    offset: fileNumber(reader.u64(), 'p_offset', file),
    virtualAddress: reader.u64(),
    physicalAddress: reader.u64(),
    fileSize: fileNumber(reader.u64(), 'p_filesz', file),
    memorySize: fileNumber(reader.u64(), 'p_memsz', file),
    alignment: fileNumber(reader.u64(), 'p_align', file),
  }))
}

/** The notes of a PT_NOTE segment, in order. */
export function readNotes(source: ByteSource, segment: ProgramHeader): Note[] {
  if (segment.fileSize > limits.recordBytes)
    throw new UnreadableError('the notes are too large', {
      file: source.path,
      offset: segment.offset,
      found: segment.fileSize,
      expected: `at most ${limits.recordBytes}`,
    })
  const reader = new ByteReader(source.read(segment.offset, segment.fileSize), {
    base: segment.offset,
    file: source.path,
  })
  const notes: Note[] = []
  while (reader.remaining >= 12) {
    const nameSize = reader.u32('note name size')
    const size = reader.u32('note size')
    const type = reader.u32('note type')
    const name = Buffer.from(reader.take(nameSize, 'note name')).toString('latin1').replace(/\0$/, '')
    reader.align(4)
    const offset = segment.offset + reader.position
    notes.push({ name, type, descriptor: reader.take(size, `note ${name}/${type}`), offset })
    reader.align(4)
  }
  return notes
}

/** Notes as the bytes of a PT_NOTE segment. */
export function writeNotes(notes: ReadonlyArray<Omit<Note, 'offset'>>): Uint8Array {
  const writer = new ByteWriter(
    notes.reduce(
      (sum, note) => sum + 12 + alignUp(note.name.length + 1, 4) + alignUp(note.descriptor.length, 4),
      0,
    ),
  )
  for (const { name, type, descriptor } of notes) {
    writer
      .u32(name.length + 1)
      .u32(descriptor.length)
      .u32(type)
    writer.put(Buffer.from(name, 'latin1')).u8(0).align(4)
    writer.put(descriptor).align(4)
  }
  return writer.finish()
}

/** The file header of a file whose program headers, as `writeProgramHeaders` makes them, lie at `headersOffset`. */
export function writeElfHeader(
  header: { type: number; machine: number; entry?: bigint; flags?: number },
  headersOffset: number,
  segmentCount: number,
): Uint8Array {
  const extended = segmentCount >= PN_XNUM
  const sectionOffset = extended ? headersOffset + segmentCount * PROGRAM_HEADER_SIZE : 0
  const writer = new ByteWriter(ELF_HEADER_SIZE)
  writer.u32(MAGIC).u8(2).u8(1).u8(1).zeros(9)
  writer
    .u16(header.type)
    .u16(header.machine)
    .u32(1)
    .u64(header.entry ?? 0n)
  writer
    .u64(BigInt(headersOffset))
    .u64(BigInt(sectionOffset))
    .u32(header.flags ?? 0)
  writer
    .u16(ELF_HEADER_SIZE)
    .u16(PROGRAM_HEADER_SIZE)
    .u16(extended ? PN_XNUM : segmentCount)
  return writer
    .u16(extended ? SECTION_HEADER_SIZE : 0)
    .u16(extended ? 1 : 0)
    .u16(0)
    .finish()
}

/** Program headers, and the section header that carries their number when it needs PN_XNUM. */
export function writeProgramHeaders(segments: readonly ProgramHeader[]): Uint8Array {
  const writer = new ByteWriter(segments.length * PROGRAM_HEADER_SIZE + SECTION_HEADER_SIZE)
  for (const segment of segments) {
    writer.u32(segment.type).u32(segment.flags).u64(BigInt(segment.offset))
    writer.u64(segment.virtualAddress).u64(segment.physicalAddress)
    writer.u64(BigInt(segment.fileSize)).u64(BigInt(segment.memorySize)).u64(BigInt(segment.alignment))
  }
  if (segments.length >= PN_XNUM) writer.zeros(44).u32(segments.length).zeros(16)
  return writer.finish()
}
