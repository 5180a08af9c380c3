/** Which memory an image of the format holds: runs of pages that are not all zero, each with its checksum. */
import { crc32 } from 'node:zlib'
import { isZero } from '../../lib/bytes.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { ExtentRecord } from './record.js'

/** The runs in `bytes`, which begin at address `base`; none is longer than `longest` bytes. */
export function extentsIn(bytes: Uint8Array, base: number, longest = Infinity): ExtentRecord[] {
  const extents: ExtentRecord[] = []
  let from = -1
  const end = (to: number) => {
    if (from >= 0)
      extents.push({
        address: BigInt(base + from),
        length: BigInt(to - from),
        crc: crc32(bytes.subarray(from, to)) >>> 0,
      })
    from = -1
  }
  for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
    const empty = isZero(bytes.subarray(at, at + PAGE_SIZE))
    if (empty || at - from >= longest) end(at)
    if (!empty && from < 0) from = at
  }
  end(bytes.length)
  return extents
}
