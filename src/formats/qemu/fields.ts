/**
 * The devices of a migration stream as fields by name: `cpu/env.cr[0]`, `i8259#1/irr`; an element of an array that is
 * one field is `cpu/env.regs[3]`. Changes are collected, and applied to the device states at the end.
 */
import type { RawFields, RawValue } from '../machine-table.js'
import type { DeviceState } from './device-state.js'
import { optionalPartFor } from './optional-parts.js'
import type { QemuStream } from './stream.js'

export class QemuFields implements RawFields {
  readonly #devices = new Map<string, DeviceState>()
  readonly #changes = new Map<string, Map<string, RawValue>>()
  /** `shift` of `-icount`, which the stream does not hold. */
  readonly icountShift: bigint
  /** Type of the machine that shall load it: which subsections it knows. */
  readonly #machine: string

  constructor(devices: Iterable<DeviceState>, options: { icountShift?: number; machine?: string } = {}) {
    this.icountShift = BigInt(options.icountShift ?? 0)
    this.#machine = options.machine ?? ''
    for (const device of devices)
      this.#devices.set(device.instance === 0 ? device.name : `${device.name}#${device.instance}`, device)
  }

  static of(stream: QemuStream, icountShift?: number): QemuFields {
    return new QemuFields(stream.devices, {
      ...(icountShift === undefined ? {} : { icountShift }),
      machine: stream.machine,
    })
  }

  hasDevice(name: string): boolean {
    return this.#devices.has(name)
  }

  has(name: string): boolean {
    const { device, path } = split(name)
    return this.#devices.get(device)?.has(path) ?? false
  }

  get(name: string): RawValue | undefined {
    const { device, path } = split(name)
    const state = this.#devices.get(device)
    if (state === undefined) return undefined
    const changed = this.#changes.get(device)?.get(path)
    if (changed !== undefined) return changed
    if (state.has(path)) return state.get(path)
    const element = elementOf(path)
    const list = element && this.get(`${device}/${element.path}`)
    return Array.isArray(list) ? (list as bigint[])[element!.index] : undefined
  }

  /** An integer; 0 where the stream has no such field. */
  integer(name: string): bigint {
    const value = this.get(name)
    return typeof value === 'bigint' ? value : 0n
  }

  /**
   * A subsection that the template lacks is added, unless the value is the zero that its absence means. Fields that its
   * machine cannot have are left out: the read-back shows the loss.
   */
  set(name: string, value: RawValue): void {
    const { device, path } = split(name)
    const state = this.#devices.get(device)
    if (state === undefined) return
    if (state.has(path)) {
      const changes = this.#changes.get(device) ?? new Map<string, RawValue>()
      this.#changes.set(device, changes.set(path, value))
      return
    }
    if (!isZeroValue(value) && this.addPartOf(name)) {
      this.set(name, value)
      return
    }
    const element = elementOf(path)
    const list = element && this.get(`${device}/${element.path}`)
    if (!Array.isArray(list)) return
    const copy = [...(list as bigint[])]
    copy[element!.index] = value as bigint
    this.set(`${device}/${element!.path}`, copy)
  }

  /** Adds the subsection that holds the field, all zero, where it is not there and this machine may have it. */
  addPartOf(name: string): boolean {
    const { device, path } = split(name)
    const state = this.#devices.get(device)
    const part = optionalPartFor(device, path, this.#machine)
    if (state === undefined || part === undefined || state.has(path)) return false
    this.#devices.set(device, state.withPart(part))
    return true
  }

  /** The configuration space of each PCI function, by the address in the device's name. */
  *pciConfigurations(): Generator<{ address: string; field: string; bytes: Uint8Array }> {
    for (const [name, device] of this.#devices) {
      const address = /^0000:([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\//.exec(name)?.[1]
      const field = address && device.fields.find(({ type }) => type === 'pci config')?.path
      if (!address || !field) continue
      const bytes = this.#changes.get(name)?.get(field) ?? device.get(field)
      if (bytes instanceof Uint8Array) yield { address, field: `${name}${PATH_MARK}${field}`, bytes }
    }
  }

  /** The devices that changed, with their new state. */
  patched(): DeviceState[] {
    return [...this.#changes].map(([device, changes]) => this.#devices.get(device)!.patched(changes))
  }
}

/** Stands between device and path where the device's own name has slashes. */
const PATH_MARK = '//'

function split(name: string): { device: string; path: string } {
  const mark = name.lastIndexOf(PATH_MARK)
  if (mark >= 0) return { device: name.slice(0, mark), path: name.slice(mark + PATH_MARK.length) }
  const slash = name.indexOf('/')
  return { device: name.slice(0, slash), path: name.slice(slash + 1) }
}

function isZeroValue(value: RawValue): boolean {
  return typeof value === 'bigint' ? value === 0n : value.every((each: bigint | number) => Number(each) === 0)
}

function elementOf(path: string): { path: string; index: number } | undefined {
  const match = /^(.*)\[(\d+)\]$/.exec(path)
  return match === null ? undefined : { path: match[1]!, index: Number(match[2]) }
}
