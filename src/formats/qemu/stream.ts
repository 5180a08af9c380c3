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
import { UnreadableError, UsageError } from '../../lib/errors.js'
import type { Memory } from '../../model/memory.js'
import { type DeviceDescription, encodeDescription, type StreamDescription } from './description.js'
import type { DeviceState } from './device-state.js'
import type { RamBlock } from './ram.js'
import { RamWriter } from './ram-writer.js'

/** What a section begins with. */
export const Section = {
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

/** A piece of the stream from `start` to `end` (offsets in the file): header, payload and footer. */
export interface Piece {
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
