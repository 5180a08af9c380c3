/**
 * Letting a machine that stands still write its migration stream: under a temporary name, read back, synced, renamed.
 * The machine may go on afterwards and be saved again.
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeviceState } from '../../formats/qemu/device-state.js'
import { openStream } from '../../formats/qemu/read-stream.js'
import type { QemuStream } from '../../formats/qemu/stream.js'
import { tscRateOf } from '../../formats/qemu/tsc-rate.js'
import { syncDirectory, temporaryName } from '../../lib/atomic-file.js'
import { PeerError } from '../../lib/errors.js'
import { OvershotError } from './instructions.js'
import type { QmpClient } from './qmp.js'

interface MigrationStatus {
  readonly status?: string
  readonly 'error-desc'?: string
  readonly ram?: { readonly transferred: number; readonly total: number; readonly remaining: number }
}

export interface Saved {
  /** Bytes of the stream. */
  readonly bytes: number
  /** Ticks of the guest's TSC a second. */
  readonly tscRate: number | undefined
}

export interface SaveOptions {
  /** The machine was stepped without timers: refuse it when one should have fired meanwhile. */
  readonly stepped?: boolean
  onProgress?(fraction: number): void
}

/** A disk that takes no byte for so long takes none. */
const STALL_MS = 120_000

/** Bytes a second; QEMU's own limit is meant for networks. */
const UNLIMITED = 2 ** 40

/**
 * @throws PeerError when QEMU cannot write the machine, OvershotError when a timer was missed.
 * The target appears whole or not at all.
 */
export async function saveMachine(
  qmp: QmpClient,
  output: string,
  { stepped, onProgress }: SaveOptions = {},
): Promise<Saved> {
  const temporary = temporaryName(path.resolve(output))
  try {
    fs.closeSync(fs.openSync(temporary, 'wx', 0o600))
    await qmp.execute('migrate-set-parameters', { 'max-bandwidth': UNLIMITED })
    // The shell gets the path as a variable's value would be: in single quotes. No QEMU before 8.2 writes a file itself.
    await qmp.execute('migrate', { uri: `exec:cat > '${temporary.replaceAll("'", "'\\''")}'` })
    for (let [seen, since] = [-1, performance.now()]; ; ) {
      const { status, ram, ...rest } = await qmp.execute<MigrationStatus>('query-migrate')
      if (status === 'completed') break
      if (status === 'failed' || status === 'cancelled')
        throw new PeerError('QEMU could not write the machine', { found: rest['error-desc'] ?? status })
      if (ram !== undefined && ram.transferred !== seen) [seen, since] = [ram.transferred, performance.now()]
      if (performance.now() - since > STALL_MS)
        throw new PeerError('QEMU does not get on with writing the machine', {
          found: `${seen} bytes written, none in the last ${STALL_MS / 1000} s`,
          file: output,
        })
      if (ram !== undefined && ram.total > 0) onProgress?.(1 - ram.remaining / ram.total)
      await sleep(10)
    }
    const stream = settle(temporary)
    const missed = stepped ? dueTimer(stream) : undefined
    if (missed !== undefined)
      throw new OvershotError('a timer was due in the last instructions, where none can fire', {
        found: missed,
        hint: 'ask for an instruction a little later',
      })
    const fd = fs.openSync(temporary, 'r')
    fs.fsyncSync(fd)
    fs.closeSync(fd)
    fs.renameSync(temporary, output)
    syncDirectory(path.dirname(path.resolve(output)))
    return { bytes: fs.statSync(output).size, tscRate: tscRateOf(stream) }
  } catch (error) {
    fs.rmSync(temporary, { force: true })
    throw error
  }
}

/** Fields that hold when a timer fires, in virtual ns, where their type does not say so. */
const expiryFields = new Set(['timer_expiry', 'channels[0].next_transition_time'])

function dueTimer(stream: QemuStream): string | undefined {
  const now = virtualTime(stream)
  if (now === undefined) return undefined
  for (const device of stream.devices)
    for (const field of device.fields) {
      if (field.type !== 'timer' && !expiryFields.has(field.path)) continue
      const expiry = BigInt.asIntN(64, device.integer(field.path))
      if (expiry > 0n && expiry < now) return `${device.title} ${field.path}`
    }
  return undefined
}

/** The machine's clock in ns, under icount. */
function virtualTime(stream: QemuStream): bigint | undefined {
  const timer = stream.device('timer')
  if (timer?.has(ICOUNT) !== true) return undefined
  return BigInt.asUintN(64, timer.integer('timer/icount.qemu_icount_bias') + timer.integer(ICOUNT))
}

/**
 * Reads the stream back, as a machine that was stopped: one that was stepped stands in a debugger, where no machine that
 * is loaded can stand. Under icount, where the same instructions make the same machine, it is also rid of what comes
 * from this host: RAM is in as many parts as QEMU had time for, and two counters hold real time that nothing asks for.
 * So equal machines are equal byte for byte.
 */
function settle(file: string): QemuStream {
  const stream = openStream(file)
  try {
    const now = virtualTime(stream)
    const state = stream.requireDevice('globalstate')
    if (now === undefined && !runStateOf(state).startsWith('debug')) return stream
    const devices = [withRunState(state, 'paused')]
    if (now !== undefined)
      devices.push(
        stream.requireDevice('timer').patched([
          ['cpu_ticks_offset', now],
          ['cpu_clock_offset', now],
        ]),
      )
    stream.write(file, { devices, memory: new Map() })
    return stream
  } finally {
    stream.source.close()
  }
}
const ICOUNT = 'timer/icount.qemu_icount'

/** QEMU's section `globalstate`: the name of the state that the machine was in, which its loader takes it into. */
function runStateOf(device: DeviceState): string {
  const field = device.get('runstate')
  return field instanceof Uint8Array ? Buffer.from(field).toString('latin1') : ''
}

function withRunState(device: DeviceState, name: string): DeviceState {
  const padded = new Uint8Array(runStateOf(device).length)
  padded.set(Buffer.from(name))
  return device.patched([
    ['size', BigInt(name.length + 1)],
    ['runstate', padded],
  ])
}
