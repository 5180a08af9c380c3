/**
 * RAM in a migration stream. The section `ram` comes in parts: START names the blocks, PART and END hold pages.
 *
 *   START   u64 total bytes | 0x04, per block { u8 n, name, u64 bytes }, u64 0x10
 *   PART,   records until u64 0x10: u64 page address in its block | flags
 *   END       0x02  the page is one byte repeated:  [u8 n, block name], u8 the byte
 *             0x08  a page:                         [u8 n, block name], 4096 bytes
 *             0x20  same block as the record before: no name
 *             0x10  end of the part
 *             0x200 multifd flush: pages went elsewhere
 *
 * A page may come several times (a running guest dirties it again): the last one counts. A page that never comes
 * is zero. Source: QEMU migration/ram.c.
 */

import type { ByteSource } from '../../lib/byte-source.js'
import { type Content, type Extent, extentEnd, Memory, sliceExtent, ZERO } from '../../model/memory.js'
import type { BigEndianReader } from './big-endian.js'
import { PackedPages, RAM_PAGE_BYTES } from './packed-pages.js'

/** What the low bits of a record say. */
export const RamFlag = {
  fill: 0x02,
  blocks: 0x04,
  page: 0x08,
  end: 0x10,
  continued: 0x20,
  xbzrle: 0x40,
  compressed: 0x100,
  multifdFlush: 0x200,
} as const

export interface RamBlock {
  /** `pc.ram` is the guest's RAM; others are ROMs and device memory. */
  readonly name: string
  readonly size: number
  /** The block's bytes by offset in the block; a gap is zero. */
  readonly memory: Memory
}

const MAX_BLOCKS = 4096
/** The largest block: 64 TiB, more than any x86-64 machine has. */
const MAX_BLOCK_BYTES = 2 ** 46

/** Collects the pages of one block in the order in which they come. */
class BlockPages {
  readonly name: string
  readonly size: number
  readonly #runs: Extent[] = []
  #lastEnd = 0
  #ordered = true

  constructor(name: string, size: number) {
    this.name = name
    this.size = size
  }

  add(address: number, content: Content): void {
    if (address < this.#lastEnd) this.#ordered = false
    const last = this.#runs.at(-1)
    if (last !== undefined && address === this.#lastEnd && goesOn(last, content))
      this.#runs[this.#runs.length - 1] = { ...last, length: last.length + RAM_PAGE_BYTES }
    else this.#runs.push({ address: BigInt(address), length: RAM_PAGE_BYTES, content })
    this.#lastEnd = address + RAM_PAGE_BYTES
  }

  finish(): RamBlock {
    const { name, size } = this
    return { name, size, memory: Memory.from(this.#ordered ? this.#runs : this.#lastOfEach()) }
  }

  /** Single pages, of which only the last with the same address stays. */
  #lastOfEach(): Iterable<Extent> {
    const pages = new Map<bigint, Extent>()
    for (const run of this.#runs)
      for (let at = run.address; at < extentEnd(run); at += BigInt(RAM_PAGE_BYTES))
        pages.set(at, sliceExtent(run, at, at + BigInt(RAM_PAGE_BYTES)))
    return pages.values()
  }
}

/** Whether a page with this content, right behind `run`, makes it longer. */
function goesOn(run: Extent, content: Content): boolean {
  if (content.kind === 'slice')
    return run.content.kind === 'slice' && run.content.offset + run.length === content.offset
  return content.kind === 'zero' && run.content.kind === 'zero'
}

/** Reads all parts of the section `ram`, then gives the blocks. */
export class RamReader {
  readonly #blocks = new Map<string, BlockPages>()
  readonly #pages: PackedPages
  #current: BlockPages | undefined

  constructor(source: ByteSource) {
    this.#pages = new PackedPages(source)
  }

  /** Reads one part's payload; the reader stands at its first byte, and afterwards behind its last. */
  readPart(reader: BigEndianReader): void {
    for (;;) {
      const record = reader.size('RAM record')
      const flags = record % RAM_PAGE_BYTES
      const address = record - flags
      if (flags & RamFlag.blocks) this.#readBlocks(reader, address)
      else if (flags & RamFlag.end) return
      else if (flags & RamFlag.fill) {
        const block = this.#block(reader, address, flags)
        const value = reader.u8('fill byte')
        block.add(
          address,
          value === 0 ? ZERO : { kind: 'bytes', bytes: new Uint8Array(RAM_PAGE_BYTES).fill(value) },
        )
      } else if (flags & RamFlag.page) {
        const block = this.#block(reader, address, flags)
        const offset = this.#pages.add(reader.position)
        block.add(address, { kind: 'slice', source: this.#pages, offset })
        reader.skip(RAM_PAGE_BYTES, 'page')
      } else if (flags & RamFlag.multifdFlush)
        throw reader.error('the pages of this stream went over other channels (multifd)', {
          hint: 'capture again with the migration capability multifd off (its default)',
        })
      else
        throw reader.error('a RAM record of an unknown kind', {
          found: `flags 0x${flags.toString(16)}`,
          hint:
            flags & (RamFlag.xbzrle | RamFlag.compressed)
              ? 'capture again with the migration capabilities xbzrle and compress off (their default)'
              : 'capture again with the default migration capabilities',
        })
    }
  }

  blocks(): RamBlock[] {
    return [...this.#blocks.values()].map(block => block.finish())
  }

  #readBlocks(reader: BigEndianReader, total: number): void {
    for (let left = total; left > 0; ) {
      const name = reader.name('RAM block name')
      const size = reader.size('RAM block size')
      if (size === 0 || size > left || size > MAX_BLOCK_BYTES || size % RAM_PAGE_BYTES !== 0)
        throw reader.error(`RAM block '${name}' has an impossible size`, { found: `${size} bytes` })
      if (this.#blocks.size >= MAX_BLOCKS) throw reader.error('too many RAM blocks')
      if (this.#blocks.has(name)) throw reader.error(`two RAM blocks are called '${name}'`)
      this.#blocks.set(name, new BlockPages(name, size))
      left -= size
    }
  }

  #block(reader: BigEndianReader, address: number, flags: number): BlockPages {
    if ((flags & RamFlag.continued) === 0) {
      const name = reader.name('RAM block name')
      this.#current = this.#blocks.get(name)
      if (this.#current === undefined) throw reader.error(`a page of an unknown RAM block '${name}'`)
    }
    const block = this.#current
    if (block === undefined) throw reader.error('a page that continues no block')
    if (address >= block.size)
      throw reader.error(`a page beyond the end of RAM block '${block.name}'`, {
        found: `0x${address.toString(16)}`,
        expected: `below 0x${block.size.toString(16)}`,
      })
    return block
  }
}
