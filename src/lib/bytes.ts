/**
 * Reading and writing little-endian bytes with bounds checks. Everything imago reads and writes is
 * little endian (both ISAs, CRIU, ELF as used here, KVM); big-endian readers take a `DataView` themselves.
 */
import { UnreadableError } from './errors.js'

/** Walks over a byte array; every read checks that the bytes are there. */
export class ByteReader {
  readonly bytes: Uint8Array
  readonly #view: DataView
  /** Offset of the next read within `bytes`. */
  position: number
  /** Added to offsets in error messages: where `bytes` begins in the file it comes from. */
  readonly #base: number
  readonly #file: string | undefined

  constructor(
    bytes: Uint8Array,
    options: { position?: number; base?: number; file?: string | undefined } = {},
  ) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.position = options.position ?? 0
    this.#base = options.base ?? 0
    this.#file = options.file
  }

  get remaining(): number {
    return this.bytes.length - this.position
  }

  /** @throws UnreadableError when fewer than `count` bytes are left. */
  #advance(count: number, what: string): number {
    const at = this.position
    if (!(count >= 0) || count > this.bytes.length - at)
      throw new UnreadableError(`truncated: ${what} runs past the end`, {
        file: this.#file,
        offset: this.#base + at,
        found: `${this.remaining} bytes`,
        expected: `${count} bytes`,
      })
    this.position = at + count
    return at
  }

  u8(what = 'u8'): number {
    return this.#view.getUint8(this.#advance(1, what))
  }
  u16(what = 'u16'): number {
    return this.#view.getUint16(this.#advance(2, what), true)
  }
  u32(what = 'u32'): number {
    return this.#view.getUint32(this.#advance(4, what), true)
  }
  i32(what = 'i32'): number {
    return this.#view.getInt32(this.#advance(4, what), true)
  }
  u64(what = 'u64'): bigint {
    return this.#view.getBigUint64(this.#advance(8, what), true)
  }
  i64(what = 'i64'): bigint {
    return this.#view.getBigInt64(this.#advance(8, what), true)
  }

  /** A view of the next `count` bytes: not a copy. */
  take(count: number, what = 'bytes'): Uint8Array {
    const at = this.#advance(count, what)
    return this.bytes.subarray(at, at + count)
  }

  skip(count: number, what = 'bytes'): void {
    this.#advance(count, what)
  }

  /** Skips the padding up to the next multiple of `alignment` (a power of two), stopping at the end. */
  align(alignment: number): void {
    this.position = Math.min(alignUp(this.position, alignment), this.bytes.length)
  }
}

/** Grows as it is written to. `finish()` returns the bytes written. */
export class ByteWriter {
  #bytes: Uint8Array
  #view: DataView
  /** Number of bytes written so far. */
  length = 0

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity)
    this.#view = new DataView(this.#bytes.buffer)
  }

  #reserve(count: number): number {
    const at = this.length
    const needed = at + count
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.length = needed
    return at
  }

  u8(value: number): this {
    const at = this.#reserve(1) // first: growing replaces the view
    this.#view.setUint8(at, value)
    return this
  }
  u16(value: number): this {
    const at = this.#reserve(2)
    this.#view.setUint16(at, value, true)
    return this
  }
  u32(value: number): this {
    const at = this.#reserve(4)
    this.#view.setUint32(at, value, true)
    return this
  }
  i32(value: number): this {
    const at = this.#reserve(4)
    this.#view.setInt32(at, value, true)
    return this
  }
  u64(value: bigint): this {
    const at = this.#reserve(8)
    this.#view.setBigUint64(at, value, true)
    return this
  }
  i64(value: bigint): this {
    const at = this.#reserve(8)
    this.#view.setBigInt64(at, value, true)
    return this
  }

  put(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length)
    this.#bytes.set(bytes, at)
    return this
  }

  zeros(count: number): this {
    const at = this.#reserve(count)
    this.#bytes.fill(0, at, at + count)
    return this
  }

  align(alignment: number): this {
    return this.zeros(alignUp(this.length, alignment) - this.length)
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.length)
  }
}

/** Rounds up to a multiple of `alignment`, a power of two. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}

/** Rounds an address or offset up to a multiple of `alignment`, a power of two. */
export function alignUpBig(value: bigint, alignment: bigint): bigint {
  return (value + alignment - 1n) & ~(alignment - 1n)
}

/** Rounds an address or offset down to a multiple of `alignment`, a power of two. */
export function alignDownBig(value: bigint, alignment: bigint): bigint {
  return value & ~(alignment - 1n)
}

const zeroBlock = Buffer.alloc(64 * 1024)

/** True when every byte is zero (memcmp against a block of zeros, 12 GB/s). */
export function isZero(bytes: Uint8Array): boolean {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 0; at < buffer.length; at += zeroBlock.length) {
    const end = Math.min(at + zeroBlock.length, buffer.length)
    if (buffer.compare(zeroBlock, 0, end - at, at, end) !== 0) return false
  }
  return true
}

const utf8 = new TextDecoder('utf-8')

/** The text before the first NUL (or the whole of `bytes`), as UTF-8. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end))
}

/** `0x` and the hexadecimal digits, as addresses are printed everywhere. */
export function hex(value: bigint | number): string {
  return value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`
}
