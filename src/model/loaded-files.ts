/**
 * Which executable or library lies where in an address space, so that an address has a section and a symbol.
 *
 *   mapping (file, offset) ──► ELF segment with that offset ──► bias = mapping start − segment's virtual address
 *   everything from the lowest to the highest segment + bias belongs to that file: its .bss too, which is anonymous
 */
import { alignDownBig, alignUpBig } from '../lib/bytes.js'
import type { ElfFile } from '../lib/elf.js'
import { EM, type ProgramHeader, PT } from '../lib/elf-header.js'
import type { Section } from '../lib/elf-sections.js'
import type { SymbolHit } from '../lib/elf-symbols.js'
import { type Address, PAGE_SIZE_BIG } from './memory.js'
import type { IsaName, Process } from './process.js'

export interface LoadedFile {
  readonly path: string
  readonly elf: ElfFile
  /** Address in the process minus virtual address in the file. */
  readonly bias: bigint
  readonly start: Address
  readonly end: Address
}

const machines: Record<IsaName, number> = { 'x86-64': EM.X86_64, aarch64: EM.AARCH64 }

/** Where the bytes at an address come from. Addresses are those of the process. */
export class LoadedFiles {
  readonly files: readonly LoadedFile[]

  /**
   * @param open gives the ELF file at a path, or undefined where there is none (any more).
   * Files for another ISA than the image's are left out: on another machine the same path may be another program.
   */
  constructor(process: Process, isa: IsaName, open: (path: string) => ElfFile | undefined) {
    const found = new Map<string, LoadedFile>()
    for (const mapping of process.mappings) {
      if (mapping.kind !== 'file' || mapping.file === undefined || mapping.file.deleted) continue
      const { path, offset } = mapping.file
      const known = found.get(path)
      if (known !== undefined && mapping.start < known.end) continue
      const elf = open(path)
      if (elf === undefined || elf.header.machine !== machines[isa]) continue
      const loads = elf.segments.filter(segment => segment.type === PT.LOAD)
      // A page of the file may belong to two segments: the one that begins there is meant.
      const pageOf = (each: ProgramHeader) => alignDownBig(BigInt(each.offset), PAGE_SIZE_BIG)
      const segment =
        loads.find(each => pageOf(each) === offset) ??
        loads.find(each => pageOf(each) <= offset && offset < BigInt(each.offset + each.fileSize))
      if (segment === undefined) continue
      const address = alignDownBig(segment.virtualAddress, PAGE_SIZE_BIG) + (offset - pageOf(segment))
      const bias = mapping.start - address
      const ends = loads.map(each => each.virtualAddress + BigInt(each.memorySize))
      found.set(path, {
        path,
        elf,
        bias,
        start: bias + alignDownBig(loads.reduce(lowest, loads[0]!).virtualAddress, PAGE_SIZE_BIG),
        end:
          bias +
          alignUpBig(
            ends.reduce((a, b) => (a > b ? a : b)),
            PAGE_SIZE_BIG,
          ),
      })
    }
    this.files = [...found.values()]
  }

  at(address: Address): LoadedFile | undefined {
    return this.files.find(file => file.start <= address && address < file.end)
  }

  /** Sections with a byte in [start, end), which must lie in one file. */
  sections(start: Address, end: Address): Section[] {
    const file = this.at(start)
    return file ? file.elf.sectionsWithin(start - file.bias, end - file.bias) : []
  }

  /** The symbol that holds `address`. */
  symbol(address: Address): SymbolHit | undefined {
    const file = this.at(address)
    const hit = file?.elf.symbols.at(address - file.bias)
    return hit && { ...hit, address: hit.address + file!.bias }
  }

  /** Symbols with a byte in [start, end). */
  *symbols(start: Address, end: Address): Generator<SymbolHit> {
    const file = this.at(start)
    if (file === undefined) return
    for (const hit of file.elf.symbols.within(start - file.bias, end - file.bias))
      yield { ...hit, address: hit.address + file.bias }
  }
}

function lowest<T extends { virtualAddress: bigint }>(a: T, b: T): T {
  return b.virtualAddress < a.virtualAddress ? b : a
}
