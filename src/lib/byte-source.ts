/**
 * Something with bytes at offsets: a file, or a buffer. Memory extents point into sources,
 * so that an image of many gigabytes is described without being read.
 */
import fs from 'node:fs'
import { systemReason, UnreadableError } from './errors.js'

export interface ByteSource {
  /** Size in bytes. */
  readonly size: number
  /** Path to name in messages and to open again; undefined for a buffer. */
  readonly path: string | undefined
  /** Fills `into` from `offset`. @throws UnreadableError when the source ends before. */
  readInto(into: Uint8Array, offset: number): void
  /** `length` bytes from `offset`. */
  read(offset: number, length: number): Uint8Array
  close(): void
}

/** A file opened for reading. Holes read as zeros. */
export class FileSource implements ByteSource {
  readonly path: string
  readonly size: number
  /** Open descriptor, for `copy_file_range` and the like. */
  readonly fd: number
  #open = true

  /** @throws UnreadableError when the file cannot be opened or is no regular file or block device. */
  constructor(path: string) {
    this.path = path
    try {
      this.fd = fs.openSync(path, 'r')
    } catch (error) {
      throw new UnreadableError(`cannot open: ${systemReason(error)}`, {
        file: path,
        cause: error,
      })
    }
    const stat = fs.fstatSync(this.fd)
    if (!stat.isFile()) {
      fs.closeSync(this.fd)
      throw new UnreadableError('not a regular file', { file: path })
    }
    this.size = stat.size
  }

  readInto(into: Uint8Array, offset: number): void {
    let done = 0
    while (done < into.length) {
      const count = fs.readSync(this.fd, into, done, into.length - done, offset + done)
      if (count === 0)
        throw new UnreadableError('truncated: the file ends before the data it should hold', {
          file: this.path,
          offset: offset + done,
          found: `${this.size} bytes in the file`,
          expected: `${offset + into.length} bytes`,
        })
      done += count
    }
  }

  read(offset: number, length: number): Uint8Array {
    // The check comes before the allocation: a length from an untrusted image may be anything.
    if (offset < 0 || length < 0 || offset + length > this.size)
      throw new UnreadableError('truncated: the file ends before the data it should hold', {
        file: this.path,
        offset,
        found: `${this.size} bytes in the file`,
        expected: `${offset + length} bytes`,
      })
    const bytes = new Uint8Array(length)
    this.readInto(bytes, offset)
    return bytes
  }

  close(): void {
    if (this.#open) fs.closeSync(this.fd)
    this.#open = false
  }
}

/** Bytes already in memory. */
export class BufferSource implements ByteSource {
  readonly path = undefined
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }

  get size(): number {
    return this.bytes.length
  }

  readInto(into: Uint8Array, offset: number): void {
    into.set(this.read(offset, into.length))
  }

  read(offset: number, length: number): Uint8Array {
    if (offset < 0 || length < 0 || offset + length > this.bytes.length)
      throw new UnreadableError('truncated: the data ends before what it should hold', {
        offset,
        found: `${this.bytes.length} bytes`,
        expected: `${offset + length} bytes`,
      })
    return this.bytes.subarray(offset, offset + length)
  }

  close(): void {}
}
