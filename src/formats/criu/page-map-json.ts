/**
 * The JSON of a page map, written as bytes straight from the cursor, without a record or a string an entry: a quarter of a
 * million entries is the common large file. Same text as `json.ts` makes (a property test compares).
 */

import type { Message } from '../../lib/protobuf-schema.js'
import { writePythonJson } from '../../lib/python-json.js'
import { messageToJson } from './json.js'
import { valueToJson } from './json-values.js'
import type { PageMapCursor } from './page-map.js'
import { pagemap_entry } from './schema/memory.js'

const INDENT = 4
const PIECE = 1 << 16
/** More than any entry in the cursor's form takes. */
const MARGIN = 512

const ascii = (text: string) => Buffer.from(text, 'latin1')
const HEX = ascii('0123456789abcdef')
const ZERO = 0x30

/** A block of text that grows byte by byte; the caller empties it before it is full. */
class TextBlock {
  bytes = new Uint8Array(PIECE)
  length = 0

  put(text: Uint8Array): void {
    const { bytes } = this
    let at = this.length
    for (let i = 0; i < text.length; i++) bytes[at++] = text[i]!
    this.length = at
  }

  decimal(value: number): void {
    let digits = 1
    for (let power = 10; power <= value; power *= 10) digits++
    let at = this.length + digits
    this.length = at
    let rest = value
    // A double divides slowly: above 32 bits, nine digits at a time.
    while (rest > 0xffff_ffff) {
      const high = Math.floor(rest / 1e9)
      let low = (rest - high * 1e9) | 0
      for (let i = 0; i < 9; i++) {
        const next = (low / 10) | 0
        this.bytes[--at] = ZERO + low - next * 10
        low = next
      }
      rest = high
    }
    let small = rest >>> 0
    do {
      const next = Math.floor(small / 10)
      this.bytes[--at] = ZERO + small - next * 10
      small = next
    } while (small > 0)
  }

  hexadecimal(high: number, low: number): void {
    let started = false
    for (let shift = 28; shift >= 0; shift -= 4) {
      const digit = (high >>> shift) & 15
      started ||= digit !== 0
      if (started) this.bytes[this.length++] = HEX[digit]!
    }
    for (let shift = 28; shift >= 0; shift -= 4) {
      const digit = (low >>> shift) & 15
      started ||= digit !== 0 || shift === 0
      if (started) this.bytes[this.length++] = HEX[digit]!
    }
  }

  take(): Uint8Array {
    const taken = this.bytes.subarray(0, this.length)
    this.bytes = new Uint8Array(PIECE)
    this.length = 0
    return taken
  }
}

/** The whole JSON in pieces, without a newline at the end. @throws UnreadableError */
export function* pageMapJson(cursor: PageMapCursor, readable: boolean): Generator<Uint8Array> {
  // Line starts of the list, of an entry, and of a field in it.
  const [inner, entry, field] = readable ? ['\n    ', '\n        ', '\n            '] : ['', '', '']
  const comma = readable ? ',' : ', '
  const label = (name: string) => ascii(`${comma}${field}"${name}": `)
  const begin = ascii(`${comma}${entry}{${field}"vaddr": ${readable ? '"0x' : ''}`)
  const quote = ascii(readable ? '"' : '')
  const end = ascii(`${entry}}`)
  const compatPages = label('compat_nr_pages')
  const newPages = label('nr_pages')
  const inParent = [false, true].map(value => Buffer.concat([label('in_parent'), ascii(String(value))]))
  const flagsField = pagemap_entry.byNumber[pagemap_entry.fields.flags.number]!
  const flagsText = (value: number) =>
    Buffer.concat([label('flags'), ascii(writePythonJson(valueToJson(flagsField, value, readable, false)))])
  const flags = Array.from({ length: 8 }, (_, value) => flagsText(value))

  yield ascii(
    `{${inner}"magic": "PAGEMAP"${comma}${inner}"entries": [${entry}{${field}"pages_id": ${cursor.pagesId}${entry}}`,
  )
  const block = new TextBlock()
  while (cursor.next()) {
    if (cursor.record !== undefined) {
      const json = messageToJson(pagemap_entry, cursor.record as Message, readable)
      const lines = writePythonJson(json, readable ? INDENT : undefined)
      if (block.length > 0) yield block.take()
      yield ascii(`${comma}${entry}${readable ? lines.replaceAll('\n', entry) : lines}`)
      continue
    }
    block.put(begin)
    if (readable) block.hexadecimal(cursor.addressHigh, cursor.addressLow)
    else if (cursor.addressHigh < 0x20_0000)
      block.decimal(cursor.addressHigh * 0x1_0000_0000 + cursor.addressLow)
    else block.put(ascii(String(cursor.address)))
    block.put(quote)
    // Up to CRIU 4.1 the only count was called nr_pages (see json.ts).
    block.put(cursor.newPages === undefined ? newPages : compatPages)
    block.decimal(cursor.compatPages)
    if (cursor.inParent !== undefined) block.put(inParent[Number(cursor.inParent)]!)
    if (cursor.flags !== undefined) block.put(flags[cursor.flags] ?? flagsText(cursor.flags))
    if (cursor.newPages !== undefined) {
      block.put(newPages)
      block.decimal(cursor.newPages)
    }
    block.put(end)
    if (block.length > PIECE - MARGIN) yield block.take()
  }
  yield block.take()
  yield ascii(`${inner}]${readable ? '\n' : ''}}`)
}
