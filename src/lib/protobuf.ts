/**
 * Protobuf records by their tables (`protobuf-schema.ts`): bytes ⇄ objects.
 *
 * Canonical bytes have fields by ascending number, each in its shortest form, repeated numbers unpacked: what
 * protobuf-c writes. Fields that the table does not know are kept under `UNKNOWN` and take their place by number.
 * A message in any other form keeps its own bytes as long as the record is not replaced by a changed one, so that
 * decode then encode is the identity for every input. Records are immutable: change one by making another.
 */
import { UnreadableError } from './errors.js'
import { decodeText, encodeText } from './escaped-text.js'
import {
  type EnumerationType,
  type Message,
  type MessageOf,
  type MessageType,
  type NamedField,
  type ScalarType,
  UNKNOWN,
  type UnknownField,
} from './protobuf-schema.js'
import { ReverseWriter, WireReader, WireType } from './protobuf-wire.js'

/** Messages within messages deeper than this are refused, as Google's own decoders do. */
const MAX_DEPTH = 100

/** The bytes of records that were not in canonical form. */
const exactBytes = new WeakMap<object, Uint8Array>()

/** Where the bytes come from, for messages. */
export interface Place {
  readonly file?: string | undefined
  /** Offset of the message in that file. */
  readonly base?: number
}

/**
 * Decodes one message. `bytes` fields are views of the input.
 * @throws UnreadableError when it is cut short, malformed, or lacks a required field.
 */
export function decodeMessage<T extends MessageType>(
  type: T,
  bytes: Uint8Array,
  place: Place = {},
): MessageOf<T> {
  const message = decode(type, new WireReader(bytes, place), 0)
  if (Buffer.compare(encodeCanonically(type, message), bytes) !== 0) exactBytes.set(message, bytes)
  return message as MessageOf<T>
}

/** Encodes one message. @throws UnreadableError when a required field is missing or a value is out of range. */
export function encodeMessage<T extends MessageType>(type: T, message: MessageOf<T> | Message): Uint8Array {
  return exactBytes.get(message) ?? encodeCanonically(type, message as Message)
}

/** The same into `writer`, before what it holds. */
export function writeMessage(type: MessageType, message: Message, writer: ReverseWriter): void {
  const exact = exactBytes.get(message)
  if (exact !== undefined) writer.put(exact)
  else encode(type, message, writer)
}

function decode(type: MessageType, reader: WireReader, depth: number): Message {
  if (depth > MAX_DEPTH) reader.fail(`messages are nested more than ${MAX_DEPTH} deep`)
  const message: Record<string, unknown> = {}
  let unknown: UnknownField[] | undefined
  for (const field of type.ordered) if (field.label === 'repeated') message[field.name] = []
  while (reader.position < reader.end) {
    reader.varint()
    const wireType = reader.low & 7
    const number = reader.high * 0x2000_0000 + (reader.low >>> 3)
    const field = type.byNumber[number]
    if (field !== undefined && wireType === wireTypeOf(field)) {
      const value = decodeValue(field.type, reader, depth)
      if (field.label === 'repeated') (message[field.name] as unknown[]).push(value)
      else message[field.name] = value
    } else if (field?.label === 'repeated' && wireType === WireType.delimited) {
      const packed = reader.nested(reader.length())
      const values = message[field.name] as unknown[]
      while (packed.position < packed.end) values.push(decodeValue(field.type, packed, depth))
    } else {
      if (number === 0) reader.fail('field number 0')
      unknown ??= []
      unknown.push({ number, wireType, bytes: reader.skip(wireType) })
    }
  }
  for (const field of type.ordered)
    if (field.label === 'required' && message[field.name] === undefined)
      reader.fail(`${type.name} lacks its field '${field.name}'`)
  if (unknown !== undefined)
    (message as { [UNKNOWN]?: UnknownField[] })[UNKNOWN] = unknown.sort((a, b) => a.number - b.number)
  return message
}

function wireTypeOf(field: NamedField): number {
  const { type } = field
  if (type.kind === 'message') return WireType.delimited
  if (type.kind === 'enumeration') return WireType.varint
  switch (type.name) {
    case 'string':
    case 'bytes':
      return WireType.delimited
    case 'fixed64':
      return WireType.fixed64
    default:
      return WireType.varint
  }
}

