import fc from 'fast-check'
import type { Message, MessageType, NamedField } from '../../src/lib/protobuf-schema.js'

export interface RecordOptions {
  /** Only these fields; all when absent. */
  readonly fields?: (message: MessageType, field: NamedField) => boolean
  /** Only what CRIU's own tool can show: known enumeration values, addresses of one or four words. */
  readonly tame?: boolean
}

/** Messages within messages go no deeper than this. */
const DEPTH = 3

/** Random records of a message type, by its table. */
export function someRecord(type: MessageType, options: RecordOptions = {}, depth = 0): fc.Arbitrary<Message> {
  const fields: Record<string, fc.Arbitrary<unknown>> = {}
  const required: string[] = []
  for (const field of type.ordered) {
    if (options.fields?.(type, field) === false && field.label !== 'required') {
      if (field.label === 'repeated') fields[field.name] = fc.constant([])
      continue
    }
    if (field.label === 'required') required.push(field.name)
    const deep = field.type.kind === 'message' && depth >= DEPTH
    if (deep && field.label !== 'required') {
      if (field.label === 'repeated') fields[field.name] = fc.constant([])
      continue
    }
    const value = someValue(field, options, depth)
    if (field.label !== 'repeated') fields[field.name] = value
    else {
      const address = (field.display as { kind?: string } | undefined)?.kind === 'ipAddress'
      fields[field.name] =
        address && options.tame
          ? fc
              .constantFrom(0, 1, 4)
              .chain(length => fc.array(value, { minLength: length, maxLength: length }))
          : fc.array(value, { maxLength: 4 })
    }
  }
  const requiredKeys = [
    ...required,
    ...type.ordered.filter(field => field.label === 'repeated').map(field => field.name),
  ]
  // An optional field is either a value or not there at all.
  return fc.record(fields, { requiredKeys, noNullPrototype: true }) as fc.Arbitrary<Message>
}

const int32 = fc.oneof(fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }), fc.integer({ min: -3, max: 300 }))
const uint32 = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.nat(300))
const int64 = fc.oneof(
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  fc.bigInt({ min: -3n, max: 300n }),
)
const uint64 = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.bigInt({ min: 0n, max: 300n }))
const octets = fc.oneof(
  fc.uint8Array({ maxLength: 120 }),
  // Names of sockets: zeros, blanks and lines are where quoting goes wrong.
  fc
    .array(fc.constantFrom(0, 9, 10, 13, 32, 46, 61, 65, 200), { maxLength: 100 })
    .map(list => Uint8Array.from(list)),
)

function someValue(field: NamedField, options: RecordOptions, depth: number): fc.Arbitrary<unknown> {
  const { type } = field
  if (type.kind === 'message') return someRecord(type, options, depth + 1)
  if (type.kind === 'enumeration') {
    const known = fc.constantFrom(...type.numbers.values())
    return options.tame ? known : fc.oneof(known, int32)
  }
  switch (type.name) {
    case 'bool':
      return fc.boolean()
    case 'string':
      return fc.string({ unit: 'grapheme', maxLength: 30 })
    case 'bytes':
      // CRIU's tool takes CR LF in a name for a line end; ours keeps it.
      return options.tame ? octets.map(list => list.filter(byte => byte !== 13)) : octets
    case 'uint32':
      return uint32
    case 'int32':
    case 'sint32':
      return int32
    case 'uint64':
    case 'fixed64':
      return uint64
    case 'int64':
    case 'sint64':
      return int64
  }
}
