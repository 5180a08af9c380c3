/**
 * The data pages of a stream without the record heads between them, as one source of bytes:
 *
 *   stream   head │ page 0 │ head │ page 1 │ …zero pages… │ head │ page 2 │ …
 *   source          page 0 │ page 1 │ page 2 │ …            page i begins at i × 4096
 *
 * So a run of neighbouring pages is one extent, however the stream interleaves them: eight bytes of table a page.
 */
import type { ByteSource } from '../../lib/byte-source.js'

export const RAM_PAGE_BYTES = 4096

/** Bytes of the head between two pages of the same block. */
const HEAD_BYTES = 8
const STRIDE = RAM_PAGE_BYTES + HEAD_BYTES
/** Pages read at once where they lie one behind the other. */
const BATCH_PAGES = 64

export class PackedPages implements ByteSource {
  /** Not the stream's: its bytes lie elsewhere there. */
  readonly path = undefined
  readonly #stream: ByteSource
  #offsets = new Float64Array(1024)
  #count = 0
  #batch: Buffer | undefined

  constructor(stream: ByteSource) {
    this.#stream = stream
  }

  get size(): number {
    return this.#count * RAM_PAGE_BYTES
  }

  /** Appends the page that lies at `offset` in the stream; returns where it begins in this source. */
  add(offset: number): number {
    if (this.#count === this.#offsets.length) {
      const grown = new Float64Array(this.#count * 2)
      grown.set(this.#offsets)
      this.#offsets = grown
    }
    this.#offsets[this.#count] = offset
    return this.#count++ * RAM_PAGE_BYTES
  }

  readInto(into: Uint8Array, offset: number): void {
    if (offset < 0 || offset + into.length > this.size) throw new RangeError('beyond the pages of the stream')
    let done = 0
    while (done < into.length) {
      const index = Math.floor((offset + done) / RAM_PAGE_BYTES)
      const within = (offset + done) % RAM_PAGE_BYTES
      const pages =
        within === 0 ? this.#neighbours(index, Math.floor((into.length - done) / RAM_PAGE_BYTES)) : 0
      if (pages > 1) {
        this.#readNeighbours(index, pages, into, done)
        done += pages * RAM_PAGE_BYTES
      } else {
        const length = Math.min(RAM_PAGE_BYTES - within, into.length - done)
        this.#stream.readInto(into.subarray(done, done + length), this.#offsets[index]! + within)
        done += length
      }
    }
  }

  read(offset: number, length: number): Uint8Array {
    if (offset < 0 || offset + length > this.size) throw new RangeError('beyond the pages of the stream')
    const bytes = new Uint8Array(length)
    this.readInto(bytes, offset)
    return bytes
  }

  close(): void {
    this.#stream.close()
  }

  /** How many pages from `index` on, at most `wanted`, lie one behind the other in the stream. */
  #neighbours(index: number, wanted: number): number {
    const most = Math.min(wanted, BATCH_PAGES)
    let count = 0
    while (count < most && this.#offsets[index + count] === this.#offsets[index]! + count * STRIDE) count++
    return count
  }

  /** Reads pages and heads together, then leaves the heads out: one call instead of one a page. */
  #readNeighbours(index: number, pages: number, into: Uint8Array, at: number): void {
    this.#batch ??= Buffer.allocUnsafe(BATCH_PAGES * STRIDE)
    const batch = this.#batch.subarray(0, pages * STRIDE - HEAD_BYTES)
    this.#stream.readInto(batch, this.#offsets[index]!)
    for (let i = 0; i < pages; i++)
      into.set(batch.subarray(i * STRIDE, i * STRIDE + RAM_PAGE_BYTES), at + i * RAM_PAGE_BYTES)
  }
}
