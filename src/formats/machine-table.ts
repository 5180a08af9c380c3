/**
 * Adapters between a platform's records and the neutral machine are tables. A row names a raw field and the neutral
 * value that it stands for; the same row reads and writes:
 *
 *   row('isa.regVal[100]', 'cpu.msr.efer')
 *   row('pic1.cascadeMode', 'pic.master.single', not)
 *   { fields: ['…'], read(raw, state) {…}, write(state, raw) {…} }          (values that several fields share)
 *
 * What a platform cannot hold is not listed anywhere: after writing, the records are read back by the same table, and
 * whatever comes out different is the loss.
 */
import { pciClass, pciId } from '../isa/pci.js'
import { frequencyText } from '../lib/quantities.js'
import {
  type Cpu,
  type Devices,
  emptyState,
  getField,
  hasDeviceOf,
  initialCpu,
  type MachineState,
  machineLeaves,
  setField,
} from '../model/machine.js'
import type { Loss } from './format.js'

export type RawValue = bigint | readonly bigint[] | Uint8Array

/** A platform's records as fields by name. */
export interface RawFields {
  /** undefined when the records have no such field. */
  get(name: string): RawValue | undefined
  set(name: string, value: RawValue): void
}

/** From the raw to the neutral value and back. Neutral values are as the schema says. */
export interface Conversion {
  read(raw: bigint): unknown
  write(value: unknown): bigint
}

interface SimpleRow<F> {
  readonly field: string
  readonly path: string
  readonly conversion: Conversion
  /** For layouts that lack the field, or machines without the device. */
  readonly when?: (raw: F) => boolean
}
/** A row whose value is spread over fields, or depends on others. */
export interface CompoundRow<F> {
  /** What it is about, for the reader of the table. */
  readonly about: string
  read(raw: F, state: MachineState): void
  write(state: MachineState, raw: F): void
}
export type Row<F> = SimpleRow<F> | CompoundRow<F>
export type Table<F> = readonly Row<F>[]

const plain: Record<string, Conversion> = {
  number: { read: Number, write: value => BigInt(value as number) },
  bigint: { read: raw => raw, write: value => value as bigint },
  flag: { read: raw => raw !== 0n, write: value => (value ? 1n : 0n) },
}
/** A flag that the platform stores the other way round. */
export const not: Conversion = { read: raw => raw === 0n, write: value => (value ? 0n : 1n) }

/** @throws Error when the model has no such path: a fault in the table. */
export function row<F>(
  field: string,
  path: string,
  conversion?: Conversion,
  when?: (raw: F) => boolean,
): SimpleRow<F> {
  const leaf = machineLeaves.get(path)
  if (leaf === undefined) throw new Error(`the neutral machine has no field '${path}'`)
  const kind = leaf.kind === 'flag' ? 'flag' : leaf.width <= 32 ? 'number' : 'bigint'
  return { field, path, conversion: conversion ?? plain[kind]!, ...(when ? { when } : {}) }
}

/** `row` for each index of an array: `#` in both names stands for it. */
export function rows<F>(
  count: number,
  field: (index: number) => string,
  path: (index: number) => string,
  conversion?: Conversion,
): SimpleRow<F>[] {
  return Array.from({ length: count }, (_, i) => row<F>(field(i), path(i), conversion))
}

/** Reads all rows whose fields are there. */
export function readTable<F extends RawFields>(table: Table<F>, raw: F): MachineState {
  const state = emptyState()
  for (const entry of table) {
    if ('about' in entry) entry.read(raw, state)
    else if (entry.when === undefined || entry.when(raw)) {
      const value = raw.get(entry.field)
      if (typeof value === 'bigint') setField(state, entry.path, entry.conversion.read(value))
    }
  }
  return state
}

/** Writes all rows whose values the machine has; other fields keep what the records hold. */
export function writeTable<F extends RawFields>(table: Table<F>, state: MachineState, raw: F): void {
  for (const entry of table) {
    if ('about' in entry) entry.write(state, raw)
    else if (entry.when === undefined || entry.when(raw)) {
      const value = getField(state, entry.path)
      if (value !== undefined) raw.set(entry.field, entry.conversion.write(value))
    }
  }
}

/** The loss of a device of `MachineImage.notUnderstood`. */
export const droppedDevice = (name: string): Loss => ({
  kind: 'dropped',
  subject: name,
  field: 'all',
  detail: 'a device that the model does not know',
})

/**
 * What a conversion lost: `before` is the machine, `after` what the written records say when read back.
 * A device that only one side has counts once.
 */
