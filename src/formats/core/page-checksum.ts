import { crc32 } from 'node:zlib'
import { isZero } from '../../lib/bytes.js'
import { PAGE_SIZE } from '../../model/memory.js'

/** What a mapping record says of its content: number and CRC-32 of the pages that are not all zeros, in order. */
export class PageChecksum {
  pages = 0
  checksum = 0

  /** @param bytes the next whole pages; a shorter last one counts as a page. */
  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
      const page = bytes.subarray(at, at + PAGE_SIZE)
      if (isZero(page)) continue
      this.pages++
      this.checksum = crc32(page, this.checksum)
    }
  }
}
