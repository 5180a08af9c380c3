/**
 * imago's own notes of a core as records: bytes ⇄ named fields, driven by the table in `note-layout.ts`.
 * What a newer writer added stays: unknown trailing bytes of a record are kept, so decode then encode is
 * byte-identical.
 */
import { ByteReader, ByteWriter } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { type Field, NOTE_HEADER_SIZE, type RecordKind, recordKinds, recordLayout } from './note-layout.js'

export type FieldValue = number | bigint | Uint8Array

/** Records by the name of their kind. */
export type RecordsByKind = ReadonlyMap<string, readonly NoteRecord[]>

/** One record: values by field name; fields that an older writer did not know are zero or empty. */
export class NoteRecord {
  readonly kind: RecordKind
  readonly values: ReadonlyMap<string, FieldValue>
  /** Bytes behind the fields this version knows. */
  readonly tail: Uint8Array

  constructor(
    kind: RecordKind,
    values: ReadonlyMap<string, FieldValue>,
    tail: Uint8Array = new Uint8Array(),
  ) {
    this.kind = kind
    this.values = values
    this.tail = tail
  }

  #value(name: string): FieldValue {
    const value = this.values.get(name)
    if (value === undefined) throw new Error(`record ${this.kind.name} has no field ${name}`)
    return value
  }

  /** A u32 or i32, or a 64-bit value that is known to be small. */
  number(name: string): number {
    return Number(this.#value(name))
  }

  /** A u64, i64, or any other number as bigint. */
  big(name: string): bigint {
    return BigInt(this.#value(name) as number | bigint)
  }

  bytes(name: string): Uint8Array {
    return this.#value(name) as Uint8Array
  }

  /** A string or NUL-padded name as UTF-8. */
  text(name: string): string {
    const bytes = this.bytes(name)
    const end = bytes.indexOf(0)
    return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8')
  }

  /** Which of `constants`' values the field has; undefined for one of a newer writer. */
  constant<T extends Constants>(name: string, table: T): keyof T | undefined {
    return Object.keys(table).find(each => table[each]![0] === this.number(name))
  }

  /** The flags of `constants` whose bits are set in the field. */
  flags<T extends Constants>(name: string, table: T): ReadonlySet<keyof T> {
    const bits = this.number(name)
    return new Set(Object.keys(table).filter(each => (bits & table[each]![0]) !== 0))
  }
}

/** One of the tables in `constants` of note-layout.ts: value or bit, and what it means, by name. */
type Constants = Readonly<Record<string, readonly [number, string]>>

/** The named bits of a table of constants, together. */
export function bitsOf<T extends Constants>(table: T, names: Iterable<keyof T>): number {
  let bits = 0
  for (const name of names) bits |= table[name]![0]
  return bits
}

/** Kind of the record with this name in the table. */
export function recordKindNamed(name: string): RecordKind {
  const kind = recordKinds.find(candidate => candidate.name === name)
  if (kind === undefined) throw new Error(`no kind of record is called ${name}`)
  return kind
}

/** @throws UnreadableError when the descriptor holds less than its header claims. */
export function decodeRecords(
  kind: RecordKind,
  descriptor: Uint8Array,
  at: { file?: string | undefined; offset?: number } = {},
): NoteRecord[] {
  const header = new ByteReader(descriptor, { file: at.file, base: at.offset ?? 0 })
  const [size, count, stringsSize] = [
    header.u32('record size'),
    header.u32('record count'),
    header.u32('strings size'),
  ]
  header.skip(4)
  if (size * count + stringsSize > header.remaining)
    throw new UnreadableError(`the ${kind.name} records are cut short`, {
      ...at,
      found: `${header.remaining} bytes`,
      expected: `${count} records of ${size} bytes and ${stringsSize} bytes of strings`,
    })
  // A record of no bytes would make any count fit.
  if (size === 0 && count > 0) throw new UnreadableError(`the ${kind.name} records have no size`, { ...at })
  const records = header.bytes.subarray(NOTE_HEADER_SIZE, NOTE_HEADER_SIZE + size * count)
  const strings = header.bytes.subarray(
    NOTE_HEADER_SIZE + size * count,
    NOTE_HEADER_SIZE + size * count + stringsSize,
  )
  const { offsets, size: knownSize } = recordLayout(kind)
  return Array.from({ length: count }, (_, i) => {
    const record = records.subarray(i * size, (i + 1) * size)
    const values = new Map(
      kind.fields.map((field, n) => [field.name, decodeField(field, record, offsets[n]!, strings)]),
    )
    return new NoteRecord(kind, values, record.subarray(Math.min(size, knownSize)))
  })
}

function decodeField(
  { name, type }: Field,
  record: Uint8Array,
  offset: number,
  strings: Uint8Array,
): FieldValue {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength)
  const size = typeof type === 'object' ? type.bytes : type === 'u32' || type === 'i32' ? 4 : 8
  if (offset + size > record.length)
    return type === 'u64' || type === 'i64'
      ? 0n
      : typeof type === 'object' || type === 'string'
        ? new Uint8Array()
        : 0
  if (typeof type === 'object') return record.subarray(offset, offset + type.bytes)
  switch (type) {
    case 'u32':
      return view.getUint32(offset, true)
    case 'i32':
      return view.getInt32(offset, true)
    case 'u64':
      return view.getBigUint64(offset, true)
    case 'i64':
      return view.getBigInt64(offset, true)
    case 'string': {
      const start = view.getUint32(offset, true)
      const length = view.getUint32(offset + 4, true)
      if (start + length > strings.length)
        throw new UnreadableError(`the string '${name}' lies outside its note`, {
          found: `${start}+${length}`,
          expected: `at most ${strings.length}`,
        })
      return strings.subarray(start, start + length)
    }
  }
}

