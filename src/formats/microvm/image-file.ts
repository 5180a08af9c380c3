/** A microvm image on disk: header, where memory lies, and what only the whole file can tell. */
import crypto from 'node:crypto'
import { crc32 } from 'node:zlib'
import { FileSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'
import { DIGEST, DIGEST_AT, decodeHeader, headerLength } from './header.js'
import type { MicroVmRecord } from './record.js'

export interface MicroVmFile {
  readonly source: FileSource
  readonly record: MicroVmRecord
  /** Where guest physical address 0 lies in the file. */
  readonly memoryOffset: number
}

/** Opens and checks the header and that the file is as long as it says. @throws UnreadableError */
export function openMicroVmFile(path: string): MicroVmFile {
  const source = new FileSource(path)
  try {
    const memoryOffset = headerLength(source.read(0, Math.min(72, source.size)), path)
    const record = decodeHeader(source.read(0, memoryOffset), path)
    const end = memoryOffset + Number(record.memoryBytes)
    if (source.size < end)
      throw new UnreadableError('truncated: the memory of the guest is not all there', {
        file: path,
        found: `${source.size} bytes`,
        expected: `${end} bytes`,
      })
    for (const file of record.files)
      if (
        file.contentOffset !== 0n &&
        (file.contentOffset < end || file.contentOffset + file.contentLength > source.size)
      )
        throw new UnreadableError(`the content of ${file.name} lies outside of the image`, {
          file: path,
          offset: file.contentOffset,
        })
    return { source, record, memoryOffset }
  } catch (error) {
    source.close()
    throw error
  }
}

/** The checksum of an image's header, in hex: two images with the same one are the same. @throws UnreadableError */
export function headerDigest(path: string): string {
  const { source } = openMicroVmFile(path)
  try {
    return Buffer.from(source.read(DIGEST_AT, DIGEST)).toString('hex')
  } finally {
    source.close()
  }
}

/** Compares every checksum with what is there; returns the differences. Reads the whole image. */
export function verifyMicroVmFile(path: string): string[] {
  const image = openMicroVmFile(path)
  try {
    return differences(image)
  } finally {
    image.source.close()
  }
}

function differences({ source, record, memoryOffset }: MicroVmFile): string[] {
  const problems: string[] = []
  for (const extent of record.extents)
    if (crcOf(source, memoryOffset + Number(extent.address), Number(extent.length)) !== extent.crc)
      problems.push(
        `memory at 0x${extent.address.toString(16)} (${extent.length} bytes) is not what was saved`,
      )
  for (const file of record.files) {
    if (file.contentOffset === 0n) continue
    const digest = crypto.createHash('sha256')
    for (const block of blocks(source, Number(file.contentOffset), Number(file.contentLength)))
      digest.update(block)
    if (!digest.digest().equals(file.contentDigest))
      problems.push(`the saved content of ${file.name} is damaged`)
  }
  return problems
}

/** `length` bytes in blocks of 1 MiB. */
export function* blocks(source: FileSource, offset: number, length: number): Generator<Uint8Array> {
  const size = 1 << 20
  for (let done = 0; done < length; done += size)
    yield source.read(offset + done, Math.min(size, length - done))
}

function crcOf(source: FileSource, offset: number, length: number): number {
  let crc = 0
  for (const block of blocks(source, offset, length)) crc = crc32(block, crc)
  return crc >>> 0
}
