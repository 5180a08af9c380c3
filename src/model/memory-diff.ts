/**
 * Which pages differ between two memories. Ranges that both sides point to in the same place, or that are
 * zero on both, are equal without being read; the rest is read in blocks and compared page by page.
 */
import { isZero } from '../lib/bytes.js'
import {
  type Address,
  type Content,
  type Extent,
  extentEnd,
  type Memory,
  PAGE_SIZE,
  type PageCount,
  readContent,
} from './memory.js'

export interface PageRange {
  readonly start: Address
  readonly pages: PageCount
  /** Held by both with other bytes, or held by one only. */
  readonly change: 'changed' | 'removed' | 'added'
}

const BLOCK = 256 * PAGE_SIZE

/** Neighbouring pages with the same change come as one range, in order of address. */
export function* differingPages(before: Memory, after: Memory): Generator<PageRange> {
  let open: PageRange | undefined
  for (const range of differences(before, after)) {
    if (open && open.change === range.change && open.start + BigInt(open.pages * PAGE_SIZE) === range.start)
      open = { ...open, pages: open.pages + range.pages }
    else {
      if (open) yield open
      open = range
    }
  }
  if (open) yield open
}

function* differences(before: Memory, after: Memory): Generator<PageRange> {
  for (const { start, end, first, second } of commonRanges(before, after)) {
    const pages = Math.ceil(Number(end - start) / PAGE_SIZE)
    if (first === undefined) yield { start, pages, change: 'added' }
    else if (second === undefined) yield { start, pages, change: 'removed' }
    else yield* changedPages(start, end, first, second)
  }
}

/** Cuts both memories at each other's borders; a side that lacks a range is undefined there. */
function* commonRanges(
  before: Memory,
  after: Memory,
): Generator<{ start: Address; end: Address; first: Extent | undefined; second: Extent | undefined }> {
  const a = before.extents
  const b = after.extents
  let i = 0
  let j = 0
  let at = 0n
  while (i < a.length || j < b.length) {
    const first = a[i]
    const second = b[j]
    const starts = [first, second]
      .filter(extent => extent !== undefined)
      .map(extent => (extent.address > at ? extent.address : at))
    at = starts.reduce((low, address) => (address < low ? address : low))
    const inFirst = first !== undefined && first.address <= at
    const inSecond = second !== undefined && second.address <= at
    const borders = [
      first && (inFirst ? extentEnd(first) : first.address),
      second && (inSecond ? extentEnd(second) : second.address),
    ].filter(border => border !== undefined)
    const end = borders.reduce((low, address) => (address < low ? address : low))
    yield { start: at, end, first: inFirst ? first : undefined, second: inSecond ? second : undefined }
    at = end
    if (first && extentEnd(first) <= at) i++
    if (second && extentEnd(second) <= at) j++
  }
}

function* changedPages(start: Address, end: Address, first: Extent, second: Extent): Generator<PageRange> {
  const firstOffset = Number(start - first.address)
  const secondOffset = Number(start - second.address)
  if (samePlace(first.content, firstOffset, second.content, secondOffset)) return
  const length = Number(end - start)
  const left = Buffer.alloc(Math.min(BLOCK, length))
  const right = Buffer.alloc(left.length)
  for (let done = 0; done < length; done += BLOCK) {
    const size = Math.min(BLOCK, length - done)
    const a = left.subarray(0, size)
    const b = right.subarray(0, size)
    readContent(first.content, a, firstOffset + done)
    if (second.content.kind === 'zero') {
      if (isZero(a)) continue
      b.fill(0)
    } else readContent(second.content, b, secondOffset + done)
    if (a.equals(b)) continue
    for (let page = 0; page < size; page += PAGE_SIZE)
      if (a.compare(b, page, page + PAGE_SIZE, page, page + PAGE_SIZE) !== 0)
        yield { start: start + BigInt(done + page), pages: 1, change: 'changed' }
  }
}

function samePlace(a: Content, aOffset: number, b: Content, bOffset: number): boolean {
  if (a.kind === 'zero') return b.kind === 'zero'
  return (
    a.kind === 'slice' &&
    b.kind === 'slice' &&
    a.source === b.source &&
    a.offset + aOffset === b.offset + bOffset
  )
}
