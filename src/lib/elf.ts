/**
 * An ELF64 executable or library: its segments, its sections, and (when asked) its symbols. Opens lazily: a
 * file of 100 MB costs its headers. Source: System V ABI, chapter "Object Files".
 *
 *   virtual address ──(PT_LOAD)──► file offset          section header (64 bytes):
 *   virtual address ──(sections)─► .text, .data, …       u32 name, u32 type, u64 flags, u64 address, u64 offset,
 *   virtual address ──(symbols)──► main+0x12             u64 size, u32 link, u32 info, u64 alignment, u64 entry size
 */
import { type ByteSource, FileSource } from './byte-source.js'
import { ByteReader, cString } from './bytes.js'
import {
  type ElfHeader,
  type ProgramHeader,
  PT,
  readElfHeader,
  readNotes,
  readProgramHeaders,
  SECTION_HEADER_SIZE,
} from './elf-header.js'
import { SymbolTable } from './elf-symbols.js'

/** Section types, sh_type. */
export const SHT = { NULL: 0, PROGBITS: 1, SYMTAB: 2, STRTAB: 3, NOBITS: 8, DYNSYM: 11 } as const
/** Section flags, sh_flags. */
export const SHF = { WRITE: 1, ALLOC: 2, EXECINSTR: 4, TLS: 0x400 } as const

const NT_GNU_BUILD_ID = 3

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

export class ElfFile {
  readonly source: ByteSource
  readonly header: ElfHeader
  /** All program headers. */
  readonly segments: readonly ProgramHeader[]
  #sections: readonly Section[] | undefined
  #symbols: SymbolTable | undefined

  /** @throws UnreadableError for anything but an ELF64 little-endian file. */
  constructor(source: ByteSource) {
    this.source = source
    this.header = readElfHeader(source)
    this.segments = readProgramHeaders(source, this.header)
  }

  static open(path: string): ElfFile {
    return new ElfFile(new FileSource(path))
  }

  close(): void {
    this.source.close()
  }

  /** In the order of the file; index 0 is the empty one. */
  get sections(): readonly Section[] {
    this.#sections ??= readSections(this.source, this.header)
    return this.#sections
  }

  section(name: string): Section | undefined {
    return this.sections.find(section => section.name === name)
  }

  /** Symbols of .symtab, or of .dynsym in a stripped file; read at the first call. */
  get symbols(): SymbolTable {
    if (this.#symbols === undefined) {
      const table =
        this.sections.find(section => section.type === SHT.SYMTAB) ??
        this.sections.find(section => section.type === SHT.DYNSYM)
      this.#symbols = SymbolTable.read(this.source, table, table && this.sections[table.link])
    }
    return this.#symbols
  }

  /** The loaded sections that lie within [start, end) of virtual addresses, by address. Thread-local templates without bytes take no room. */
  sectionsWithin(start: bigint, end: bigint): Section[] {
    return this.sections
      .filter(
        section =>
          section.flags & SHF.ALLOC &&
          !(section.flags & SHF.TLS && section.type === SHT.NOBITS) &&
          section.address < end &&
          section.address + BigInt(section.size) > start,
      )
      .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
  }

  /** Virtual address of the byte at `offset` of the file, or undefined where nothing of it is loaded. */
  addressOfOffset(offset: bigint | number): bigint | undefined {
    const at = Number(offset)
    const segment = this.segments.find(
      each => each.type === PT.LOAD && each.offset <= at && at < each.offset + each.fileSize,
    )
    return segment && segment.virtualAddress + BigInt(at - segment.offset)
  }

  /** GNU build id as hex, or undefined. */
  get buildId(): string | undefined {
    for (const segment of this.segments)
      if (segment.type === PT.NOTE)
        for (const note of readNotes(this.source, segment))
          if (note.name === 'GNU' && note.type === NT_GNU_BUILD_ID)
            return Buffer.from(note.descriptor).toString('hex')
    return undefined
  }
}

function readSections(source: ByteSource, header: ElfHeader): Section[] {
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