function decodeValue(type: NamedField['type'], reader: WireReader, depth: number): unknown {
  if (type.kind === 'message') return decode(type, reader.nested(reader.length()), depth + 1)
  if (type.kind === 'enumeration') {
    reader.varint()
    return reader.low | 0
  }
  switch (type.name) {
    case 'bytes':
      return reader.take(reader.length())
    case 'string':
      return decodeText(reader.take(reader.length()))
    case 'fixed64':
      reader.fixed64()
      return reader.unsigned
  }
  reader.varint()
  const { low, high } = reader
  switch (type.name) {
    case 'uint32':
      return low
    case 'int32':
      return low | 0
    case 'sint32':
      return (low >>> 1) ^ -(low & 1)
    case 'bool':
      return low !== 0 || high !== 0
    case 'uint64':
      return reader.unsigned
    case 'int64':
      return BigInt.asIntN(64, reader.unsigned)
    case 'sint64': {
      const value = reader.unsigned
      return value & 1n ? -(value >> 1n) - 1n : value >> 1n
    }
  }
}

function encodeCanonically(type: MessageType, message: Message): Uint8Array {
  const writer = new ReverseWriter()
  encode(type, message, writer)
  return writer.finish()
}

function encode(type: MessageType, message: Message, writer: ReverseWriter): void {
  const unknown = message[UNKNOWN] ?? []
  let next = unknown.length - 1
  for (let i = type.ordered.length - 1; i >= 0; i--) {
    const field = type.ordered[i]!
    while (next >= 0 && unknown[next]!.number >= field.number) writeUnknown(unknown[next--]!, writer)
    const value = message[field.name]
    if (field.label === 'repeated') {
      const values = (value ?? []) as readonly unknown[]
      for (let at = values.length - 1; at >= 0; at--) writeField(type, field, values[at], writer)
    } else if (value !== undefined) writeField(type, field, value, writer)
    else if (field.label === 'required')
      throw new UnreadableError(`${type.name} lacks its field '${field.name}'`)
  }
  while (next >= 0) writeUnknown(unknown[next--]!, writer)
}

function writeUnknown(field: UnknownField, writer: ReverseWriter): void {
  writer.put(field.bytes)
  if (field.wireType === WireType.delimited) writer.varint(field.bytes.length)
  writer.tag(field.number, field.wireType)
}

function writeField(owner: MessageType, field: NamedField, value: unknown, writer: ReverseWriter): void {
  const { type } = field
  const wireType = wireTypeOf(field)
  if (wireType === WireType.delimited) {
    const before = writer.length
    if (type.kind === 'message') encode(type, value as Message, writer)
    else writer.put(type.name === 'string' ? encodeText(value as string) : (value as Uint8Array))
    writer.varint(writer.length - before)
  } else if (!writeNumber(type as ScalarType<unknown> | EnumerationType, value, writer))
    throw new UnreadableError(`${owner.name}.${field.name} cannot hold this value`, {
      found: String(value),
      expected: type.name,
    })
  writer.tag(field.number, wireType)
}

/** False when `value` does not fit `type`. */
function writeNumber(
  type: ScalarType<unknown> | EnumerationType,
  value: unknown,
  writer: ReverseWriter,
): boolean {
  const name = type.kind === 'enumeration' ? 'int32' : type.name
  if (name === 'bool') {
    writer.varint(value ? 1 : 0)
    return typeof value === 'boolean'
  }
  if (typeof value === 'number') {
    if (!Number.isInteger(value)) return false
    switch (name) {
      case 'uint32':
        if (value < 0 || value > 0xffff_ffff) return false
        writer.varint(value)
        return true
      case 'int32':
        if (value !== (value | 0)) return false
        if (value < 0) writer.varint64(BigInt(value))
        else writer.varint(value)
        return true
      case 'sint32':
        if (value !== (value | 0)) return false
        writer.varint(((value << 1) ^ (value >> 31)) >>> 0)
        return true
    }
    return false
  }
  if (typeof value !== 'bigint') return false
  switch (name) {
    case 'uint64':
    case 'fixed64':
      if (value < 0n || value > 0xffff_ffff_ffff_ffffn) return false
      if (name === 'uint64') writer.varint64(value)
      else writer.fixed64(value)
      return true
    case 'int64':
    case 'sint64':
      if (BigInt.asIntN(64, value) !== value) return false
      writer.varint64(name === 'int64' ? value : (value << 1n) ^ (value >> 63n))
      return true
  }
  return false
}
