/**
 * One CRIU image file: bytes ⇄ entries. Nothing is lost: unknown fields, padding and odd encodings survive, so that
 * decode then encode gives the same bytes.
 *
 *   file   := [common or service magic] magic entry*        both u32, little endian; `image-kinds.ts`
 *   entry  := u32 length, message, extra                     `extra.ts` says what follows which message
 *
 * A page map begins with a `pagemap_head`; a ghost file with chunks goes on with `ghost_chunk_entry`.
 */
import { ByteReader, hex } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import { decodeMessage, writeMessage } from '../../lib/protobuf.js'
import type { Message, MessageOf, MessageType } from '../../lib/protobuf-schema.js'
import { ReverseWriter } from '../../lib/protobuf-wire.js'
import { extraLength } from './extra.js'
import { type Framing, framingMagic, type ImageKind, kindByMagic } from './image-kinds.js'
import { ghost_chunk_entry } from './schema/files.js'

export interface Entry {
  readonly type: MessageType
  readonly message: Message
  /** The raw bytes after the message, padding included; absent where the kind has none. */
  readonly extra?: Uint8Array
}

export interface ImageFile {
  readonly kind: ImageKind
  readonly framing: Framing
  readonly entries: readonly Entry[]
}

/** What the first bytes say. @throws UnreadableError for a magic that no kind has. */
export function readHeader(reader: ByteReader, file?: string): Pick<ImageFile, 'kind' | 'framing'> {
  let magic = reader.u32('magic')
  const framing: Framing =
    magic === framingMagic.common ? 'common' : magic === framingMagic.service ? 'service' : 'bare'
  if (framing !== 'bare') magic = reader.u32('magic of the kind')
  const kind = kindByMagic.get(magic)
  if (kind === undefined)
    throw new UnreadableError('no kind of CRIU image has this magic', {
      file,
      offset: reader.position - 4,
      found: hex(magic),
      hint: 'pages-*.img and tarballs hold raw data: only the other files can be decoded',
    })
  return { kind, framing }
}

/** Decodes a whole file. `file` is named in errors. @throws UnreadableError */
export function decodeImageFile(bytes: Uint8Array, file?: string): ImageFile {
  const reader = new ByteReader(bytes, { file })
  const { kind, framing } = readHeader(reader, file)
  const entries: Entry[] = []
  let type = kind.head ?? kind.entry
  while (reader.remaining > 0) {
    const length = entryLength(reader, file)
    const base = reader.position
    const message = decodeMessage(type, reader.take(length, type.name), { file, base }) as Message
    const chunk = type === (ghost_chunk_entry as MessageType)
    const extra = chunk
      ? reader.take(Number((message as MessageOf<typeof ghost_chunk_entry>).len), 'content of a chunk')
      : kind.extra && reader.take(extraLength(kind.extra, message, reader), `data after ${type.name}`)
    entries.push(extra === undefined ? { type, message } : { type, message, extra })
    type = kind.extra === 'ghostFile' ? ghost_chunk_entry : kind.entry
  }
  return { kind, framing, entries }
}

/** The kind of a file and how many entries it has (a page map's head not counted). @throws UnreadableError */
export function describeImageFile(bytes: Uint8Array, file?: string): { kind: ImageKind; count: number } {
  const reader = new ByteReader(bytes, { file })
  const { kind } = readHeader(reader, file)
  // Only where raw data follows must an entry be decoded to find the next.
  if (kind.extra !== undefined) return { kind, count: decodeImageFile(bytes, file).entries.length }
  let count = kind.head === undefined ? 0 : -1
  for (; reader.remaining > 0; count++) reader.skip(entryLength(reader, file))
  return { kind, count }
}

/** Reads an entry's length and checks it. */
export function entryLength(reader: ByteReader, file?: string): number {
  const offset = reader.position
  const length = reader.u32('length of an entry')
  if (length > reader.remaining || length > limits.recordBytes)
    throw new UnreadableError('truncated: an entry runs past the end', {
      file,
      offset,
      found: `${reader.remaining} bytes left`,
      expected: `${length} bytes`,
    })
  return length
}

/** The bytes of a file. What was decoded and not changed becomes the same bytes. */
export function encodeImageFile(image: ImageFile): Uint8Array {
  // From the last entry to the first: the writer knows each length when it is needed.
  const writer = new ReverseWriter()
  for (let i = image.entries.length - 1; i >= 0; i--) {
    const entry = image.entries[i]!
    if (entry.extra !== undefined) writer.put(entry.extra)
    const before = writer.length
    writeMessage(entry.type, entry.message, writer)
    writer.u32(writer.length - before)
  }
  writer.u32(image.kind.magic)
  if (image.framing !== 'bare') writer.u32(framingMagic[image.framing])
  return writer.finish()
}

/** The messages of a file whose entries are all of `type`. */
export function messagesOf<T extends MessageType>(image: ImageFile, type: T): MessageOf<T>[] {
  return image.entries
    .filter(entry => entry.type === (type as MessageType))
    .map(entry => entry.message as MessageOf<T>)
}
