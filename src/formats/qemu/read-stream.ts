/**
 * Reads a migration stream (layout in stream.ts): every byte up to the description belongs to a section, and keeps its place.
 */
import type { ByteSource } from '../../lib/byte-source.js'
import { FileSource } from '../../lib/byte-source.js'
import { UnreadableError } from '../../lib/errors.js'
import { BigEndianReader } from './big-endian.js'
import { type DeviceDescription, readDescription, type StreamDescription } from './description.js'
import { type DeviceState, readDeviceState } from './device-state.js'
import { SUBSECTION_MARK } from './optional-parts.js'
import { RamReader } from './ram.js'
import { type Piece, QemuStream, Section } from './stream.js'

const STREAM_MAGIC = 0x5145564d
const STREAM_VERSION = 3

/** The two capabilities that QEMU lists in a stream (migration/savevm.c, should_validate_capability). */
const otherLayouts: ReadonlySet<string> = new Set(['mapped-ram', 'x-ignore-shared'])

/** Sections a stream may have; QEMU writes one or two RAM parts a device and round. */
const MAX_SECTIONS = 1_000_000

/** Whether these first bytes begin a migration stream. */
export function isQemuStream(head: Uint8Array): boolean {
  return head.length >= 8 && Buffer.from(head.buffer, head.byteOffset, 4).toString('latin1') === 'QEVM'
}

/** Opens and reads the stream at `path`. @throws UnreadableError when it is none, is cut short or breaks a limit. */
export function openStream(path: string): QemuStream {
  const source = new FileSource(path)
  try {
    return readStream(source)
  } catch (error) {
    source.close()
    throw error
  }
}

/** Reads a stream; its memory points into `source`, which must stay open. */
export function readStream(source: ByteSource): QemuStream {
  const head = new BigEndianReader(source)
  if (head.u32('magic') !== STREAM_MAGIC)
    throw new UnreadableError('not a QEMU migration stream', {
      file: source.path,
      offset: 0,
      expected: 'QEVM',
    })
  const version = head.u32('version')
  if (version !== STREAM_VERSION)
    throw head.error('a version of the stream that is not known', {
      found: version,
      expected: `${STREAM_VERSION}`,
    })
  const description = readDescription(source)
  const reader = new BigEndianReader(source, { position: head.position, end: description.offset })
  return new SectionsReader(reader, description).read()
}

class SectionsReader {
  readonly #reader: BigEndianReader
  readonly #description: StreamDescription
  /** Descriptions of devices that have not come yet, by name and instance. */
  readonly #expected = new Map<string, DeviceDescription[]>()
  readonly #names = new Map<number, string>()
  readonly #ram: RamReader
  readonly #devices: DeviceState[] = []
  readonly #pieces: Piece[] = []
  #machine = ''
  #capabilities: readonly string[] = []

  constructor(reader: BigEndianReader, description: StreamDescription) {
    this.#reader = reader
    this.#description = description
    this.#ram = new RamReader(reader.source)
    for (const device of description.devices) {
      const key = `${device.name}\0${device.instance_id}`
      this.#expected.set(key, [...(this.#expected.get(key) ?? []), device])
    }
  }

  read(): QemuStream {
    const reader = this.#reader
    this.#pieces.push({ start: 0, end: reader.position })
    for (;;) {
      const start = reader.position
      const type = reader.u8('section type')
      if (type === Section.endOfSections) break
      if (this.#pieces.length >= MAX_SECTIONS) throw reader.error('too many sections')
      const piece = this.#section(type)
      this.#pieces.push({ ...piece, start, end: reader.position })
    }
    if (reader.position !== this.#description.offset)
      throw reader.error('bytes between the last section and the description', {
        found: `${this.#description.offset - reader.position} bytes`,
      })
    return new QemuStream({
      source: reader.source,
      machine: this.#machine,
      capabilities: this.#capabilities,
      blocks: this.#ram.blocks(),
      devices: this.#devices,
      description: this.#description,
      pieces: this.#pieces,
    })
  }

  #section(type: number): Omit<Piece, 'start' | 'end'> {
    const reader = this.#reader
    switch (type) {
      case Section.configuration:
        this.#configuration()
        return {}
      case Section.command: {
        reader.u16('command')
        reader.skip(reader.u16('command length'), 'command')
        return {}
      }
      case Section.start:
      case Section.full: {
        const id = reader.u32('section id')
        const name = reader.name('section name')
        const instance = reader.u32('instance')
        const version = reader.u32('section version')
        this.#names.set(id, name)
        if (name === 'ram') {
          this.#ram.readPart(reader)
          this.#footer(id, name)
          return {}
        }
        const description = this.#expected.get(`${name}\0${instance}`)?.shift()
        if (description === undefined)
          throw reader.error(`section '${name}' is not in the stream's description`, {
            hint: 'only RAM and devices can be read: capture without block migration or pass-through devices',
          })
        const stateStart = reader.position
        this.#devices.push(readDeviceState(reader, { name, instance, version }, description))
        this.#footer(id, name)
        return { device: { index: this.#devices.length - 1, stateStart } }
      }
      case Section.part:
      case Section.end: {
        const id = reader.u32('section id')
        const name = this.#names.get(id)
        if (name !== 'ram')
          throw reader.error(
            name === undefined ? `section ${id} goes on before it began` : `section '${name}' comes in parts`,
          )
        this.#ram.readPart(reader)
        this.#footer(id, name)
        return { ramId: id }
      }
      default:
        throw reader.error('a section of an unknown type', { found: `0x${type.toString(16)}` })
    }
  }

  #footer(id: number, name: string): void {
    const reader = this.#reader
    if (reader.u8('footer') !== Section.footer || reader.u32('footer') !== id)
      throw reader.error(`section '${name}' does not end where its description says`)
  }

  /** Machine name and the subsections that stand in savevm.c (newer QEMU describes them too, older does not). */
  #configuration(): void {
    const reader = this.#reader
    const length = reader.u32('machine name')
    if (length > 4096) throw reader.error('a machine name of impossible length', { found: length })
    this.#machine = Buffer.from(reader.take(length, 'machine name')).toString('latin1')
    for (;;) {
      if (reader.u8('section type') !== SUBSECTION_MARK) {
        reader.position -= 1
        return
      }
      const name = reader.name('subsection name')
      reader.u32('subsection version')
      if (name === 'configuration/target-page-bits') reader.skip(4)
      else if (name === 'configuration/uuid') reader.skip(16)
      else if (name === 'configuration/capabilities') {
        this.#capabilities = Array.from({ length: this.#capabilityCount() }, () => reader.name('capability'))
        for (const capability of this.#capabilities)
          if (otherLayouts.has(capability))
            throw reader.error(
              `a stream with the migration capability '${capability}', which lays out RAM otherwise`,
              {
                hint: 'capture again with the default migration capabilities',
              },
            )
      } else throw reader.error(`an unknown part '${name}' of the configuration`)
    }
  }

  #capabilityCount(): number {
    const count = this.#reader.u32('capabilities')
    if (count > 256) throw this.#reader.error('too many capabilities', { found: count })
    return count
  }
}
