/**
 * Names for addresses in mapped files. Files are opened when first asked about, and once; a file that is gone or
 * is no ELF file has no names.
 */
import fs from 'node:fs'
import { ElfFile } from './elf.js'
import { ImagoError } from './errors.js'

export interface NamedAddress {
  readonly name: string
  /** Bytes from the beginning of the symbol. */
  readonly offset: number
}

export class Symbolizer {
  readonly #files = new Map<string, ElfFile | undefined>()

  /** The ELF file at `path`, or undefined. */
  file(path: string): ElfFile | undefined {
    if (!this.#files.has(path)) this.#files.set(path, openElf(path))
    return this.#files.get(path)
  }

  /** The symbol at a virtual address as the file's own headers count. */
  atAddress(path: string, address: bigint): NamedAddress | undefined {
    try {
      const hit = this.file(path)?.symbols.at(address)
      return hit && { name: hit.name, offset: Number(address - hit.address) }
    } catch (error) {
      if (!(error instanceof ImagoError)) throw error
      return undefined // a damaged symbol table: no names
    }
  }

  /** The symbol at an offset of the file: what a mapping gives, wherever the file was loaded. */
  atOffset(path: string, offset: bigint): NamedAddress | undefined {
    const address = this.file(path)?.addressOfOffset(offset)
    return address === undefined ? undefined : this.atAddress(path, address)
  }

  close(): void {
    for (const file of this.#files.values()) file?.close()
    this.#files.clear()
  }
}

function openElf(path: string): ElfFile | undefined {
  // A path from an image may be anything: a device or a pipe must not be opened.
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined
  try {
    return ElfFile.open(path)
  } catch (error) {
    if (error instanceof ImagoError) return undefined
    throw error
  }
}
