/**
 * Palacios' keyed streams: a directory with a file a context, named as its key.
 *
 *   textfile:                          file:  (records that follow each other, little endian)
 *     [guest_info0]                      u32 0xabcd0123
 *     RIP=8007100000000000               s64 length of the tag, the tag
 *     CR0=1300008000000000               s64 length of the data, the data
 *
 * A text value is the bytes of the C object in memory order, two hexadecimal digits a byte; blanks and line ends may
 * stand between digits. There is no length: the reader (Palacios) asks for the tags in its own order, so order, names
 * and lengths must stay. A file that was written over a longer one keeps old bytes at its end; they are kept here too.
 * Source: Palacios palacios/src/palacios/vmm_checkpoint.c, linux_module/iface-keyed-stream.c.
 */
import { UnreadableError } from '../../lib/errors.js'

const RECORD_MAGIC = 0xabcd0123
/** Bytes of a tag; real ones have at most 24, auto tags hold C expressions. */
export const MAX_TAG_BYTES = 4096
const MAX_RECORDS = 1 << 20

export interface TagRecord {
  readonly tag: string
  data: Uint8Array
  /** How the record was written, where that is not the plain form. */
  text: string | undefined
}

export interface Context {
  readonly key: string
  readonly records: TagRecord[]
  /** What stands behind the last record. */
  readonly tail: Uint8Array
  /** The heading as it was written (text form). */
  readonly heading: string
}

const canonical = (tag: string, data: Uint8Array) => `${tag}=${Buffer.from(data).toString('hex')}\n`
const headingOf = (key: string) => `[${key}]\n`

/** @param key name of the file. @throws UnreadableError with the line for what Palacios would not read either. */
export function parseText(bytes: Uint8Array, key: string, file?: string): Context {
  const text = Buffer.from(bytes).toString('latin1')
  const heading = /^[\t\r\n ]*\[([^\]\n]*)\][\t\r ]*(?:\n|$)/.exec(text)
  if (heading === null || heading[1] !== key)
    throw new UnreadableError(`a context that does not begin with [${key}]`, {
      file,
      found: JSON.stringify(text.slice(0, 40)),
    })
  const records: TagRecord[] = []
  let at = heading[0].length
  let tailAt = at
  while (at < text.length) {
    const end = lineEnd(text, at)
    const split = text.indexOf('=', at)
    if (split < 0 || split >= end) {
      // A line without a tag goes on with the value above it, as long as it is made of digits.
      const last = records.at(-1)
      const line = text.slice(at, end)
      if (/^[\t\r\n ]*$/.test(line) && last === undefined) at = tailAt = end
      else if (last !== undefined && /^[0-9a-fA-F\t\r\n ]*$/.test(line)) {
        const raw = (last.text ?? canonical(last.tag, last.data)) + line
        const more = digits(line)
        if (more === undefined) break
        last.data = Buffer.concat([last.data, more])
        last.text = raw
        at = tailAt = end
      } else break
      continue
    }
    if (records.length >= MAX_RECORDS || split - at > MAX_TAG_BYTES)
      throw new UnreadableError('too many or too long tags', { file, offset: at })
    const tag = text.slice(at, split).trim()
    const data = digits(text.slice(split + 1, end))
    if (data === undefined || tag === '') break
    const raw = text.slice(at, end)
    records.push({ tag, data, text: raw === canonical(tag, data) ? undefined : raw })
    at = tailAt = end
  }
  return { key, records, tail: bytes.subarray(tailAt), heading: heading[0] }
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end + 1
}

/** undefined when there are other characters than digits and blanks, or half a byte. */
function digits(text: string): Uint8Array | undefined {
  const hex = text.replace(/[\t\r\n ]+/g, '')
  return hex.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(hex) ? Buffer.from(hex, 'hex') : undefined
}

/** The file of a context in text form; records that were read are as they were. */
export function formatText(context: Context): Uint8Array {
  const text = context.records.map(({ tag, data, text }) => text ?? canonical(tag, data)).join('')
  return Buffer.concat([Buffer.from(context.heading + text, 'latin1'), context.tail])
}

/** Which of the two forms a file has, by its first bytes. */
export function isBinary(head: Uint8Array): boolean {
  return head.length >= 4 && Buffer.from(head).readUInt32LE(0) === RECORD_MAGIC
}

export function parseBinary(bytes: Uint8Array, key: string, file?: string): Context {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const records: TagRecord[] = []
  let at = 0
  const length = (most: number) => {
    if (bytes.length - at < 8)
      throw new UnreadableError('truncated: a record ends early', { file, offset: at })
    const value = view.getBigInt64(at, true)
    at += 8
    if (value < 0n || value > BigInt(Math.min(most, bytes.length - at)))
      throw new UnreadableError('a record of impossible length', {
        file,
        offset: at - 8,
        found: value,
        expected: `at most ${Math.min(most, bytes.length - at)} bytes`,
      })
    return Number(value)
  }
  while (at + 4 <= bytes.length && view.getUint32(at, true) === RECORD_MAGIC) {
    if (records.length >= MAX_RECORDS) throw new UnreadableError('too many records', { file, offset: at })
    at += 4
    const tagLength = length(MAX_TAG_BYTES)
    const tag = Buffer.from(bytes.subarray(at, at + tagLength)).toString('latin1')
    at += tagLength
    const dataLength = length(bytes.length)
    records.push({ tag, data: bytes.subarray(at, at + dataLength), text: undefined })
    at += dataLength
  }
  return { key, records, tail: bytes.subarray(at), heading: headingOf(key) }
}

/** The file of a context in binary form. */
export function formatBinary({ records, tail }: Context): Uint8Array {
  const parts: Uint8Array[] = []
  for (const { tag, data } of records) {
    const head = Buffer.alloc(12 + tag.length + 8)
    head.writeUInt32LE(RECORD_MAGIC, 0)
    head.writeBigInt64LE(BigInt(tag.length), 4)
    head.write(tag, 12, 'latin1')
    head.writeBigInt64LE(BigInt(data.length), 12 + tag.length)
    parts.push(head, data)
  }
  return Buffer.concat([...parts, tail])
}

export function newContext(
  key: string,
  records: ReadonlyArray<readonly [tag: string, data: Uint8Array]>,
): Context {
  return {
    key,
    records: records.map(([tag, data]) => ({ tag, data, text: undefined })),
    tail: new Uint8Array(),
    heading: headingOf(key),
  }
}
