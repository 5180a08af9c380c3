/**
 * What only a core of imago's own can tell: each mapping carries the number and the checksum of its pages that
 * are not all zeros. Reads every stored byte once, in blocks.
 */
import type { FileSource } from '../../lib/byte-source.js'
import { hex } from '../../lib/bytes.js'
import { dataRanges } from '../../lib/sparse.js'
import { PAGE_SIZE } from '../../model/memory.js'
import { PageChecksum } from './page-checksum.js'
import type { NoteRecord } from './private-notes.js'
import { readRawCore } from './raw.js'

const BLOCK = 256 * PAGE_SIZE

/** Problems in words; none for a whole image. */
export async function verify(path: string): Promise<readonly string[]> {
  const raw = readRawCore(path)
  const source = raw.source as FileSource
  try {
    return [
      ...(raw.records.get('mapping') ?? []).flatMap(mapping => verifyMapping(source, mapping)),
      ...(raw.records.get('moved') ?? []).flatMap(run => verifyMoved(source, run)),
    ]
  } finally {
    source.close()
  }
}

function verifyMapping(source: FileSource, mapping: NoteRecord): string[] {
  const size = mapping.number('contentSize')
  if (size === 0) return []
  const name = `mapping ${hex(mapping.big('start'))}`
  if (size !== mapping.number('end') - mapping.number('start'))
    return [`${name}: holds ${size} bytes, its size is another`]
  return verifyContent(source, mapping, size, name)
}

function verifyMoved(source: FileSource, run: NoteRecord): string[] {
  const size = run.number('end') - run.number('start')
  return verifyContent(source, run, size, `pages at ${hex(run.big('start'))}`)
}

function verifyContent(source: FileSource, record: NoteRecord, size: number, name: string): string[] {
  const offset = record.number('contentOffset')
  if (size < 0 || offset + size > source.size) return [`${name}: its content lies beyond the end of the file`]
  const { pages, checksum } = checksumOfPages(source, offset, size)
  if (pages !== record.number('storedPages'))
    return [`${name}: ${pages} pages are not zero, ${record.number('storedPages')} were stored`]
  return checksum === record.number('checksum')
    ? []
    : [`${name}: its content has changed since the image was made`]
}

/** Holes are skipped without being read: their pages are zeros. */
function checksumOfPages(source: FileSource, offset: number, size: number): PageChecksum {
  const block = Buffer.allocUnsafe(BLOCK)
  const sum = new PageChecksum()
  for (const range of dataRanges(source.fd, offset, offset + size)) {
    // Where the file system's blocks are larger than pages, data may begin within a page.
    const start = offset + Math.floor((range.offset - offset) / PAGE_SIZE) * PAGE_SIZE
    const end = Math.min(offset + size, range.offset + range.length)
    for (let at = start; at < end; at += BLOCK) {
      const bytes = block.subarray(0, Math.min(BLOCK, end - at))
      source.readInto(bytes, at)
      sum.add(bytes)
    }
  }
  return sum
}
