/**
 * The symbols of an ELF file, to name addresses. Big tables stay bytes: no object a symbol, one sorted array of
 * numbers, names read when asked for. Source: System V ABI, "Symbol Table".
 *
 *   entry (24 bytes): u32 name, u8 info (type in the low 4 bits), u8 other, u16 section, u64 value, u64 size
 *   sort key (64 bits): low 40 bits of the value ‖ index of the entry (24 bits)
 *
 * The bits above are all clear (programs) or all set (kernels), so that 40 tell all addresses of one file apart.
 */
import type { ByteSource } from './byte-source.js'
import { cString } from './bytes.js'
import type { Section } from './elf-sections.js'

export type SymbolKind = 'function' | 'object' | 'label'

export interface SymbolHit {
  readonly name: string
  readonly kind: SymbolKind
  /** Virtual address and size in bytes (0: not said). */
  readonly address: bigint
  readonly size: number
}

const ENTRY_SIZE = 24
/** STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_COMMON, STT_GNU_IFUNC: what has an address that code or data may hold. */
const kinds: Readonly<Record<number, SymbolKind>> = {
  0: 'label',
  1: 'object',
  2: 'function',
  5: 'object',
  10: 'function',
}
const STB_LOCAL = 0
const INDEX_BITS = 24n
const VALUE_BITS = 40
const MAX_SYMBOLS = 1 << 24
/** Names longer than this are cut. */
const NAME_LIMIT = 512

/** The symbols of one table, sorted by address; their names stay in the file until they are asked for. */
export class SymbolTable {
  readonly #source: ByteSource | undefined
  readonly #entries: DataView
  readonly #names: Section | undefined
  /** Sort keys, ascending. */
  readonly #keys: BigUint64Array

  private constructor(
    source: ByteSource | undefined,
    entries: DataView,
    names: Section | undefined,
    keys: BigUint64Array,
  ) {
    this.#source = source
    this.#entries = entries
    this.#names = names
    this.#keys = keys
  }

  /** @param table the symbol table, or undefined for a file without one. */
  static read(source: ByteSource, table: Section | undefined, names: Section | undefined): SymbolTable {
    if (table === undefined || names === undefined)
      return new SymbolTable(undefined, new DataView(new ArrayBuffer(0)), undefined, new BigUint64Array())
    const count = Math.min(Math.floor(table.size / ENTRY_SIZE), MAX_SYMBOLS)
    const bytes = source.read(table.offset, count * ENTRY_SIZE)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const halves = new Uint32Array(count * 2)
    let kept = 0
    for (let i = 0; i < count; i++) {
      const at = i * ENTRY_SIZE
      const info = view.getUint8(at + 4)
      const high = view.getUint32(at + 12, true)
      if (kinds[info & 15] === undefined || view.getUint16(at + 6, true) === 0) continue
      if (high > 0xff && high >>> 8 !== 0xffffff) continue
      const sizeless = view.getUint32(at + 16, true) === 0
      // Local labels without size: mapping symbols of aarch64 ($x, $d), jump targets.
      if ((info & 15) === 0 && info >> 4 === STB_LOCAL && sizeless) continue
      const low = view.getUint32(at + 8, true)
      halves[kept * 2] = ((low & 0xff) << 24) | i
      halves[kept * 2 + 1] = (high << 24) | (low >>> 8)
      kept++
    }
    return new SymbolTable(source, view, names, new BigUint64Array(halves.buffer, 0, kept).sort())
  }

  get count(): number {
    return this.#keys.length
  }

  /** The symbol whose bytes hold `address`; one without a size reaches to the next symbol. */
  at(address: bigint): SymbolHit | undefined {
    // Several symbols may share or enclose an address: the innermost comes last, aliases are few.
    const last = this.#firstAfter(address) - 1
    for (let i = last; i >= 0 && i > last - 16; i--) {
      const hit = this.#hit(i)
      if (address >> BigInt(VALUE_BITS) !== hit.address >> BigInt(VALUE_BITS)) continue
      if (hit.size > 0 ? address < hit.address + BigInt(hit.size) : i === last) return hit
    }
    return undefined
  }

  /** The symbols that have a byte in [start, end), by address. */
  *within(start: bigint, end: bigint): Generator<SymbolHit> {
    const before = start > 0n ? this.at(start - 1n) : undefined
    if (before !== undefined && before.address + BigInt(before.size) > start) yield before
    for (let i = this.#firstAfter(start - 1n); i < this.#keys.length; i++) {
      if (this.#keys[i]! >> INDEX_BITS >= end) return
      yield this.#hit(i)
    }
  }

  /** The first symbol with this name. Walks over all of them. */
  named(name: string): SymbolHit | undefined {
    for (let i = 0; i < this.#keys.length; i++) {
      const hit = this.#hit(i)
      if (hit.name === name) return hit
    }
    return undefined
  }

  /** Index of the first key whose value is above `address`. */
  #firstAfter(address: bigint): number {
    const key = (BigInt.asUintN(VALUE_BITS, address) + 1n) << INDEX_BITS
    let low = 0
    let high = this.#keys.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#keys[middle]! < key) low = middle + 1
      else high = middle
    }
    return low
  }

  #hit(position: number): SymbolHit {
    const at = Number(this.#keys[position]! & 0xffffffn) * ENTRY_SIZE
    return {
      name: this.#name(this.#entries.getUint32(at, true)),
      kind: kinds[this.#entries.getUint8(at + 4) & 15]!,
      address: this.#entries.getBigUint64(at + 8, true),
      size: Number(this.#entries.getBigUint64(at + 16, true)),
    }
  }

  #name(offset: number): string {
    const { offset: base, size } = this.#names!
    if (offset >= size) return '?'
    return cString(this.#source!.read(base + offset, Math.min(NAME_LIMIT, size - offset)))
  }
}
