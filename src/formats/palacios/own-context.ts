/**
 * What Palacios has no place for and a guest cannot do without: the context `imago` beside its own. Palacios opens
 * contexts by name and never looks at it; imago reads it back, so that a machine that goes through this format to
 * another one keeps its clock.
 */
import { PS_PER_SECOND } from '../../isa/pc.js'
import { type MachineState, setField } from '../../model/machine.js'
import { type Context, newContext } from './records.js'

export const OWN_KEY = 'imago'

const number64 = (value: bigint) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value))
  return bytes
}
const read64 = (bytes: Uint8Array) => (bytes.length === 8 ? Buffer.from(bytes).readBigUInt64LE() : undefined)

interface OwnRow {
  readonly tag: string
  /** undefined: the machine does not say it, and no record is written. */
  write(state: MachineState): Uint8Array | undefined
  read(bytes: Uint8Array, state: MachineState): void
}

const wide = (tag: string, get: (state: MachineState) => bigint | undefined, path: string): OwnRow => ({
  tag,
  write: state => {
    const value = get(state)
    return value === undefined ? undefined : number64(value)
  },
  read: (bytes, state) => {
    const value = read64(bytes)
    if (value !== undefined) setField(state, path, value)
  },
})

const rate = (tag: string, get: (state: MachineState) => number | undefined, path: string): OwnRow => ({
  tag,
  write: state => {
    const value = get(state)
    return value === undefined ? undefined : number64(BigInt(Math.round(value)))
  },
  read: (bytes, state) => {
    const value = Number(read64(bytes) ?? 0n)
    if (value > 0 && value < Number(PS_PER_SECOND)) setField(state, path, value)
  },
})

const CMOS_BYTES = 128
const rows: readonly OwnRow[] = [
  wide('TSC', ({ cpu }) => cpu.tsc, 'cpu.tsc'),
  rate('TSC_HZ', ({ cpu }) => cpu.tscRate, 'cpu.tscRate'),
  wide('XCR0', ({ cpu }) => cpu.xcr0, 'cpu.xcr0'),
  wide('TSC_AUX', ({ cpu }) => cpu.msr.tscAux, 'cpu.msr.tscAux'),
  wide('TIME_PS', ({ devices }) => devices.time, 'time'),
  {
    tag: 'CMOS',
    write: ({ devices }) => devices.rtc && Uint8Array.from(devices.rtc.cmos),
    read: (bytes, state) => {
      if (bytes.length === CMOS_BYTES)
        for (const [i, byte] of bytes.entries()) setField(state, `rtc.cmos.${i}`, byte)
    },
  },
]
const FEATURES = 'CPU_FEATURES'

/** The context with what Palacios has no field for. */
export function ownContext(state: MachineState, features: ReadonlySet<string> | undefined): Context {
  const records = rows.flatMap(({ tag, write }) => {
    const bytes = write(state)
    return bytes === undefined ? [] : [[tag, bytes] as const]
  })
  if (features !== undefined) records.push([FEATURES, Buffer.from([...features].join(' '))])
  return newContext(OWN_KEY, records)
}

/** Lays what the context says over `state`; returns the CPU features where it names them. */
export function readOwnContext(context: Context, state: MachineState): ReadonlySet<string> | undefined {
  const data = new Map(context.records.map(({ tag, data }) => [tag, data]))
  for (const { tag, read } of rows) {
    const bytes = data.get(tag)
    if (bytes !== undefined) read(bytes, state)
  }
  const features = data.get(FEATURES)
  return features && new Set(Buffer.from(features).toString('latin1').split(' ').filter(Boolean))
}
