/**
 * Memory that is pointed to, never loaded: a sorted list of extents, each an address range and the
 * place where its bytes lie (a slice of a file, zeros, or a small patch).
 *
 *   address ──►  0x1000          0x5000    0x6000                 0x20000
 *                ├── file slice ──┤  zero   ├── patch (bytes) ──┤   (nothing: not in the image)
 *
 * Changing memory means laying one extent over others (`overlay`): cost follows the number of extents,
 * not the number of bytes. Both models (process and machine) hold their memory this way.
 */
import type { ByteSource } from '../lib/byte-source.js'
import { alignDownBig } from '../lib/bytes.js'
import { UnreadableError } from '../lib/errors.js'

/** A virtual address (process) or guest physical address (machine). Prints as hex. */
export type Address = bigint
/** A number of bytes; a safe integer. */
export type ByteCount = number
/** A number of pages of `PAGE_SIZE` bytes. */
export type PageCount = number

export const PAGE_SIZE = 4096
export const PAGE_SIZE_BIG = 4096n

/** Where the bytes of an extent are. */
export type Content =
  | { readonly kind: 'zero' }
  /** `source` holds the bytes from `offset` on. */
  | { readonly kind: 'slice'; readonly source: ByteSource; readonly offset: number }
  /** The bytes themselves, as long as the extent. For patches and small records only. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }

export interface Extent {
  readonly address: Address
  readonly length: ByteCount
  readonly content: Content
}

export const ZERO: Content = { kind: 'zero' }

/** End of an extent: the first address after it. */
export function extentEnd(extent: Extent): Address {
  return extent.address + BigInt(extent.length)
}

/** The part of `extent` within [start, end), which must overlap it. */
export function sliceExtent(extent: Extent, start: Address, end: Address): Extent {
  const from = start > extent.address ? start : extent.address
  const to = end < extentEnd(extent) ? end : extentEnd(extent)
  if (from === extent.address && to === extentEnd(extent)) return extent
  const skipped = Number(from - extent.address)
  const length = Number(to - from)
  const { content } = extent
  switch (content.kind) {
    case 'zero':
      return { address: from, length, content }
    case 'slice':
      return { address: from, length, content: { ...content, offset: content.offset + skipped } }
    case 'bytes':
      return {
        address: from,
        length,
        content: { kind: 'bytes', bytes: content.bytes.subarray(skipped, skipped + length) },
      }
  }
}

/** Immutable. Extents are sorted by address and never overlap; gaps are memory that the image does not hold. */
export class Memory {
  readonly extents: readonly Extent[]

  private constructor(extents: readonly Extent[]) {
    this.extents = extents
  }

  static readonly empty = new Memory([])

  /**
   * Neighbours that continue each other in the same source become one extent; empty ones vanish.
   * @throws UnreadableError when two extents overlap.
   */
  static from(extents: Iterable<Extent>): Memory {
    const sorted = [...extents].filter(extent => extent.length > 0)
    let ordered = true
    for (let i = 1; i < sorted.length && ordered; i++) ordered = sorted[i - 1]!.address <= sorted[i]!.address
    if (!ordered) sorted.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
    const merged: Extent[] = []
    for (const extent of sorted) {
      const last = merged.at(-1)
      if (last === undefined) {
        merged.push(extent)
        continue
      }
      const end = extentEnd(last)
      if (extent.address < end)
        throw new UnreadableError('two pieces of memory overlap', {
          address: extent.address,
          found: `a piece that ends at 0x${end.toString(16)}`,
        })
      if (extent.address === end && continues(last, extent))
        merged[merged.length - 1] = { ...last, length: last.length + extent.length }
      else merged.push(extent)
    }
    return new Memory(merged)
  }

  /** Bytes that the image holds, zeros included. */
  get byteCount(): ByteCount {
    return this.extents.reduce((sum, extent) => sum + extent.length, 0)
  }

  /** Closes the files that it points into: its bytes can no longer be read. Whoever read the image does this at the end. */
  close(): void {
    const sources = new Set(
      this.extents.map(({ content }) => (content.kind === 'slice' ? content.source : undefined)),
    )
    for (const source of sources) source?.close()
  }

  /** The extents (cut to fit) within [start, end), in order. */
  *within(start: Address, end: Address): Generator<Extent> {
    for (let i = this.#firstEndingAfter(start); i < this.extents.length; i++) {
      const extent = this.extents[i]!
      if (extent.address >= end) return
      yield sliceExtent(extent, start, end)
    }
  }

  /** True when every byte of [start, end) is in the image. */
  covers(start: Address, end: Address): boolean {
    let at = start
    for (const extent of this.within(start, end)) {
      if (extent.address !== at) return false
      at = extentEnd(extent)
    }
    return at >= end
  }

