/**
 * Reads a QEMU migration stream from front to back: big-endian integers through a window that slides over
 * the source, so that a stream of any size is read with one small buffer.
 */
import type { ByteSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'

const WINDOW_BYTES = 256 * 1024

export class BigEndianReader {
  readonly source: ByteSource
  /** Offset in the source of the next read. */
  position: number
  /** First offset that may not be read. */
  readonly end: number
  readonly #window: Buffer
  #windowStart = 0
  #windowEnd = 0

  constructor(source: ByteSource, range: { position?: number; end?: number } = {}) {
    this.source = source
    this.position = range.position ?? 0
    this.end = range.end ?? source.size
    this.#window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, Math.max(8, this.end - this.position)))
  }

  /** Moves over `count` bytes (at most the window's size) and returns their place in the window. @throws UnreadableError past the end. */
  #advance(count: number, what: string): number {
    const at = this.position
    this.require(count, what)
    if (at < this.#windowStart || at + count > this.#windowEnd) {
      const length = Math.min(this.#window.length, this.end - at)
      this.source.readInto(this.#window.subarray(0, length), at)
      this.#windowStart = at
      this.#windowEnd = at + length
    }
    this.position = at + count
    return at - this.#windowStart
  }

  /** @throws UnreadableError when fewer than `count` bytes are left. */
  require(count: number, what: string): void {
    if (count > this.end - this.position)
      throw this.error(`truncated: ${what} runs past the end`, {
        found: `${this.end - this.position} bytes`,
        expected: `${count} bytes`,
      })
  }

  u8(what = 'byte'): number {
    return this.#window.readUInt8(this.#advance(1, what))
  }
  u16(what = 'u16'): number {
    return this.#window.readUInt16BE(this.#advance(2, what))
  }
  u32(what = 'u32'): number {
    return this.#window.readUInt32BE(this.#advance(4, what))
  }

  /** A u64 that must be a safe integer, as offsets and sizes are. */
  size(what = 'u64'): number {
    const at = this.#advance(8, what)
    const value = this.#window.readUInt32BE(at) * 2 ** 32 + this.#window.readUInt32BE(at + 4)
    if (!Number.isSafeInteger(value))
      throw this.error(`${what} is out of range`, {
        found: `0x${this.#window.readBigUInt64BE(at).toString(16)}`,
      })
    return value
  }

  /** A name: one length byte and that many characters. */
  name(what = 'name'): string {
    const length = this.u8(what)
    const at = this.#advance(length, what)
    return this.#window.toString('latin1', at, at + length)
  }

  skip(count: number, what = 'bytes'): void {
    this.require(count, what)
    this.position += count
  }

  /** A copy of the next `count` bytes. */
  take(count: number, what = 'bytes'): Uint8Array {
    this.require(count, what)
    const bytes = this.source.read(this.position, count).slice()
    this.position += count
    return bytes
  }

  /** An error about the bytes just read, or about to be read. */
  error(message: string, details: { found?: string | number; expected?: string; hint?: string } = {}) {
    return new UnreadableError(message, { file: this.source.path, offset: this.position, ...details })
  }
}
