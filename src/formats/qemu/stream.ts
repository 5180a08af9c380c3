/**
 * A QEMU migration stream, as `migrate` writes it and `-incoming` reads it. Big endian.
 *
 *   u32 'QEVM', u32 version 3
 *   0x07  configuration: u32 n, machine name, subsections { 0x05, u8 n, name, u32 version, payload }
 *   0x01  section start: u32 id, u8 n, name, u32 instance, u32 version, payload, footer
 *   0x02  section part:  u32 id, payload, footer                         (only `ram` has parts)
 *   0x03  section end:   u32 id, payload, footer
 *   0x04  whole section: as start, for all devices                       footer = 0x7e, u32 id
 *   0x08  command: u16 command, u16 n, n bytes
 *   0x00  end of sections
 *   0x06  description (description.ts), to the end of the file
 *
 * Reading keeps where each part lies; writing copies what did not change, patched device state in place and RAM
 * either as it lies or anew, so that a stream that is not changed is written back byte for byte. Nothing in a
 * stream has a checksum, and the loader does not read the description (imago does: a device that has got a part more
 * is described anew).
 * Source: QEMU 7.2 to 10 migration/savevm.c; every byte of several streams accounted for.
 */
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import type { ByteSource } from '../../lib/byte-source.js'
import { FileSource } from '../../lib/byte-source.js'
import { UnreadableError, UsageError } from '../../lib/errors.js'
import type { Memory } from '../../model/memory.js'
import { BigEndianReader } from './big-endian.js'
import {
  type DeviceDescription,
  encodeDescription,
  readDescription,
  type StreamDescription,
} from './description.js'
import { type DeviceState, readDeviceState } from './device-state.js'
import { SUBSECTION_MARK } from './optional-parts.js'
import { type RamBlock, RamReader } from './ram.js'
import { RamWriter } from './ram-writer.js'

export const STREAM_MAGIC = 0x5145564d
const STREAM_VERSION = 3

const Section = {
  endOfSections: 0x00,
  start: 0x01,
  part: 0x02,
  end: 0x03,
  full: 0x04,
  configuration: 0x07,
  command: 0x08,
  footer: 0x7e,
} as const

const FOOTER_BYTES = 5
/** The mark of the end of the sections. */
const END_BYTES = 1

/** The two capabilities that QEMU lists in a stream (migration/savevm.c, should_validate_capability). */
const otherLayouts: ReadonlySet<string> = new Set(['mapped-ram', 'x-ignore-shared'])

/** Sections a stream may have; QEMU writes one or two RAM parts a device and round. */
const MAX_SECTIONS = 1_000_000

/** A piece of the stream from `start` to `end` (offsets in the file): header, payload and footer. */
interface Piece {
  readonly start: number
  readonly end: number
  /** Index into `devices` when it is the whole section of a device; its state lies at `stateStart`. */
  readonly device?: { readonly index: number; readonly stateStart: number }
  /** Part or end of the section `ram`. */
  readonly ramId?: number
}

export class QemuStream {
  readonly source: ByteSource
  /** Machine type of the command line that wrote it: `pc-i440fx-7.2`. */
  readonly machine: string
  /** Migration capabilities that the loader must have too; usually none. */
  readonly capabilities: readonly string[]
  readonly blocks: readonly RamBlock[]
  /** In the order of the stream. */
  readonly devices: readonly DeviceState[]
  readonly description: StreamDescription
  readonly #pieces: readonly Piece[]

  constructor(fields: {
    source: ByteSource
    machine: string
    capabilities: readonly string[]
    blocks: readonly RamBlock[]
    devices: readonly DeviceState[]
    description: StreamDescription
    pieces: readonly Piece[]
  }) {
    this.source = fields.source
    this.machine = fields.machine
    this.capabilities = fields.capabilities
    this.blocks = fields.blocks
    this.devices = fields.devices
    this.description = fields.description
    this.#pieces = fields.pieces
  }

  /** The device with this name (and instance), or undefined. */
  device(name: string, instance = 0): DeviceState | undefined {
    return this.devices.find(device => device.name === name && device.instance === instance)
  }

  /** @throws UnreadableError when the machine has no such device. */
  requireDevice(name: string, instance = 0): DeviceState {
    const device = this.device(name, instance)
    if (device === undefined)
      throw new UnreadableError(`the stream has no device '${name}' (instance ${instance})`, {
        file: this.source.path,
        found: `machine ${this.machine}`,
      })
    return device
  }

  /** The RAM block with this name, or undefined. */
  block(name: string): RamBlock | undefined {
    return this.blocks.find(block => block.name === name)
  }