  /**
   * Reads `length` bytes at `address`.
   * @throws UnreadableError when the image does not hold all of them.
   */
  read(address: Address, length: ByteCount): Uint8Array {
    const end = address + BigInt(length)
    if (!this.covers(address, end))
      throw new UnreadableError('memory that the image does not hold', {
        address,
        expected: `${length} bytes`,
      })
    const bytes = new Uint8Array(length)
    for (const extent of this.within(address, end)) {
      const into = bytes.subarray(
        Number(extent.address - address),
        Number(extent.address - address) + extent.length,
      )
      readContent(extent.content, into, 0)
    }
    return bytes
  }

  /** The same, or undefined where `read` would throw for a gap. */
  tryRead(address: Address, length: ByteCount): Uint8Array | undefined {
    return this.covers(address, address + BigInt(length)) ? this.read(address, length) : undefined
  }

  /** The bytes from `address` to the first one that the image does not hold, at most `length`. */
  readUpTo(address: Address, length: ByteCount): Uint8Array {
    let end = address
    for (const extent of this.within(address, address + BigInt(length))) {
      if (extent.address !== end) break
      end = extentEnd(extent)
    }
    return this.read(address, Number(end - address))
  }

  /** A u64 in memory, little endian. */
  readU64(address: Address): bigint {
    const bytes = this.read(address, 8)
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)
  }

  /** The same, or undefined where the image does not hold it. */
  tryReadU64(address: Address): bigint | undefined {
    return this.covers(address, address + 8n) ? this.readU64(address) : undefined
  }

  /** This memory with [start, end) taken out. */
  without(start: Address, end: Address): Memory {
    const kept: Extent[] = []
    for (const extent of this.extents) {
      if (extentEnd(extent) <= start || extent.address >= end) kept.push(extent)
      else {
        if (extent.address < start) kept.push(sliceExtent(extent, extent.address, start))
        if (extentEnd(extent) > end) kept.push(sliceExtent(extent, end, extentEnd(extent)))
      }
    }
    return new Memory(kept)
  }

  /** This memory with `extents` laid over it: where they lie, they win. They must not overlap each other. */
  overlay(extents: Iterable<Extent>): Memory {
    const over = Memory.from(extents)
    const kept: Extent[] = []
    let next = 0
    for (const extent of this.extents) {
      let at = extent.address
      const end = extentEnd(extent)
      while (next < over.extents.length && extentEnd(over.extents[next]!) <= at) next++
      for (let i = next; i < over.extents.length && over.extents[i]!.address < end; i++) {
        const cover = over.extents[i]!
        if (cover.address > at) kept.push(sliceExtent(extent, at, cover.address))
        if (extentEnd(cover) > at) at = extentEnd(cover)
      }
      if (at < end) kept.push(sliceExtent(extent, at, end))
    }
    return Memory.from([...kept, ...over.extents])
  }

  /** This memory with `bytes` at `address`. */
  patch(address: Address, bytes: Uint8Array): Memory {
    return this.overlay([{ address, length: bytes.length, content: { kind: 'bytes', bytes } }])
  }

  /** Index of the first extent that ends after `address`. */
  #firstEndingAfter(address: Address): number {
    let low = 0
    let high = this.extents.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (extentEnd(this.extents[middle]!) > address) high = middle
      else low = middle + 1
    }
    return low
  }
}

/**
 * The same memory in whole pages, as images hold it: a page that several extents share becomes one small extent of its
 * own, zeros where nothing is said. Cost follows the number of such pages.
 */
export function inWholePages(memory: Memory): Memory {
  const mixed = new Set<bigint>()
  for (const extent of memory.extents) {
    if (extent.address % PAGE_SIZE_BIG !== 0n) mixed.add(alignDownBig(extent.address, PAGE_SIZE_BIG))
    const end = extentEnd(extent)
    if (end % PAGE_SIZE_BIG !== 0n) mixed.add(alignDownBig(end, PAGE_SIZE_BIG))
  }
  const pages = [...mixed].map((address): Extent => {
    const bytes = new Uint8Array(Number(PAGE_SIZE_BIG))
    for (const part of memory.within(address, address + PAGE_SIZE_BIG))
      bytes.set(memory.read(part.address, part.length), Number(part.address - address))
    return { address, length: bytes.length, content: { kind: 'bytes', bytes } }
  })
  return memory.overlay(pages)
}

/** Fills `into` with the bytes of `content` from `offset` on. */
export function readContent(content: Content, into: Uint8Array, offset: number): void {
  switch (content.kind) {
    case 'zero':
      into.fill(0)
      return
    case 'slice':
      content.source.readInto(into, content.offset + offset)
      return
    case 'bytes':
      into.set(content.bytes.subarray(offset, offset + into.length))
      return
  }
}

function continues(first: Extent, second: Extent): boolean {
  const a = first.content
  const b = second.content
  if (a.kind === 'zero') return b.kind === 'zero'
  return (
    a.kind === 'slice' && b.kind === 'slice' && a.source === b.source && a.offset + first.length === b.offset
  )
}
