/**
 * The header of a microvm image, bytes ⇄ records: nothing lost, byte-identical both ways.
 *
 *   0        8   magic "IMAGOVM" 0x1a
 *   8        4   version, 1
 *   12       4   number of sections
 *   16       8   H: length of the header, a multiple of 4096; guest memory begins there
 *   24       8   bytes of guest physical memory
 *   32       8   of these, bytes that the guest may use (see guest-layout.ts)
 *   40      32   SHA-256 of the first H bytes, with these 32 as zeros
 *   72           section table: kind u32, reserved u32, offset u64, length u64 (24 bytes each)
 *   …            sections, within the header, each at a multiple of 8
 *   H            guest physical address a lies at H + a; what no extent names is a hole, and zero
 *   H + memory   contents of open files, one after the other
 */
import crypto from 'node:crypto'
import { alignUp, ByteReader, ByteWriter } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { checkMeaning } from './meaning.js'
import type { MicroVmRecord } from './record.js'
import { codecs, SECTION } from './sections.js'

export const MAGIC = Buffer.from('IMAGOVM\u001a', 'latin1')
const VERSION = 1
const PAGE = 4096
const FIXED = 72
const ENTRY = 24
export const DIGEST_AT = 40
export const DIGEST = 32
/** Far above what a guest with 4 GiB in single pages needs. */
const MOST_HEADER = 64 << 20
const MOST_MEMORY = 1n << 32n

/** The header, digest included. */
export function encodeHeader(record: MicroVmRecord): Uint8Array {
  const sections: Array<{ kind: number; bytes: Uint8Array }> = []
  for (const [kind, codec] of Object.entries(codecs)) {
    if ('present' in codec && !codec.present(record)) continue
    const w = new ByteWriter(1024)
    codec.write(w, record)
    sections.push({ kind: Number(kind), bytes: w.finish() })
  }
  sections.push(...record.unknown)
  let at = alignUp(FIXED + sections.length * ENTRY, 8)
  const places = sections.map(({ bytes }) => {
    const place = at
    at = alignUp(at + bytes.length, 8)
    return place
  })
  const header = new Uint8Array(alignUp(Math.max(at, record.leastHeader ?? 0), PAGE))
  const w = new ByteWriter(FIXED + sections.length * ENTRY)
  w.put(MAGIC).u32(VERSION).u32(sections.length).u64(BigInt(header.length))
  w.u64(record.memoryBytes).u64(record.usableBytes).zeros(DIGEST)
  for (const [i, { kind, bytes }] of sections.entries())
    w.u32(kind).u32(0).u64(BigInt(places[i]!)).u64(BigInt(bytes.length))
  header.set(w.finish())
  for (const [i, { bytes }] of sections.entries()) header.set(bytes, places[i]!)
  header.set(digestOf(header), DIGEST_AT)
  return header
}

function digestOf(header: Uint8Array): Uint8Array {
  const zeros = new Uint8Array(DIGEST)
  return crypto
    .createHash('sha256')
    .update(header.subarray(0, DIGEST_AT))
    .update(zeros)
    .update(header.subarray(DIGEST_AT + DIGEST))
    .digest()
}

/** Length of the header, from the first 72 bytes. @throws UnreadableError */
export function headerLength(head: Uint8Array, file?: string): number {
  const r = new ByteReader(head, { file })
  if (!MAGIC.equals(r.take(8, 'magic')))
    throw new UnreadableError('not a microvm image', {
      file,
      found: Buffer.from(head.subarray(0, 8)).toString('hex'),
    })
  const version = r.u32('version')
  if (version !== VERSION)
    throw new UnreadableError('an unknown version of the format microvm', {
      file,
      offset: 8,
      found: version,
      expected: VERSION,
    })
  r.skip(4)
  const length = r.u64('header length')
  if (length < PAGE || length > MOST_HEADER || length % 4096n !== 0n)
    throw new UnreadableError('impossible header length', {
      file,
      offset: 16,
      found: length,
      expected: `a multiple of 4096 up to ${MOST_HEADER}`,
    })
  return Number(length)
}

/** The records of a whole header. @throws UnreadableError */
export function decodeHeader(header: Uint8Array, file?: string): MicroVmRecord {
  if (headerLength(header, file) !== header.length) throw new UnreadableError('truncated header', { file })
  const found = header.slice(DIGEST_AT, DIGEST_AT + DIGEST)
  if (!Buffer.from(digestOf(header)).equals(found))
    throw new UnreadableError('the header is damaged: its checksum differs', { file, offset: DIGEST_AT })
  const r = new ByteReader(header, { file, position: 12 })
  const count = r.u32()
  r.skip(8)
  const record = { memoryBytes: r.u64(), usableBytes: r.u64(), unknown: [] } as unknown as MicroVmRecord
  if (
    record.memoryBytes > MOST_MEMORY ||
    record.usableBytes > record.memoryBytes ||
    record.memoryBytes % 4096n !== 0n
  )
    throw new UnreadableError('impossible memory size', { file, offset: 24, found: record.memoryBytes })
  r.skip(DIGEST)
  if (count > 64)
    throw new UnreadableError('too many sections', { file, found: count, expected: 'at most 64' })
  const seen = new Set<number>()
  for (let i = 0; i < count; i++) {
    const kind = r.u32('section')
    r.skip(4)
    const offset = r.u64('section offset')
    const length = r.u64('section length')
    if (offset < FIXED || offset + length > header.length || seen.has(kind))
      throw new UnreadableError(`section ${kind} is repeated or lies outside of the header`, { file, offset })
    seen.add(kind)
    const bytes = header.subarray(Number(offset), Number(offset + length))
    const codec = codecs[kind as keyof typeof codecs]
    if (codec === undefined) {
      record.unknown.push({ kind, bytes: bytes.slice() })
      continue
    }
    const section = new ByteReader(bytes, { base: Number(offset), file })
    codec.read(section, record)
    if (section.remaining > 0)
      throw new UnreadableError(`section ${kind} is longer than its content`, {
        file,
        offset,
        found: `${section.remaining} bytes left`,
      })
  }
  for (const [name, kind] of Object.entries(SECTION))
    if (!seen.has(kind) && !('present' in codecs[kind]))
      throw new UnreadableError(`the section '${name}' is missing`, { file })
  checkMeaning(record, file)
  // What is longer than its sections need must stay so for the same bytes to come out.
  if (encodeHeader(record).length < header.length) record.leastHeader = header.length
  return record
}
