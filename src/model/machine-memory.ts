/**
 * Guest RAM as a PC sees it: from 0 up to the hole below 4 GiB, and on from 4 GiB.
 */
import { hex } from '../lib/bytes.js'
import { extentEnd, type Memory, readContent } from './memory.js'

export const FOUR_GIB = 0x1_0000_0000n

export interface RamRange {
  readonly start: bigint
  readonly length: number
}

/** Ranges without gaps, in order. */
export function ramRanges(memory: Memory): RamRange[] {
  const ranges: { start: bigint; length: number }[] = []
  for (const extent of memory.extents) {
    const last = ranges.at(-1)
    if (last !== undefined && last.start + BigInt(last.length) === extent.address)
      last.length += extent.length
    else ranges.push({ start: extent.address, length: extent.length })
  }
  return ranges
}

/** `3072 MiB at 0x0, 1024 MiB at 0x100000000`. */
export const ramText = (ranges: readonly RamRange[]): string =>
  ranges.map(({ start, length }) => `${length / 2 ** 20} MiB at ${hex(start)}`).join(', ')

/** Bytes below the hole. */
export function lowRamBytes(memory: Memory): number {
  const first = ramRanges(memory)[0]
  return first !== undefined && first.start === 0n ? first.length : 0
}

/**
 * The bytes of [start, start + length) in blocks of `blockBytes`; `bytes` is undefined where all is known to be zero
 * (gaps count as zero). A fresh buffer each, so that several may be under way.
 */
export function* blocksOf(
  memory: Memory,
  start: bigint,
  length: number,
  blockBytes: number,
): Generator<{ readonly offset: number; readonly length: number; readonly bytes: Uint8Array | undefined }> {
  for (let offset = 0; offset < length; offset += blockBytes) {
    const size = Math.min(blockBytes, length - offset)
    const from = start + BigInt(offset)
    let bytes: Uint8Array | undefined
    for (const extent of memory.within(from, from + BigInt(size))) {
      if (extent.content.kind === 'zero') continue
      bytes ??= new Uint8Array(size)
      const at = Number(extent.address - from)
      readContent(extent.content, bytes.subarray(at, at + Number(extentEnd(extent) - extent.address)), 0)
    }
    yield { offset, length: size, bytes }
  }
}