  /**
   * The stream with some devices' state replaced (by name and instance) and, where `memory` names blocks, all RAM
   * written anew with their contents. @throws UsageError for a device or block that this stream has not.
   */
  writeTo(fd: number, changes: StreamChanges = {}): void {
    const devices = this.#changedDevices(changes.devices ?? [])
    const blocks = changes.memory === undefined ? undefined : this.#changedBlocks(changes.memory)
    let position = 0
    let ramWritten = false
    for (const piece of this.#pieces) {
      if (piece.ramId !== undefined && blocks !== undefined) {
        if (ramWritten) continue
        ramWritten = true
        position = writeRam(fd, position, piece.ramId, blocks)
        continue
      }
      const device = piece.device
      const state = device === undefined ? undefined : devices[device.index]
      if (device === undefined || state === undefined) {
        position = copy(this.source, piece.start, piece.end, fd, position)
        continue
      }
      position = copy(this.source, piece.start, device.stateStart, fd, position)
      writeFully(fd, state.bytes, position)
      position += state.bytes.length
      position = copy(this.source, piece.end - FOOTER_BYTES, piece.end, fd, position)
    }
    const { offset } = this.description
    position = copy(this.source, offset - END_BYTES, offset, fd, position)
    const description = this.#changedDescription(devices)
    if (description === undefined) copy(this.source, offset, this.source.size, fd, position)
    else writeFully(fd, description, position)
  }

  /** Writes the stream to `path`, which appears whole or not at all. */
  write(path: string, changes: StreamChanges = {}): void {
    writeFileAtomically(path, fd => this.writeTo(fd, changes))
  }

  #changedDevices(changed: Iterable<DeviceState>): (DeviceState | undefined)[] {
    const result: (DeviceState | undefined)[] = []
    for (const state of changed) {
      const index = this.devices.findIndex(
        device => device.name === state.name && device.instance === state.instance,
      )
      const version = this.devices[index]?.version
      if (version !== state.version)
        throw new UsageError(`device '${state.title}' does not fit into this stream`, {
          file: this.source.path,
          found: `version ${state.version}`,
          expected: version === undefined ? 'no such device' : `version ${version}`,
          hint: 'the template must come from the same machine command line',
        })
      result[index] = state
    }
    return result
  }

  /** undefined when the changed devices have the parts that they had. */
  #changedDescription(changed: readonly (DeviceState | undefined)[]): Buffer | undefined {
    const others = new Map<DeviceDescription, DeviceDescription>()
    for (const [i, { description }] of this.devices.entries()) {
      const other = changed[i]?.description
      if (other !== undefined && other !== description) others.set(description, other)
    }
    if (others.size === 0) return undefined
    return encodeDescription(
      this.description,
      this.description.devices.map(each => others.get(each) ?? each),
    )
  }

  #changedBlocks(memory: ReadonlyMap<string, Memory>): RamBlock[] {
    for (const name of memory.keys())
      if (this.block(name) === undefined)
        throw new UsageError(`the stream has no RAM block '${name}'`, { file: this.source.path })
    return this.blocks.map(block => ({ ...block, memory: memory.get(block.name) ?? block.memory }))
  }
}

/** What `QemuStream.writeTo` writes in place of what the stream holds. */
export interface StreamChanges {
  /** Patched states of devices of this stream (`DeviceState.patched`). */
  readonly devices?: Iterable<DeviceState>
  /** Contents of RAM blocks by name, addresses from 0; a gap becomes zero. Blocks not named stay as they are. */
  readonly memory?: ReadonlyMap<string, Memory>
}

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

/** One END part with all pages. */
function writeRam(fd: number, position: number, id: number, blocks: readonly RamBlock[]): number {
  const head = Buffer.from([Section.end, 0, 0, 0, 0])
  head.writeUInt32BE(id, 1)
  writeFully(fd, head, position)
  const end = new RamWriter(fd, position + head.length).write(blocks)
  const footer = Buffer.from([Section.footer, 0, 0, 0, 0])
  footer.writeUInt32BE(id, 1)
  writeFully(fd, footer, end)
  return end + footer.length
}

const COPY_BYTES = 1024 * 1024

/** Copies [start, end) of `source` to `position` of `fd`; returns the offset behind it. */
function copy(source: ByteSource, start: number, end: number, fd: number, position: number): number {
  for (let at = start; at < end; ) {
    const bytes = source.read(at, Math.min(COPY_BYTES, end - at))
    writeFully(fd, bytes, position)
    position += bytes.length
    at += bytes.length
  }
  return position
}
