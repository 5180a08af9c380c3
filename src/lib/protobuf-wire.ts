/**
 * The wire level of protobuf: varints, fixed-size values, length-delimited bytes (protobuf.dev, "Encoding").
 *
 *   message := (tag value)*       tag := varint(field number << 3 | wire type)
 *   value   := varint | 8 bytes | varint(length) bytes | 4 bytes        for wire types 0, 1, 2, 5
 */
import { UnreadableError } from './errors.js'

export const WireType = { varint: 0, fixed64: 1, delimited: 2, fixed32: 5 } as const

/** Reads one message's bytes. A varint is left in `low` and `high`: most values need no bigint. */
export class WireReader {
  readonly bytes: Uint8Array
  position: number
  readonly end: number
  /** The low and high 32 bits (unsigned) of the last varint or fixed64. */
  low = 0
  high = 0
  /** Added to offsets in error messages. */
  readonly #base: number
  readonly #file: string | undefined

  constructor(bytes: Uint8Array, options: { base?: number; file?: string | undefined } = {}) {
    this.bytes = bytes
    this.position = 0
    this.end = bytes.length
    this.#base = options.base ?? 0
    this.#file = options.file
  }

  /** A reader of `length` bytes from here; this one moves past them. */
  nested(length: number): WireReader {
    const start = this.position
    return new WireReader(this.take(length), { base: this.#base + start, file: this.#file })
  }

  fail(message: string): never {
    throw new UnreadableError(message, { file: this.#file, offset: this.#base + this.position })
  }

  /** Reads a varint of at most 10 bytes into `low` and `high`; bits beyond 64 are dropped. */
  varint(): void {
    const { bytes, end } = this
    let position = this.position
    let byte = position < end ? bytes[position]! : this.fail('truncated: a number runs past its message')
    position++
    if (byte < 0x80) {
      this.low = byte
      this.high = 0
      this.position = position
      return
    }
    let low = byte & 0x7f
    let high = 0
    for (let shift = 7; shift < 70; shift += 7) {
      if (position >= end) this.fail('truncated: a number runs past its message')
      byte = bytes[position++]!
      const bits = byte & 0x7f
      if (shift < 28) low |= bits << shift
      else if (shift === 28) {
        low |= bits << 28
        high = bits >>> 4
      } else if (shift < 63) high |= bits << (shift - 32)
      else high |= (bits & 1) << 31
      if (byte < 0x80) {
        this.low = low >>> 0
        this.high = high >>> 0
        this.position = position
        return
      }
    }
    this.fail('a number of more than 10 bytes')
  }

  fixed64(): void {
    const at = this.position
    if (this.end - at < 8) this.fail('truncated: 8 bytes run past the message')
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8)
    this.low = view.getUint32(0, true)
    this.high = view.getUint32(4, true)
    this.position = at + 8
  }

  /** The unsigned 64-bit value in `low` and `high`. */
  get unsigned(): bigint {
    // Below 2^53 a double holds it exactly, and one conversion is cheaper than two.
    if (this.high < 0x20_0000) return BigInt(this.high * 0x1_0000_0000 + this.low)
    return (BigInt(this.high) << 32n) | BigInt(this.low)
  }

  /** The length of what follows. @throws UnreadableError when it runs past the message. */
  length(): number {
    this.varint()
    const length = this.high * 0x1_0000_0000 + this.low
    if (length > this.end - this.position)
      throw new UnreadableError('truncated: a field runs past its message', {
        file: this.#file,
        offset: this.#base + this.position,
        found: `${this.end - this.position} bytes`,
        expected: `${length} bytes`,
      })
    return length
  }

  /** A view of the next `count` bytes, which the caller has checked. */
  take(count: number): Uint8Array {
    const start = this.position
    this.position = start + count
    return this.bytes.subarray(start, start + count)
  }

  /** The bytes of a value of any wire type, for a field that the table does not know. */
  skip(wireType: number): Uint8Array {
    const start = this.position
    switch (wireType) {
      case WireType.varint:
        this.varint()
        return this.bytes.subarray(start, this.position)
      case WireType.delimited:
        return this.take(this.length())
      case WireType.fixed64:
      case WireType.fixed32: {
        const size = wireType === WireType.fixed64 ? 8 : 4
        if (size > this.end - start) this.fail(`truncated: ${size} bytes run past the message`)
        return this.take(size)
      }
      default:
        return this.fail(`wire type ${wireType} is not in use`)
    }
  }
}

/** Writes from the end to the front, so that a length is known when its turn comes and nothing is copied twice. */
export class ReverseWriter {
  #bytes = new Uint8Array(256)
  #start = 256

  /** Bytes written so far. */
  get length(): number {
    return this.#bytes.length - this.#start
  }

  #reserve(count: number): number {
    if (count > this.#start) {
      const used = this.length
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, used + count))
      grown.set(this.#bytes.subarray(this.#start), grown.length - used)
      this.#bytes = grown
      this.#start = grown.length - used
    }
    this.#start -= count
    return this.#start
  }

  put(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length) // first: growing replaces the buffer
    this.#bytes.set(bytes, at)
  }

  /** The varint of an unsigned number below 2^53. */
  varint(value: number): void {
    if (value < 0x80) {
      const at = this.#reserve(1)
      this.#bytes[at] = value
      return
    }
    let size = 1
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) size++
    let at = this.#reserve(size)
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) this.#bytes[at++] = (rest % 128) | 0x80
    this.#bytes[at] = rest
  }

  /** The varint of 64 bits; a negative value counts as its two's complement. */
  varint64(value: bigint): void {
    if (value >= 0n && value <= 0x1f_ffff_ffff_ffffn) {
      this.varint(Number(value))
      return
    }
    let rest = BigInt.asUintN(64, value)
    const digits: number[] = []
    for (; rest >= 0x80n; rest >>= 7n) digits.push(Number(rest & 0x7fn) | 0x80)
    digits.push(Number(rest))
    this.put(Uint8Array.from(digits))
  }

  fixed64(value: bigint): void {
    const at = this.#reserve(8)
    new DataView(this.#bytes.buffer).setBigUint64(at, value, true)
  }

  u32(value: number): void {
    const at = this.#reserve(4)
    for (let i = 0; i < 4; i++) this.#bytes[at + i] = value >>> (8 * i)
  }

  tag(number: number, wireType: number): void {
    this.varint(number * 8 + wireType)
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(this.#start)
  }
}
