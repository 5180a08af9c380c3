/**
 * One field's value ⇄ JSON, as CRIU's own tool shows it. `readable` is its `--pretty`: marks of `schema/display.ts`
 * turn numbers into words; without it they stay numbers. Reading accepts both.
 */
import { UnreadableError } from '../../lib/errors.js'
import type { NamedField } from '../../lib/protobuf-schema.js'
import { decodeQuotedPrintable, encodeQuotedPrintable } from '../../lib/quoted-printable.js'
import type { Display } from './schema/display.js'

const LINE = 76

/** Base64 in lines of 76 characters, each ended, as Python's `encodebytes` writes it. */
export function base64Lines(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
  let lines = ''
  for (let at = 0; at < text.length; at += LINE) lines += `${text.slice(at, at + LINE)}\n`
  return lines
}

/** @throws UnreadableError for what is no text. */
export function fromBase64(text: unknown, what: string): Uint8Array {
  if (typeof text !== 'string')
    throw new UnreadableError(`${what} should be base64 text`, { found: typeof text })
  return Buffer.from(text, 'base64')
}

/** JSON of a value that is no message. @param hex true below a message marked as hexadecimal. */
export function valueToJson(field: NamedField, value: unknown, readable: boolean, hex: boolean): unknown {
  const { type } = field
  const display = field.display as Display | undefined
  if (type.kind === 'enumeration') return type.names.get(value as number) ?? value
  if (type.kind === 'scalar' && type.name === 'bytes')
    return display?.kind === 'quotedPrintable'
      ? encodeQuotedPrintable(value as Uint8Array)
      : base64Lines(value as Uint8Array)
  if (!readable || typeof value === 'boolean' || typeof value === 'string') return value
  const number = value as number | bigint
  if (hex) return `0x${number.toString(16)}`
  switch (display?.kind) {
    case 'hexadecimal':
      return `0x${number.toString(16)}`
    case 'device':
      return `${Number(number) >>> 20}:${Number(number) & 0xfffff}`
    case 'oldDevice': {
      const device = Number(number)
      return `${(device >>> 8) & 0xfff}:${(device & 0xff) | ((device >>> 12) & 0xfff00)}`
    }
    case 'flags':
      return flagsText(Number(number), display.bits)
    case 'words':
      return display.words[Number(number)] ?? number
    default:
      return number
  }
}

/** Names of the bits that are set, in the order of the table, then the rest. */
function flagsText(value: number, bits: ReadonlyArray<readonly [string, number]>): string {
  const names: string[] = []
  let rest = value
  for (const [name, bit] of bits)
    if ((value & bit) !== 0) {
      names.push(name)
      rest = (rest & ~bit) >>> 0
    }
  if (rest !== 0) names.push(`0x${rest.toString(16)}`)
  return names.join(' | ')
}

/** The value of a field from its JSON in either form. @throws UnreadableError */
export function valueFromJson(field: NamedField, json: unknown): unknown {
  const { type } = field
  const display = field.display as Display | undefined
  const wrong = (expected: string): never => {
    throw new UnreadableError(`'${field.name}' has no such value`, { found: String(json), expected })
  }
  if (type.kind === 'enumeration') {
    if (typeof json === 'number') return json
    return type.numbers.get(String(json)) ?? wrong([...type.numbers.keys()].join(', '))
  }
  if (type.kind === 'message') return wrong('a value')
  switch (type.name) {
    case 'bool':
      return typeof json === 'boolean' ? json : wrong('true or false')
    case 'string':
      return typeof json === 'string' ? json : wrong('text')
    case 'bytes':
      return display?.kind === 'quotedPrintable' && typeof json === 'string'
        ? decodeQuotedPrintable(json)
        : fromBase64(json, `'${field.name}'`)
  }
  const number = integerFromJson(json, display) ?? wrong(`a number (${type.name})`)
  return type.name.endsWith('64') ? BigInt(number) : Number(number)
}

