/**
 * The state of one device: its bytes as they lie in the stream, and where in them each described field is.
 *
 *   bytes    │ env.regs (16 × u64) │ env.eip │ … │ 05 n "cpu/tsc_khz" version │ env.tsc_khz │
 *   fields     path, type, size, count, offset       subsection mark            path 'cpu/tsc_khz.env.tsc_khz'
 *
 * Paths are those of field-layout.ts. All integers are big endian. Unknown types are bytes.
 */
import { BufferSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'
import { BigEndianReader } from './big-endian.js'
import type { DeviceDescription } from './description.js'
import { type Field, type Layout, readLayout } from './field-layout.js'
import { emptyPart, type OptionalPart, withSubsection } from './optional-parts.js'

/** Integers (bool 0 or 1), arrays of integers, or bytes. */
export type FieldValue = bigint | readonly bigint[] | Uint8Array

/** Types that are integers, and whether they are signed. A suffix such as ` equal` or ` le` is a check of the loader. */
const integerTypes: Readonly<Record<string, { readonly size: number; readonly signed: boolean }>> = {
  bool: { size: 1, signed: false },
  timer: { size: 8, signed: true },
  ...Object.fromEntries(
    [8, 16, 32, 64].flatMap(bits => [
      [`uint${bits}`, { size: bits / 8, signed: false }],
      [`int${bits}`, { size: bits / 8, signed: true }],
    ]),
  ),
}

function integerType(field: { type: string; size: number }) {
  const found = integerTypes[field.type.replace(/ (equal|le|range)$/, '')]
  return found?.size === field.size ? found : undefined
}

/** Bytes of one device's state. */
const MAX_STATE_BYTES = 256 * 1024 * 1024

export class DeviceState {
  readonly name: string
  readonly instance: number
  readonly version: number
  readonly bytes: Uint8Array
  readonly #layout: Layout

  constructor(
    identity: { name: string; instance: number; version: number },
    bytes: Uint8Array,
    layout: Layout,
  ) {
    this.name = identity.name
    this.instance = identity.instance
    this.version = identity.version
    this.bytes = bytes
    this.#layout = layout
  }

  get description(): DeviceDescription {
    return this.#layout.description
  }

  /** In the order of the bytes. */
  get fields(): readonly Field[] {
    return this.#layout.fields
  }

  /** Name and instance as messages show it: `i8259 1`. */
  get title(): string {
    return this.instance === 0 ? this.name : `${this.name} ${this.instance}`
  }

  has(path: string): boolean {
    return this.#layout.byPath.has(path)
  }

  #field(path: string): Field {
    const field = this.#layout.byPath.get(path)
    if (field === undefined) throw new UnreadableError(`device '${this.title}' has no field '${path}'`)
    return field
  }

  /** The value of a field. @throws UnreadableError when the device has no such field. */
  get(path: string): FieldValue {
    return this.value(this.#field(path))
  }

  /** A field that is one integer. @throws UnreadableError when it is not there, or is an array or bytes. */
  integer(path: string): bigint {
    const value = this.get(path)
    if (typeof value !== 'bigint')
      throw new UnreadableError(`field '${path}' of device '${this.title}' is no integer`, {
        found: this.#field(path).type,
      })
    return value
  }

  /** A field that is an array of integers. */
  integers(path: string): readonly bigint[] {
    const value = this.get(path)
    if (typeof value === 'bigint' || value instanceof Uint8Array)
      throw new UnreadableError(`field '${path}' of device '${this.title}' is no array of integers`, {
        found: this.#field(path).type,
      })
    return value
  }

  value(field: Field): FieldValue {
    const integer = integerType(field)
    if (integer === undefined)
      return this.bytes.subarray(field.offset, field.offset + field.size * (field.count ?? 1))
    const read = (index: number) => readInteger(this.bytes, field.offset + index * field.size, integer)
    return field.count === undefined ? read(0) : Array.from({ length: field.count }, (_, i) => read(i))
  }

  /**
   * This state with other values in some fields. Integers are cut to the field's width; bytes must be as long
   * as the field. @throws UnreadableError for a field that is not there, RangeError for a value of another shape.
   */
  patched(values: Iterable<readonly [path: string, value: FieldValue]>): DeviceState {
    const bytes = this.bytes.slice()
    for (const [path, value] of values) {
      const field = this.#field(path)
      const elements = typeof value === 'bigint' ? [value] : value
      const length =
        elements instanceof Uint8Array ? elements.length : elements.length * integerSize(this, field)
      if (length !== field.size * (field.count ?? 1))
        throw new RangeError(
          `field '${path}' of device '${this.title}' has ${field.size * (field.count ?? 1)} bytes, not ${length}`,
        )
      if (elements instanceof Uint8Array) bytes.set(elements, field.offset)
      else
        for (const [i, element] of elements.entries())
          writeInteger(bytes, field.offset + i * field.size, field.size, element)
    }
    return new DeviceState(this, bytes, this.#layout)
  }

  /** This state with one more subsection, whose fields are zero. */
  withPart(part: OptionalPart): DeviceState {
    const end = this.#layout.ends.get(part.within)
    if (end === undefined)
      throw new UnreadableError(`device '${this.title}' has no structure '${part.within}'`)
    const bytes = Buffer.concat([this.bytes.subarray(0, end), emptyPart(part), this.bytes.subarray(end)])
    const description = withSubsection(this.description, part.within, part.description)
    return readDeviceState(new BigEndianReader(new BufferSource(bytes)), this, description)
  }
}

function integerSize(device: DeviceState, field: Field): number {
  if (integerType(field) === undefined)
    throw new RangeError(`field '${field.path}' of device '${device.title}' is bytes (${field.type})`)
  return field.size
}

function readInteger(bytes: Uint8Array, at: number, type: { size: number; signed: boolean }): bigint {
  let value = 0n
  for (let i = 0; i < type.size; i++) value = (value << 8n) | BigInt(bytes[at + i]!)
  return type.signed ? BigInt.asIntN(type.size * 8, value) : value
}

function writeInteger(bytes: Uint8Array, at: number, size: number, value: bigint): void {
  let rest = BigInt.asUintN(size * 8, value)
  for (let i = size - 1; i >= 0; i--, rest >>= 8n) bytes[at + i] = Number(rest & 0xffn)
}

/** Reads the state of one device at the reader's position, as `description` says, and leaves the reader after it. */
export function readDeviceState(
  reader: BigEndianReader,
  identity: { name: string; instance: number; version: number },
  description: DeviceDescription,
): DeviceState {
  const start = reader.position
  const layout = readLayout(reader, identity.name, description)
  const length = reader.position - start
  if (length > MAX_STATE_BYTES)
    throw reader.error(`device '${identity.name}' is too large`, { found: `${length} bytes` })
  return new DeviceState(identity, reader.source.read(start, length).slice(), layout)
}
