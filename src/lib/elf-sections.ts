/**
 * The sections of an ELF64 file: what its parts are called and where they lie. Source: System V ABI, "Sections".
 *
 *   section header (64 bytes): u32 name, u32 type, u64 flags, u64 address, u64 offset,
 *                              u64 size, u32 link, u32 info, u64 alignment, u64 entry size
 */
import type { ByteSource } from './byte-source.js'
import { ByteReader, cString } from './bytes.js'
import { type ElfHeader, SECTION_HEADER_SIZE } from './elf-header.js'

/** Section types, sh_type. */
export const SHT = { NULL: 0, PROGBITS: 1, SYMTAB: 2, STRTAB: 3, NOBITS: 8, DYNSYM: 11 } as const
/** Section flags, sh_flags. */
export const SHF = { WRITE: 1, ALLOC: 2, EXECINSTR: 4, TLS: 0x400 } as const

export interface Section {
  readonly name: string
  readonly type: number
  readonly flags: number
  /** Virtual address, 0 when the section is not loaded. */
  readonly address: bigint
  /** File offset. */
  readonly offset: number
  readonly size: number
  /** Index of the section it refers to: the string table of a symbol table. */
  readonly link: number
  readonly entrySize: number
}

/** In the order of the file; index 0 is the empty one. */
export function readSections(source: ByteSource, header: ElfHeader): Section[] {
  if (header.sectionHeaderOffset === 0) return []
  const { sectionHeaderOffset: base } = header
  const file = source.path
  // 65 280 sections or more: the number and the index of the names stand in the first header.
  const first = readSectionHeader(new ByteReader(source.read(base, SECTION_HEADER_SIZE), { base, file }))
  const count = header.sectionHeaderCount || first.size
  const namesIndex = header.sectionNameIndex === 0xffff ? first.link : header.sectionNameIndex
  const reader = new ByteReader(source.read(base, count * SECTION_HEADER_SIZE), { base, file })
  const raw = Array.from({ length: count }, () => readSectionHeader(reader))
  const namesSection = raw[namesIndex]
  const names =
    namesSection?.type === SHT.STRTAB ? source.read(namesSection.offset, namesSection.size) : new Uint8Array()
  return raw.map(({ nameOffset, ...section }) => ({ ...section, name: cString(names.subarray(nameOffset)) }))
}

function readSectionHeader(reader: ByteReader) {
  const nameOffset = reader.u32()
  const type = reader.u32()
  const flags = Number(reader.u64() & 0xffffffffn)
  const address = reader.u64()
  const offset = Number(reader.u64())
  const size = Number(reader.u64())
  const link = reader.u32()
  reader.skip(12)
  const entrySize = Number(reader.u64())
  return { nameOffset, type, flags, address, offset, size, link, entrySize }
}
