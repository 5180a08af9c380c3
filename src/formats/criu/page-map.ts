/**
 * Page maps, which may have a million entries: walked by a cursor that makes no objects. Entries in CRIU's own form
 * are read in place, by the tags of the table (`schema/memory.ts`); any other form goes through the codec.
 *
 *   pagemap-<pid>.img:  pagemap_head (which pages-<id>.img), then pagemap_entry, by address
 *   pages-<id>.img:     the pages of the entries that are present, in their order, nothing else
 */
import { ByteReader } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { decodeMessage } from '../../lib/protobuf.js'
import type { MessageOf, MessageType } from '../../lib/protobuf-schema.js'
import { WireType } from '../../lib/protobuf-wire.js'
import { entryLength, readHeader } from './image-file.js'
import type { Framing } from './image-kinds.js'
import { PageFlag } from './schema/display.js'
import { pagemap_entry, pagemap_head } from './schema/memory.js'

const tagOf = (name: keyof typeof pagemap_entry.fields) =>
  (pagemap_entry.fields[name].number << 3) | WireType.varint
const VADDR = tagOf('vaddr')
const COMPAT_NR_PAGES = tagOf('compat_nr_pages')
const IN_PARENT = tagOf('in_parent')
const FLAGS = tagOf('flags')
const NR_PAGES = tagOf('nr_pages')

/** Where the bytes of a run of pages are. */
export type PagePlace = 'present' | 'parent' | 'absent'

/** Stands on one entry after another: `while (cursor.next()) …`. Fields that an entry does not have are undefined. */
export class PageMapCursor {
  readonly head: MessageOf<typeof pagemap_head>
  readonly pagesId: number
  readonly framing: Framing
  /** The first address, in halves of 32 bits. */
  addressLow = 0
  addressHigh = 0
  /** The count in the field that CRIU up to 4.1 reads. */
  compatPages = 0
  inParent: boolean | undefined
  flags: number | undefined
  /** The count in the field of CRIU 4.2. */
  newPages: number | undefined
  /** The decoded entry, when it was not in CRIU's own form. */
  record: MessageOf<typeof pagemap_entry> | undefined
  readonly #reader: ByteReader
  readonly #bytes: Uint8Array
  readonly #file: string | undefined

  /** Reads the header and the head. @throws UnreadableError when this is no page map. */
  constructor(bytes: Uint8Array, file?: string) {
    this.#bytes = bytes
    this.#file = file
    this.#reader = new ByteReader(bytes, { file })
    const { kind, framing } = readHeader(this.#reader, file)
    if (kind.entry !== (pagemap_entry as MessageType))
      throw new UnreadableError('no page map', { file, found: kind.name, expected: 'PAGEMAP' })
    this.framing = framing
    const length = entryLength(this.#reader, file)
    const base = this.#reader.position
    this.head = decodeMessage(pagemap_head, this.#reader.take(length), { file, base })
    this.pagesId = this.head.pages_id
  }

  /** Moves to the next entry; false at the end. @throws UnreadableError for a broken one. */
  next(): boolean {
    const reader = this.#reader
    const bytes = this.#bytes
    let at = reader.position
    if (at === bytes.length) return false
    this.record = undefined
    // Short entries (all that CRIU writes) have their length in one byte and three zeros.
    const length = bytes[at]!
    const end = at + 4 + length
    const short =
      end <= bytes.length && length > 1 && bytes[at + 1] === 0 && bytes[at + 2] === 0 && bytes[at + 3] === 0
    at += 4
    if (!short || bytes[at] !== VADDR) return this.#decodeSlowly()
    this.inParent = undefined
    this.flags = undefined
    this.newPages = undefined
    let lastTag = 0
    let seen = 0
    while (at < end) {
      const tag = bytes[at++]!
      if (tag <= lastTag) return this.#decodeSlowly() // not CRIU's order
      lastTag = tag
      let low = 0
      let high = 0
      let shift = 0
      let byte: number
      do {
        if (at >= end || shift > 63) return this.#decodeSlowly()
        byte = bytes[at++]!
        if (shift < 28) low |= (byte & 0x7f) << shift
        else if (shift === 28) {
          low |= (byte & 0x7f) << 28
          high = (byte & 0x7f) >>> 4
        } else high |= (byte & 0x7f) << (shift - 32)
        shift += 7
      } while (byte >= 0x80)
      if (byte === 0 && shift > 7) return this.#decodeSlowly() // not the shortest form
      if (shift > 63 && byte > 1) return this.#decodeSlowly()
      seen++
      if (tag === VADDR) {
        this.addressLow = low >>> 0
        this.addressHigh = high >>> 0
      } else if (tag === COMPAT_NR_PAGES && high === 0) this.compatPages = low >>> 0
      else if (tag === FLAGS && high === 0) this.flags = low >>> 0
      else if (tag === NR_PAGES && high < 0x20_0000 && high >= 0)
        this.newPages = high * 0x1_0000_0000 + (low >>> 0)
      else if (tag === IN_PARENT && high === 0 && low >>> 0 <= 1) this.inParent = low === 1
      else return this.#decodeSlowly()
      // The two required fields come first.
      if (seen === 2 && tag !== COMPAT_NR_PAGES) return this.#decodeSlowly()
    }
    if (seen < 2) return this.#decodeSlowly()
    reader.position = end
    return true
  }

  #decodeSlowly(): true {
    const length = entryLength(this.#reader, this.#file)
    const base = this.#reader.position
    const entry = decodeMessage(pagemap_entry, this.#reader.take(length), { file: this.#file, base })
    this.addressLow = Number(entry.vaddr & 0xffff_ffffn)
    this.addressHigh = Number(entry.vaddr >> 32n)
    this.compatPages = entry.compat_nr_pages
    this.inParent = entry.in_parent
    this.flags = entry.flags
    this.record = entry
    this.newPages = entry.nr_pages === undefined ? undefined : Number(entry.nr_pages)
    return true
  }

  get address(): bigint {
    if (this.addressHigh < 0x20_0000) return BigInt(this.addressHigh * 0x1_0000_0000 + this.addressLow)
    return (BigInt(this.addressHigh) << 32n) | BigInt(this.addressLow)
  }

  /** Number of pages, whichever CRIU wrote it. */
  get pages(): number {
    return this.newPages || this.compatPages
  }

  get place(): PagePlace {
    if (this.flags === undefined) return this.inParent ? 'parent' : 'present' // before flags came
    if (this.flags & PageFlag.PE_PARENT) return 'parent'
    return this.flags & PageFlag.PE_PRESENT ? 'present' : 'absent'
  }
}
