/**
 * One of the two binaries of a program, as far as `retarget` needs it: symbols by name, loaded segments, the
 * thread-local segment. Opened once, checked against the hash that `imago cc` noted.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import type { Isa } from '../isa/isa.js'
import { isas } from '../isa/isas.js'
import { cString } from '../lib/bytes.js'
import { ElfFile } from '../lib/elf.js'
import { type ProgramHeader, PT } from '../lib/elf-header.js'
import { SHT } from '../lib/elf-sections.js'
import { LossError, UnreadableError } from '../lib/errors.js'
import type { Address } from '../model/memory.js'
import type { IsaName } from '../model/process.js'
import type { ProgramDescription } from '../toolchain/program.js'
import type { StorageSegment } from './thread-record.js'

const SYMBOL_SIZE = 24
/** Symbols with an address: no type, object, function, thread-local (whose value is an offset). */
const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, TLS: 6 } as const

/** One of the two binaries of a program, and its symbols by name. */
export class ProgramBinary {
  readonly isa: Isa
  readonly path: string
  readonly elf: ElfFile
  readonly loads: readonly ProgramHeader[]
  /** PT_TLS; of no size when the program has none. */
  readonly storage: StorageSegment & { readonly address: Address; readonly fileSize: number }
  readonly #addresses = new Map<string, Address[]>()
  readonly #functions = new Map<Address, string>()

  private constructor(isa: Isa, path: string) {
    this.isa = isa
    this.path = path
    this.elf = ElfFile.open(path)
    if (this.elf.header.machine !== isa.elfMachine)
      throw new UnreadableError('a binary of another ISA than its description says', {
        file: path,
        found: `machine ${this.elf.header.machine}`,
        expected: `${isa.elfMachine} (${isa.name})`,
      })
    this.loads = this.elf.segments
      .filter(segment => segment.type === PT.LOAD && segment.memorySize > 0)
      .sort((a, b) => (a.virtualAddress < b.virtualAddress ? -1 : 1))
    const tls = this.elf.segments.find(segment => segment.type === PT.TLS)
    this.storage = {
      address: tls?.virtualAddress ?? 0n,
      fileSize: tls?.fileSize ?? 0,
      memorySize: tls?.memorySize ?? 0,
      alignment: Math.max(1, tls?.alignment ?? 1),
    }
    this.#readSymbols()
  }

  /**
   * @throws LossError when the file is not the one that was compiled with the description: its frames would be guesses.
   */
  static open(program: ProgramDescription, isa: IsaName): ProgramBinary {
    const { path, sha256 } = program.binaries[isa]
    let content: Uint8Array
    try {
      content = fs.readFileSync(path)
    } catch (error) {
      throw new UnreadableError(`cannot open the ${isa} binary of ${program.name}`, {
        file: path,
        hint: 'imago cc writes both binaries beside the description; keep them together',
        cause: error,
      })
    }
    const found = createHash('sha256').update(content).digest('hex')
    if (found !== sha256)
      throw new LossError(`the ${isa} binary of ${program.name} was built anew since its description`, {
        file: path,
        found: `sha256 ${found}`,
        expected: `sha256 ${sha256}`,
        hint: 'retarget needs the very binaries the image was made of; a rebuilt program cannot take over an old image',
      })
    return new ProgramBinary(isas[isa], path)
  }

  /** Address of a symbol (offset in the segment for thread-local ones). @throws UnreadableError when there is none. */
  address(name: string): Address {
    const address = this.#addresses.get(name)?.[0]
    if (address === undefined)
      throw new UnreadableError(`a binary without the symbol ${name}`, {
        file: this.path,
        hint: 'was it compiled with imago cc, and not stripped?',
      })
    return address
  }

  /** All addresses of the symbols of that name: local ones may be several. */
  addresses(name: string): readonly Address[] {
    return this.#addresses.get(name) ?? []
  }

  /** Name of the function that begins at `address`. */
  functionAt(address: Address): string | undefined {
    return this.#functions.get(address)
  }

  close(): void {
    this.elf.close()
  }

  #readSymbols(): void {
    const table = this.elf.sections.find(section => section.type === SHT.SYMTAB)
    const names = table && this.elf.sections[table.link]
    if (table === undefined || names === undefined) return
    const entries = this.elf.source.read(table.offset, table.size)
    const text = this.elf.source.read(names.offset, names.size)
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength)
    for (let at = SYMBOL_SIZE; at + SYMBOL_SIZE <= entries.length; at += SYMBOL_SIZE) {
      const type = view.getUint8(at + 4) & 15
      if (view.getUint16(at + 6, true) === 0 || (type > STT.FUNC && type !== STT.TLS)) continue
      const name = cString(text.subarray(view.getUint32(at, true)))
      // $x and $d are aarch64's marks of code and data, not names.
      if (name === '' || name.startsWith('$')) continue
      const address = view.getBigUint64(at + 8, true)
      const known = this.#addresses.get(name)
      if (known === undefined) this.#addresses.set(name, [address])
      else if (!known.includes(address)) known.push(address)
      if (type === STT.FUNC || type === STT.NOTYPE) this.#functions.set(address, name)
    }
  }
}
