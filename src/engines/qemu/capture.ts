/**
 * Capturing a machine: start QEMU, wait for the moment, stop the processor, let QEMU write its migration stream
 * beside the target, read it back, rename it.
 */
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PeerError, UsageError } from '../../lib/errors.js'
import { Emulator } from './emulator.js'
import { OvershotError, runInstructions } from './instructions.js'
import { interruptible } from './interruptible.js'
import { type BootOptions, type MachineLine, machineWords, writeRecord } from './machine-line.js'
import { saveMachine } from './save.js'
import type { Moment } from './until.js'

export interface CaptureOptions {
  readonly line: MachineLine
  readonly boot: BootOptions
  readonly until: Moment
  readonly output: string
  /** Gives up when the guest has not printed the text, or executes nothing, for this many milliseconds. */
  readonly timeout?: number
  /** What the guest prints on its serial line, until it is stopped. */
  onSerial?(bytes: Uint8Array): void
  onProgress?(fraction: number, detail: string): void
}

export interface CaptureResult {
  readonly path: string
  /** Bytes of the stream. */
  readonly bytes: number
  /** Instructions executed since the start; undefined without icount. */
  readonly instructions: number | undefined
  /** QEMU's version: `7.2.22`. */
  readonly qemu: string
}

/** How long the moment may be awaited, when nobody says. */
const MOMENT_TIMEOUT_MS = 600_000

/** On a busy host a machine may run past the instruction at which it should stop; then it starts anew, and slower. */
const MAX_ATTEMPTS = 5

/**
 * @throws PeerError when QEMU ends, hangs or fails, or the moment does not come in time; InterruptedError at SIGINT and
 * SIGTERM. The target appears whole or not at all.
 */
export async function capture(options: CaptureOptions): Promise<CaptureResult> {
  if (options.until.kind === 'instructions' && options.line.icount === undefined)
    throw new UsageError('instructions are counted only with --icount')
  for (let attempt = 1; ; attempt++)
    try {
      return await interruptible('nothing was captured', abort => captureOnce(options, attempt, abort))
    } catch (error) {
      if (!(error instanceof OvershotError) || attempt === MAX_ATTEMPTS) throw error
    }
}

async function captureOnce(
  options: CaptureOptions,
  attempt: number,
  abort: AbortSignal,
): Promise<CaptureResult> {
  const serial = new SerialWatch(options.onSerial)
  const emulator = await Emulator.start(machineWords(options.line, options.boot), {
    serial: bytes => serial.receive(bytes),
    paused: true,
    abort,
  })
  try {
    await runUntil(emulator, serial, options, attempt ** 2)
    const instructions =
      options.line.icount === undefined
        ? undefined
        : (await emulator.qmp.execute<{ icount: number }>('query-replay')).icount
    const { qemu } = await emulator.qmp.execute<{ qemu: { major: number; minor: number; micro: number } }>(
      'query-version',
    )
    const { bytes, tscRate } = await saveMachine(emulator.qmp, options.output, {
      stepped: options.until.kind === 'instructions',
      onProgress: done => options.onProgress?.(done, 'saving'),
    })
    const version = `${qemu.major}.${qemu.minor}.${qemu.micro}`
    writeRecord(options.output, options.line, { qemu: version, tscRate })
    return { path: path.resolve(options.output), bytes, instructions, qemu: version }
  } finally {
    await emulator.stop()
  }
}

/** Keeps the tail of what the guest printed, to find a text that comes in pieces. */
class SerialWatch {
  readonly #onSerial: ((bytes: Uint8Array) => void) | undefined
  #tail = ''
  #wanted: { text: string; found(): void } | undefined

  constructor(onSerial: ((bytes: Uint8Array) => void) | undefined) {
    this.#onSerial = onSerial
  }

  receive(bytes: Uint8Array): void {
    this.#onSerial?.(bytes)
    if (this.#wanted === undefined) return
    this.#tail += Buffer.from(bytes).toString('utf8')
    if (this.#tail.includes(this.#wanted.text)) this.#wanted.found()
    this.#tail = this.#tail.slice(-this.#wanted.text.length)
  }

  /** Calls `found` as soon as `text` has been printed from now on. */
  watch(text: string, found: () => void): void {
    this.#wanted = { text, found }
  }
}

async function runUntil(
  emulator: Emulator,
  serial: SerialWatch,
  options: CaptureOptions,
  caution: number,
): Promise<void> {
  const { until, onProgress } = options
  const { qmp } = emulator
  if (until.kind === 'instructions') {
    await runInstructions(emulator, until.count, {
      caution,
      patienceMs: options.timeout ?? MOMENT_TIMEOUT_MS,
      onProgress: done => onProgress?.(done, 'waiting'),
    })
    return
  }
  const limit = until.kind === 'time' ? until.milliseconds : (options.timeout ?? MOMENT_TIMEOUT_MS)
  let stopped: Promise<unknown> | undefined
  // Stopped from within the reader: the guest runs on until QEMU has the word.
  if (until.kind === 'serial')
    serial.watch(until.text, () => {
      stopped ??= qmp.execute('stop')
    })
  await qmp.execute('cont')
  for (const start = Date.now(); stopped === undefined; ) {
    const left = start + limit - Date.now()
    if (left <= 0) {
      if (until.kind === 'time') stopped = qmp.execute('stop')
      else
        throw new PeerError(`the guest did not print ${JSON.stringify(until.text)} in ${limit / 1000} s`, {
          hint: 'look at its serial line with --serial -, or give it longer with --timeout',
        })
    }
    if (emulator.ended)
      throw new PeerError('the guest ended before the moment came', {
        found: emulator.messages || 'no message',
      })
    const passed = (Date.now() - start) / 1000
    if (until.kind === 'time') onProgress?.(1 - Math.max(0, left) / limit, 'waiting')
    else onProgress?.(0, `waiting for ${JSON.stringify(until.text)}, ${passed.toFixed(0)} s`)
    await sleep(Math.max(1, Math.min(20, left)))
  }
  await stopped
}
