/**
 * Writes RAM anew: one END part with every page of every block (layout in ram.ts). Bytes go from where the
 * memory points to, through one buffer, into the stream; pages of zeros become nine bytes.
 */
import { writeFully } from '../../lib/atomic-file.js'
import { isZero } from '../../lib/bytes.js'
import { type Extent, readContent } from '../../model/memory.js'
import { RAM_PAGE_BYTES } from './packed-pages.js'
import { type RamBlock, RamFlag } from './ram.js'

/** Record, length byte and name of a page. */
const LARGEST_HEAD_BYTES = 8 + 1 + 255
/** Pages read at once. */
const CHUNK_PAGES = 256

export class RamWriter {
  readonly #fd: number
  readonly #output = Buffer.allocUnsafe(CHUNK_PAGES * (RAM_PAGE_BYTES + 8) + LARGEST_HEAD_BYTES)
  #used = 0
  readonly #chunk = new Uint8Array(CHUNK_PAGES * RAM_PAGE_BYTES)
  /** Offset in the file behind everything that was written. */
  #position: number

  constructor(fd: number, position: number) {
    this.#fd = fd
    this.#position = position
  }

  /** Writes the payload of the part; returns the offset behind it. */
  write(blocks: readonly RamBlock[]): number {
    for (const block of blocks) this.#block(block)
    this.#reserve(8)
    this.#record(RamFlag.end)
    this.#flush()
    return this.#position
  }

  /** Whole pages straight from their extents; a page that several extents share is put together first. */
  #block(block: RamBlock): void {
    let at = 0
    for (const extent of block.memory.within(0n, BigInt(block.size))) {
      const start = Number(extent.address)
      const end = start + extent.length
      if (end <= at) continue
      const firstPage = pageOf(start)
      this.#zeroPages(block, at, firstPage)
      at = Math.max(at, firstPage)
      if (start > at) at = this.#mixedPage(block, at)
      const wholeEnd = pageOf(end)
      if (wholeEnd > at) {
        if (extent.content.kind === 'zero') this.#zeroPages(block, at, wholeEnd)
        else this.#wholePages(block, extent, at, wholeEnd)
        at = wholeEnd
      }
      if (end > at) at = this.#mixedPage(block, at)
    }
    this.#zeroPages(block, at, block.size)
  }

  #mixedPage(block: RamBlock, address: number): number {
    const page = this.#chunk.subarray(0, RAM_PAGE_BYTES).fill(0)
    for (const piece of block.memory.within(BigInt(address), BigInt(address + RAM_PAGE_BYTES))) {
      const from = Number(piece.address) - address
      readContent(piece.content, page.subarray(from, from + piece.length), 0)
    }
    this.#page(block, address, page)
    return address + RAM_PAGE_BYTES
  }

  #wholePages(block: RamBlock, extent: Extent, from: number, to: number): void {
    for (let at = from; at < to; at += this.#chunk.length) {
      const chunk = this.#chunk.subarray(0, Math.min(this.#chunk.length, to - at))
      readContent(extent.content, chunk, at - Number(extent.address))
      for (let offset = 0; offset < chunk.length; offset += RAM_PAGE_BYTES)
        this.#page(block, at + offset, chunk.subarray(offset, offset + RAM_PAGE_BYTES))
    }
  }

  #page(block: RamBlock, address: number, bytes: Uint8Array): void {
    if (isZero(bytes)) {
      this.#zeroPages(block, address, address + RAM_PAGE_BYTES)
      return
    }
    this.#head(block, address, RamFlag.page)
    this.#output.set(bytes, this.#used)
    this.#used += RAM_PAGE_BYTES
  }

  #zeroPages(block: RamBlock, from: number, to: number): void {
    for (let address = from; address < to; address += RAM_PAGE_BYTES) {
      this.#head(block, address, RamFlag.fill)
      this.#output[this.#used++] = 0
    }
  }

  #head(block: RamBlock, address: number, kind: number): void {
    this.#reserve(LARGEST_HEAD_BYTES + RAM_PAGE_BYTES)
    this.#record(address + kind + (address === 0 ? 0 : RamFlag.continued))
    if (address !== 0) return
    this.#output[this.#used++] = block.name.length
    this.#used += this.#output.write(block.name, this.#used, 'latin1')
  }

  #record(value: number): void {
    this.#output.writeUInt32BE(Math.floor(value / 2 ** 32), this.#used)
    this.#output.writeUInt32BE(value % 2 ** 32, this.#used + 4)
    this.#used += 8
  }

  #reserve(count: number): void {
    if (this.#used + count > this.#output.length) this.#flush()
  }

  #flush(): void {
    writeFully(this.#fd, this.#output.subarray(0, this.#used), this.#position)
    this.#position += this.#used
    this.#used = 0
  }
}

/** Address of the page that `address` lies in. */
function pageOf(address: number): number {
  return address - (address % RAM_PAGE_BYTES)
}