function integerFromJson(json: unknown, display: Display | undefined): bigint | number | undefined {
  if (typeof json === 'number') return Number.isSafeInteger(json) ? json : undefined
  if (typeof json !== 'string') return undefined
  switch (display?.kind) {
    case 'device':
    case 'oldDevice': {
      const [major, minor] = (/^(\d+):(\d+)$/.exec(json) ?? []).slice(1).map(Number)
      if (major === undefined || minor === undefined) break
      if (display.kind === 'device') return ((major << 20) | minor) >>> 0
      return (((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12)) >>> 0
    }
    case 'flags': {
      if (json === '') return 0
      let sum = 0n
      for (const word of json.split('|').map(each => each.trim())) {
        const bit = display.bits.find(([name]) => name === word)?.[1] ?? integerFromText(word)
        if (bit === undefined) return undefined
        sum |= BigInt(bit)
      }
      return sum
    }
    case 'words': {
      const found = Object.entries(display.words).find(([, word]) => word === json)
      if (found !== undefined) return Number(found[0])
    }
  }
  return integerFromText(json)
}

/** Decimal, `0x…`, `0o…` or `0b…`, with a sign or not. */
function integerFromText(text: string): bigint | undefined {
  const match = /^([+-]?)(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|\d+)$/.exec(text.trim())
  if (match === null) return undefined
  const magnitude = BigInt(match[2]!)
  return match[1] === '-' ? -magnitude : magnitude
}

/** One 32-bit word is IPv4, four are IPv6 (both in network order); undefined for another number of words. */
export function ipAddressText(words: readonly number[]): string | undefined {
  const octets = words.flatMap(word => [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24])
  if (words.length === 1) return octets.join('.')
  if (words.length !== 4) return undefined
  const groups: number[] = []
  for (let i = 0; i < 16; i += 2) groups.push((octets[i]! << 8) | octets[i + 1]!)
  // The longest run of two or more zero groups becomes `::`; the first of equal ones (RFC 5952).
  let best = { start: 0, length: 1 }
  for (let start = 0; start < 8; start++) {
    let length = 0
    while (groups[start + length] === 0) length++
    if (length > best.length) best = { start, length }
  }
  const text = (part: number[]) => part.map(group => group.toString(16)).join(':')
  if (best.length < 2) return text(groups)
  return `${text(groups.slice(0, best.start))}::${text(groups.slice(best.start + best.length))}`
}

/** The words of an address in text. @throws UnreadableError */
export function ipAddressWords(text: string): number[] {
  const octets = text.includes(':') ? ipv6Octets(text) : text.split('.').map(Number)
  if (
    octets === undefined ||
    (octets.length !== 4 && octets.length !== 16) ||
    octets.some(octet => !Number.isInteger(octet) || octet < 0 || octet > 255)
  )
    throw new UnreadableError('no IP address', { found: text })
  const words: number[] = []
  for (let i = 0; i < octets.length; i += 4)
    words.push((octets[i]! | (octets[i + 1]! << 8) | (octets[i + 2]! << 16) | (octets[i + 3]! << 24)) >>> 0)
  return words
}

function ipv6Octets(text: string): number[] | undefined {
  const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text)
  if (tail !== null) {
    const [a, b, c, d] = tail[2]!.split('.').map(Number) as [number, number, number, number]
    return ipv6Octets(`${tail[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`)
  }
  const [head, rest, more] = text.split('::')
  if (more !== undefined) return undefined
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map(group => Number.parseInt(group, 16))
  const first = groups(head!)
  const last = rest === undefined ? [] : groups(rest)
  const missing = 8 - first.length - last.length
  if (rest === undefined ? missing !== 0 : missing < 1) return undefined
  return [...first, ...new Array<number>(rest === undefined ? 0 : missing).fill(0), ...last].flatMap(
    group => [group >> 8, group & 255],
  )
}