/** Values by field name; what is left out is zero or empty. Text may be given for strings and fixed names. */
export type RecordValues = Readonly<Record<string, number | bigint | string | Uint8Array | undefined>>

/** Makes a record of the kind called `name` from plain values; fields that they do not name are as in `base`, or zero. */
export function makeRecord(name: string, given: RecordValues, base?: NoteRecord): NoteRecord {
  const kind = recordKindNamed(name)
  const values: RecordValues = { ...(base && Object.fromEntries(base.values)), ...given }
  return new NoteRecord(
    kind,
    new Map(
      kind.fields.map(({ name, type }): [string, FieldValue] => {
        const value = values[name]
        const given = typeof value === 'string' ? Buffer.from(value, 'utf8') : value
        if (typeof type === 'object') return [name, padded(given as Uint8Array | undefined, type.bytes)]
        if (type === 'string') return [name, (given as Uint8Array | undefined) ?? new Uint8Array()]
        return [
          name,
          type === 'u32' || type === 'i32'
            ? Number(given ?? 0)
            : BigInt((given as number | bigint | undefined) ?? 0),
        ]
      }),
    ),
  )
}

function padded(bytes: Uint8Array | undefined, size: number): Uint8Array {
  const result = new Uint8Array(size)
  if (bytes) result.set(bytes.subarray(0, size))
  return result
}

/** The descriptor of a note that holds `records`; strings lie in the order of the records' fields. */
export function encodeRecords(kind: RecordKind, records: readonly NoteRecord[]): Uint8Array {
  const size = recordLayout(kind).size + (records[0]?.tail.length ?? 0)
  const strings = new ByteWriter()
  const body = new ByteWriter(size * records.length)
  for (const record of records) {
    const start = body.length
    for (const { name, type } of kind.fields) {
      const value = record.values.get(name)!
      if (typeof type === 'object') body.put(value as Uint8Array)
      else if (type === 'string') {
        body.u32(strings.length).u32((value as Uint8Array).length)
        strings.put(value as Uint8Array)
      } else if (type === 'u32') body.u32(value as number)
      else if (type === 'i32') body.i32(value as number)
      else if (type === 'u64') body.u64(value as bigint)
      else body.i64(value as bigint)
    }
    body.zeros(recordLayout(kind).size - (body.length - start)).put(record.tail)
  }
  const header = new ByteWriter(NOTE_HEADER_SIZE).u32(size).u32(records.length).u32(strings.length).u32(0)
  return header.put(body.finish()).put(strings.finish()).finish()
}
