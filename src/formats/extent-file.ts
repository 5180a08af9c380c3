/** Writes an extent of memory into a file: slices by reflink or in-kernel copy, zeros as holes. */
import { writeFully } from '../lib/atomic-file.js'
import { FileSource } from '../lib/byte-source.js'
import { isZero } from '../lib/bytes.js'
import { copyRange } from '../lib/sparse.js'
import { type Extent, readContent } from '../model/memory.js'

/** Larger pieces that are in memory (a patch never is) still go out in blocks of this size. */
const BLOCK = 1024 * 1024

/** `offset` is where its first byte goes; the file there must be a hole. */
export function writeExtent(fd: number, extent: Extent, offset: number): void {
  const { content } = extent
  if (content.kind === 'zero') return
  if (content.kind === 'slice' && content.source instanceof FileSource) {
    copyRange(content.source.fd, content.offset, fd, offset, extent.length)
    return
  }
  for (let done = 0; done < extent.length; done += BLOCK) {
    const block = new Uint8Array(Math.min(BLOCK, extent.length - done))
    readContent(content, block, done)
    if (!isZero(block)) writeFully(fd, block, offset + done)
  }
}
