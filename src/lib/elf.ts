/**
 * An ELF64 executable or library: its segments, its sections, and (when asked) its symbols. Opens lazily: a
 * file of 100 MB costs its headers. Source: System V ABI, chapter "Object Files".
 *
 *   virtual address ──(PT_LOAD)──► file offset
 *   virtual address ──(sections)─► .text, .data, …       elf-sections.ts
 *   virtual address ──(symbols)──► main+0x12             elf-symbols.ts
 */
import { type ByteSource, FileSource } from './byte-source.js'
import {
  type ElfHeader,
  type ProgramHeader,
  PT,
  readElfHeader,
  readNotes,
  readProgramHeaders,
} from './elf-header.js'
import { readSections, type Section, SHF, SHT } from './elf-sections.js'
import { SymbolTable } from './elf-symbols.js'

const NT_GNU_BUILD_ID = 3

/** A file's segments at once; its sections, symbols and notes when they are asked for. */
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
