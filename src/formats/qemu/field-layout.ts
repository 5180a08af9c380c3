/**
 * Where in a device's bytes each described field is.
 *
 * Paths: a field's name; `name[2]` for an element of an array that was described alone or is a structure;
 * `outer.inner` inside structures and subsections. A second field of the same path gets `#2` (the i8254 has
 * `channels[0].next_transition_time` twice).
 */
import type { BigEndianReader } from './big-endian.js'
import type { DeviceDescription, FieldDescription, StateDescription } from './description.js'
import { SUBSECTION_MARK } from './optional-parts.js'

export interface Field {
  readonly path: string
  readonly type: string
  /** Bytes of one element. */
  readonly size: number
  /** Number of elements, or undefined for a field that is no array. */
  readonly count: number | undefined
  /** Offset in the device's bytes. */
  readonly offset: number
}

/** Where the fields of a device lie, and what says so. */
export interface Layout {
  readonly description: DeviceDescription
  /** In the order of the bytes. */
  readonly fields: readonly Field[]
  readonly byPath: ReadonlyMap<string, Field>
  /** Structure (`state.`, nothing for the device itself) → offset behind its last byte. */
  readonly ends: ReadonlyMap<string, number>
}

/** Fields of one device, after arrays of structures are unfolded; a large real device has some thousands. */
const MAX_FIELDS = 1_000_000

/**
 * Goes over the bytes of one device at the reader's position, as `description` says, and leaves the reader after them.
 * @throws UnreadableError when the bytes are not as described.
 */
export function readLayout(reader: BigEndianReader, device: string, description: DeviceDescription): Layout {
  const walk = new Walk(reader, device)
  if (description.fields === undefined && description.subsections === undefined)
    walk.field('data', { name: 'data', type: 'buffer', size: description.size ?? 0 })
  else walk.structure('', description)
  return { description, fields: walk.fields, byPath: walk.byPath, ends: walk.ends }
}

class Walk {
  readonly #reader: BigEndianReader
  readonly #device: string
  readonly #start: number
  readonly fields: Field[] = []
  readonly byPath = new Map<string, Field>()
  readonly ends = new Map<string, number>()

  constructor(reader: BigEndianReader, device: string) {
    this.#reader = reader
    this.#device = device
    this.#start = reader.position
  }

  get #offset(): number {
    return this.#reader.position - this.#start
  }

  /** The device itself (no prefix), a structure or a subsection (`state.`). */
  structure(prefix: string, description: StateDescription): void {
    for (const field of description.fields ?? []) {
      const path = prefix + field.name + (field.index === undefined ? '' : `[${field.index}]`)
      if (field.type !== 'struct' || field.struct === undefined) this.field(path, field)
      else if (field.array_len === undefined) this.structure(`${path}.`, field.struct)
      else this.#structures(path, field.struct, field.array_len)
    }
    for (const subsection of description.subsections ?? []) this.#subsection(prefix, subsection)
    this.ends.set(prefix, this.#offset)
  }

  #structures(path: string, description: StateDescription, count: number): void {
    for (let i = 0; i < count; i++) {
      const before = this.#offset
      this.structure(`${path}[${i}].`, description)
      // Elements without bytes would repeat for as long as the description likes.
      if (this.#offset === before)
        throw this.#reader.error(`device '${this.#device}' describes an array of nothing`)
    }
  }

  #subsection(prefix: string, description: StateDescription): void {
    const name = description.vmsd_name!
    const mark = this.#reader.u8('subsection mark')
    if (mark !== SUBSECTION_MARK)
      throw this.#reader.error(`subsection '${name}' of device '${this.#device}' does not begin here`, {
        found: `0x${mark.toString(16)}`,
        expected: `0x${SUBSECTION_MARK.toString(16)}`,
      })
    const found = this.#reader.name('subsection name')
    if (found !== name)
      throw this.#reader.error(`another subsection than described in device '${this.#device}'`, {
        found: JSON.stringify(found),
        expected: JSON.stringify(name),
      })
    this.#reader.u32('subsection version')
    this.structure(`${prefix}${name}.`, description)
  }

  /** An integer, bytes, or an array of these. */
  field(path: string, { type, size, array_len: count }: FieldDescription): void {
    if (this.fields.length >= MAX_FIELDS)
      throw this.#reader.error(`device '${this.#device}' describes too many fields`)
    let unique = path
    for (let n = 2; this.byPath.has(unique); n++) unique = `${path}#${n}`
    const field: Field = { path: unique, type, size, count, offset: this.#offset }
    this.fields.push(field)
    this.byPath.set(unique, field)
    this.#reader.skip(size * (count ?? 1), `field '${path}' of device '${this.#device}'`)
  }
}
