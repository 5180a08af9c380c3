/**
 * An image that arrives: a file of the format microvm, filled page by page in any order, some of them several times.
 * Checksums are kept by blocks of 1 MiB and brought up to date between rounds, so that at the end little is left to do.
 */
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { extentsIn } from '../formats/microvm/extents.js'
import { decodeHeader, encodeHeader } from '../formats/microvm/header.js'
import type { ExtentRecord } from '../formats/microvm/record.js'
import { syncDirectory, writeFully } from '../lib/atomic-file.js'
import { PeerError } from '../lib/errors.js'
import { lockFile } from '../lib/libc.js'
import { PAGE_SIZE } from '../model/memory.js'
import { FRAME } from './frames.js'

const BLOCK = 1 << 20
const MOST_MEMORY = 2 ** 32
const MOST_CONTENT = 2 ** 40
/** Bytes of an entry in the table of extents. */
const EXTENT = 20
/** For everything in a header but extents; checked when the header is there. */
const SECTIONS = 1 << 20

/** The file of one image that arrives. */
export class Incoming {
  readonly file: string
  readonly totalSize: number
  /** Frames of pages and contents that were taken: where a cut transfer goes on. */
  frames = 0
  readonly #fd: number
  readonly #memoryOffset: number
  readonly #blocks = new Map<number, ExtentRecord[]>()
  readonly #stale = new Set<number>()
  /** Contents by index of the file: where they lie in the image. */
  readonly #contents = new Map<
    number,
    { offset: number; length: number; digest: crypto.Hash; filled: number }
  >()
  #end: number

  constructor(file: string, totalSize: number) {
    if (
      !Number.isSafeInteger(totalSize) ||
      totalSize <= 0 ||
      totalSize > MOST_MEMORY ||
      totalSize % PAGE_SIZE !== 0
    )
      throw new PeerError('impossible memory size', { found: totalSize })
    this.file = file
    this.totalSize = totalSize
    const worst = Math.ceil(totalSize / PAGE_SIZE / 2) * EXTENT
    this.#memoryOffset = Math.ceil((SECTIONS + worst) / PAGE_SIZE) * PAGE_SIZE
    this.#end = this.#memoryOffset + totalSize
    this.#fd = fs.openSync(file, 'w+', 0o600)
    lockFile(this.#fd)
    fs.ftruncateSync(this.#fd, this.#end)
  }

  /** Removes what transfers that were killed left in a folder. */
  static sweep(folder: string): void {
    for (const name of fs.readdirSync(folder).filter(name => name.endsWith('.part'))) {
      const file = path.join(folder, name)
      const fd = fs.openSync(file, 'r')
      if (lockFile(fd)) fs.rmSync(file)
      fs.closeSync(fd)
    }
  }

  #range(address: bigint, length: number): number {
    const at = Number(address)
    if (at % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || at + length > this.totalSize)
      throw new PeerError('pages outside of memory', { address })
    for (let block = Math.floor(at / BLOCK); block * BLOCK < at + length; block++) this.#stale.add(block)
    return this.#memoryOffset + at
  }

  pages(address: bigint, bytes: Uint8Array): void {
    writeFully(this.#fd, bytes, this.#range(address, bytes.length))
    this.frames++
  }

  zeros(address: bigint, length: bigint): void {
    if (length > BigInt(this.totalSize)) throw new PeerError('pages outside of memory', { address })
    let at = this.#range(address, Number(length))
    const zero = Buffer.alloc(Math.min(Number(length), BLOCK))
    for (let left = Number(length); left > 0; left -= zero.length, at += zero.length)
      writeFully(this.#fd, zero.subarray(0, Math.min(left, zero.length)), at)
    this.frames++
  }

  content(index: number, offset: bigint, total: bigint, bytes: Uint8Array): void {
    let content = this.#contents.get(index)
    if (content === undefined) {
      if (total > BigInt(MOST_CONTENT) || this.#contents.size > 4096)
        throw new PeerError('too much content of files')
      content = { offset: this.#end, length: Number(total), digest: crypto.createHash('sha256'), filled: 0 }
      this.#contents.set(index, content)
      this.#end += content.length
      fs.ftruncateSync(this.#fd, this.#end)
    }
    if (Number(offset) !== content.filled || content.filled + bytes.length > content.length)
      throw new PeerError('the content of a file comes out of order')
    writeFully(this.#fd, bytes, content.offset + content.filled)
    content.digest.update(bytes)
    content.filled += bytes.length
    this.frames++
  }

  /** Takes a frame of the transfer. Returns its payload when it is the header, with which the image can be finished. */
  take(type: number, payload: Buffer): Buffer | undefined {
    const least = { [FRAME.pages]: 8, [FRAME.zeros]: 16, [FRAME.content]: 20 }[type] ?? 0
    if (payload.length < least) throw new PeerError('a frame is too short')
    switch (type) {
      case FRAME.pages:
        this.pages(payload.readBigUInt64LE(0), payload.subarray(8))
        return undefined
      case FRAME.zeros:
        this.zeros(payload.readBigUInt64LE(0), payload.readBigUInt64LE(8))
        return undefined
      case FRAME.content:
        this.content(
          payload.readUInt32LE(0),
          payload.readBigUInt64LE(4),
          payload.readBigUInt64LE(12),
          payload.subarray(20),
        )
        return undefined
      case FRAME.round:
        this.refresh()
        // What is on the disk now need not be waited for while the guest stands still.
        fs.fdatasyncSync(this.#fd)
        return undefined
      default:
        return payload
    }
  }

  /** Brings the checksums of the blocks that changed up to date. */
  refresh(): void {
    const block = Buffer.allocUnsafe(BLOCK)
    for (const index of this.#stale) {
      const at = index * BLOCK
      const length = Math.min(BLOCK, this.totalSize - at)
      const bytes = block.subarray(0, length)
      let read = 0
      while (read < length)
        read += fs.readSync(this.#fd, bytes, read, length - read, this.#memoryOffset + at + read)
      this.#blocks.set(index, extentsIn(bytes, at))
    }
    this.#stale.clear()
  }

  /** Completes the image with its header, syncs it and gives it its name. @throws PeerError, UnreadableError */
  finish(header: Uint8Array, name: string): void {
    this.refresh()
    const record = decodeHeader(header)
    if (Number(record.memoryBytes) !== this.totalSize) throw new PeerError('the header is of another guest')
    record.leastHeader = this.#memoryOffset
    record.extents = [...this.#blocks].sort(([a], [b]) => a - b).flatMap(([, extents]) => extents)
    for (const [i, file] of record.files.entries()) {
      const content = this.#contents.get(i)
      if (content !== undefined && content.filled !== content.length)
        throw new PeerError('the content of a file is not whole')
      file.contentOffset = BigInt(content?.offset ?? 0)
      file.contentLength = BigInt(content?.length ?? 0)
      file.contentDigest = content?.digest.copy().digest() ?? new Uint8Array(32)
    }
    const bytes = encodeHeader(record)
    if (bytes.length !== this.#memoryOffset) throw new PeerError('the header is too long')
    writeFully(this.#fd, bytes, 0)
    fs.fsyncSync(this.#fd)
    fs.renameSync(this.file, name)
    syncDirectory(path.dirname(name))
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}
