/**
 * The description at the end of a migration stream: what fields each device has written, in order.
 *
 *   0x06, u32 length, JSON to the end of the file:
 *   { "page_size": 4096,
 *     "configuration": { "fields": […], "subsections": […] },          (newer QEMU)
 *     "devices": [ { "name", "instance_id", "vmsd_name", "version",
 *                    "fields": [ { "name", "type", "size", "array_len"?, "index"?, "struct"? } ],
 *                    "subsections": [ { "vmsd_name", "version", "fields", "subsections" } ] } ] }
 *
 * Device state itself has no lengths, so this is the only key to it. Source: QEMU migration/savevm.c, vmstate.c.
 */
import type { ByteSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'

const DESCRIPTION_MARK = 0x06

/** Bytes of JSON that a description may have; a large machine's is under 1 MB. */
const MAX_DESCRIPTION_BYTES = 64 * 1024 * 1024
/** First guess at how far from the end the description begins. */
const FIRST_TAIL_BYTES = 512 * 1024

/** One field, or an array of equal fields (`array_len`). */
export interface FieldDescription {
  readonly name: string
  /** `uint32`, `bool`, `buffer`, `struct`, `timer`, … */
  readonly type: string
  /** Bytes of one element. */
  readonly size: number
  /** Number of equal elements that follow each other, described once. */
  readonly array_len?: number
  /** Which element of an array this is, when elements are described one by one. */
  readonly index?: number
  readonly struct?: StateDescription
}

/** A structure of fields, and the optional parts that were present. */
export interface StateDescription {
  readonly vmsd_name?: string
  readonly version?: number
  readonly fields?: readonly FieldDescription[]
  readonly subsections?: readonly StateDescription[]
}

export interface DeviceDescription extends StateDescription {
  readonly name: string
  readonly instance_id: number
  /** Bytes of an old-style device that describes no fields. */
  readonly size?: number
}

export interface StreamDescription {
  /** Offset in the file of the mark 0x06. */
  readonly offset: number
  readonly pageSize: number
  readonly configuration: StateDescription | undefined
  readonly devices: readonly DeviceDescription[]
  /** The JSON as it was read. */
  readonly whole: Readonly<Record<string, unknown>>
}

/** Finds and reads the description. @throws UnreadableError when the stream has none, or it is not what QEMU writes. */
export function readDescription(source: ByteSource): StreamDescription {
  const { offset, text } = findDescription(source)
  const fail = (message: string, found?: string): never => {
    throw new UnreadableError(`the stream's description ${message}`, { file: source.path, offset, found })
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    fail('is no JSON', (error as Error).message)
  }
  const { page_size, configuration, devices } = parsed as Record<string, unknown>
  if (!Array.isArray(devices)) fail("has no list 'devices'")
  for (const device of devices as unknown[]) {
    if (!isObject(device) || typeof device.name !== 'string' || typeof device.instance_id !== 'number')
      fail('lists a device without name and instance_id')
    checkState(device as Record<string, unknown>, fail, 0)
  }
  if (configuration !== undefined) {
    if (!isObject(configuration)) fail("has a 'configuration' that is no object")
    checkState(configuration as Record<string, unknown>, fail, 0)
  }
  if (page_size !== undefined && !isCount(page_size)) fail('has a page size that is no number')
  return {
    offset,
    pageSize: (page_size as number | undefined) ?? 4096,
    configuration: configuration as StateDescription | undefined,
    devices: devices as DeviceDescription[],
    whole: parsed as Record<string, unknown>,
  }
}

/** The bytes of a description whose devices are described otherwise, mark and length included. */
export function encodeDescription(
  { whole }: StreamDescription,
  devices: readonly DeviceDescription[],
): Buffer {
  const text = Buffer.from(JSON.stringify({ ...whole, devices }))
  const head = Buffer.from([DESCRIPTION_MARK, 0, 0, 0, 0])
  head.writeUInt32BE(text.length, 1)
  return Buffer.concat([head, text])
}

/** JSON holds no control characters, so the last 0x06 of the file is the mark or one of the four bytes of its length. */
function findDescription(source: ByteSource): { offset: number; text: string } {
  for (let length = FIRST_TAIL_BYTES; ; length *= 8) {
    const tail = Math.min(length, source.size, MAX_DESCRIPTION_BYTES)
    const start = source.size - tail
    const bytes = Buffer.from(source.read(start, tail))
    let at = bytes.lastIndexOf(DESCRIPTION_MARK)
    for (let tries = 0; at >= 0 && tries < 5; tries++) {
      const body = at + 5
      if (body < tail && bytes.readUInt32BE(at + 1) === tail - body && bytes[body] === 0x7b)
        return { offset: start + at, text: bytes.toString('utf8', body) }
      at = at === 0 ? -1 : bytes.lastIndexOf(DESCRIPTION_MARK, at - 1)
    }
    if (tail === source.size || tail === MAX_DESCRIPTION_BYTES) throw missing(source)
  }
}

function missing(source: ByteSource): UnreadableError {
  return new UnreadableError('a migration stream without the description of its devices', {
    file: source.path,
    hint: "capture it again: QEMU's 'migrate' writes one unless suppress-vmdesc=on; 'savevm' does not. A cut file has none either",
  })
}

const MAX_DEPTH = 32

/** Checks the shape of untrusted JSON, so that what follows may trust the types above. */
function checkState(state: Record<string, unknown>, fail: (message: string) => never, depth: number): void {
  if (depth > MAX_DEPTH) fail('nests too deeply')
  for (const field of list(state.fields, 'fields')) {
    if (!isObject(field) || typeof field.name !== 'string' || typeof field.type !== 'string')
      throw fail('lists a field without name and type')
    if (!isCount(field.size)) fail(`gives field '${field.name}' no size`)
    if (field.array_len !== undefined && !isCount(field.array_len))
      fail(`gives field '${field.name}' a wrong array_len`)
    if (field.index !== undefined && !isCount(field.index)) fail(`gives field '${field.name}' a wrong index`)
    if (field.struct !== undefined) {
      if (!isObject(field.struct)) throw fail(`gives field '${field.name}' a wrong struct`)
      checkState(field.struct, fail, depth + 1)
    }
  }
  for (const subsection of list(state.subsections, 'subsections')) {
    if (!isObject(subsection) || typeof subsection.vmsd_name !== 'string')
      throw fail('lists a subsection without a name')
    checkState(subsection, fail, depth + 1)
  }

  function list(value: unknown, what: string): readonly unknown[] {
    if (value === undefined) return []
    return Array.isArray(value) ? value : fail(`has '${what}' that are no list`)
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