export function lossesBetween(before: MachineState, after: MachineState): Loss[] {
  const losses: Loss[] = []
  const missing = new Set<string>()
  const fresh = { cpu: initialCpu(), devices: emptyState().devices }
  for (const path of machineLeaves.keys()) {
    const had = getField(before, path)
    const has = getField(after, path)
    if (sameValue(had, has)) continue
    const { subject, field } = placeOf(path)
    if (hasDeviceOf(before, path) !== hasDeviceOf(after, path)) {
      if (missing.has(subject)) continue
      missing.add(subject)
      losses.push(
        hasDeviceOf(before, path)
          ? { kind: 'dropped', subject, field: 'all', detail: 'the target does not hold this device' }
          : { kind: 'defaulted', subject, field: 'all', detail: 'the image has none: reset state' },
      )
    } else if (had === undefined)
      losses.push({ kind: 'defaulted', subject, field, detail: defaultText(path, has) })
    else if (has === undefined) {
      // Zero is what a machine without the field has.
      if (!sameValue(had, getField(fresh, path)) && had !== 0n && had !== 0)
        losses.push({ kind: 'dropped', subject, field, detail: fieldText(path, had) })
    } else
      losses.push({
        kind: isNear(had, has) ? 'rounded' : 'dropped',
        subject,
        field,
        detail: `${fieldText(path, had)} becomes ${fieldText(path, has)}`,
      })
  }
  return [...losses, ...unnamedLosses(before.cpu, after.cpu), ...pciLosses(before.devices, after.devices)]
}

/** What the model keeps by number: MSRs without a field, XSAVE components beyond AVX. */
function unnamedLosses(before: Cpu, after: Cpu): Loss[] {
  const drop = (field: string, detail: string): Loss => ({ kind: 'dropped', subject: 'CPU', field, detail })
  const msrs = [...(before.otherMsrs ?? [])].filter(
    ([number, value]) => value !== 0n && after.otherMsrs?.get(number) !== value,
  )
  const components = [...(before.extendedState?.keys() ?? [])].filter(each => !after.extendedState?.has(each))
  return [
    ...msrs.map(([number, value]) => drop(`MSR 0x${number.toString(16)}`, valueText(value))),
    ...(components.length > 0 ? [drop('XSAVE components', components.join(', '))] : []),
  ]
}

/** Functions that the target has not, or has another of at the same address. */
function pciLosses(before: Devices, after: Devices): Loss[] {
  return [...(before.pciFunctions ?? [])].flatMap(([address, configuration]): Loss[] => {
    const there = after.pciFunctions?.get(address)
    const subject = `PCI ${address}`
    if (there === undefined || pciId(there) !== pciId(configuration)) {
      const found = there === undefined ? 'no function there' : `there is ${pciId(there)}`
      const detail = `${pciId(configuration)} ${pciClass(configuration)}; ${found}`
      return [{ kind: 'dropped', subject, field: 'configuration', detail }]
    }
    const differs = configuration.findIndex((byte, i) => byte !== there[i])
    return differs < 0
      ? []
      : [{ kind: 'dropped', subject, field: 'configuration', detail: `different from byte ${differs} on` }]
  })
}

const subjects: Record<string, string> = {
  cpu: 'CPU',
  apic: 'local APIC',
  ioApic: 'I/O APIC',
  pic: 'PIC',
  pit: 'PIT',
  rtc: 'RTC',
  serial: 'serial port',
  keyboard: 'keyboard controller',
  mouse: 'mouse',
  speaker: 'speaker',
  pciHost: 'PCI host',
  time: 'machine',
}

/** `cpu.apic.timer.rate` → local APIC, timer.rate. */
export function placeOf(path: string): { subject: string; field: string } {
  const names = path.split('.')
  const skip = names[0] === 'cpu' && names[1] === 'apic' ? 2 : 1
  const subject = subjects[names[skip - 1]!] ?? names[0]!
  return { subject, field: names.length === 1 ? names[0]! : names.slice(skip).join('.') }
}

/** Equality of two values of one field. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0
  return a === b
}

/** The value of a field of the neutral machine in words. */
export function fieldText(path: string, value: unknown): string {
  const kind = machineLeaves.get(path)?.kind
  if (kind === 'frequency' && typeof value === 'number') return frequencyText(value)
  if (kind === 'duration' && typeof value === 'bigint') return `${value} ps`
  return valueText(value)
}

/** How the user can say what an image does not. */
const sayings: Readonly<Record<string, string>> = {
  'cpu.tscRate': '--clock or --vmlinux says it',
  'cpu.tsc': '--tsc or --vmlinux says it',
}

function defaultText(path: string, value: unknown): string {
  const saying = sayings[path]
  return `not in the image, now ${fieldText(path, value)}${saying ? ` (${saying})` : ''}`
}

function valueText(value: unknown): string {
  if (value === undefined) return 'unknown'
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex') || 'empty'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'bigint' || typeof value === 'number') return `0x${value.toString(16)}`
  return String(value)
}

/** Within one part in a thousand, or an 80-bit number whose low bits fell: a rounding rather than another value. */
function isNear(a: unknown, b: unknown): boolean {
  if (typeof a !== 'bigint' || typeof b !== 'bigint') return false
  const distance = a > b ? a - b : b - a
  return distance * 1000n <= (a > b ? a : b)
}
