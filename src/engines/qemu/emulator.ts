/**
 * A running QEMU with its monitor: started with a private folder for its socket, ended with us.
 *
 *   imago ── QMP (unix socket in a folder of mode 0700) ──► qemu-system-x86_64
 *         ◄─────────────── serial line ────────────────────
 *
 * The serial line is QEMU's stdout; of a machine that counts instructions it is a file. A reader that is slow keeps a
 * pipe full, the guest then waits for its transmitter for as long, and is another machine at each run.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HostError, PeerError } from '../../lib/errors.js'
import { programsNamed } from '../../lib/search-path.js'
import { QmpClient } from './qmp.js'
import { SerialFile } from './serial-file.js'

export const PROGRAM = 'qemu-system-x86_64'

/** For QEMU to end when it was asked to. */
const END_TIMEOUT_MS = 5_000
/** Until the monitor answers; it takes QEMU some 50 ms. */
const START_TIMEOUT_MS = 120_000

export interface EmulatorOptions {
  /** Who reads the serial line: a function, or this process's own terminal. */
  readonly serial: ((bytes: Uint8Array) => void) | 'terminal'
  /** Make the machine, but do not start its processor. */
  readonly paused?: boolean
  /** Kills QEMU when it is aborted; whatever waits for it then fails. */
  readonly abort?: AbortSignal | undefined
}

export class Emulator {
  readonly qmp: QmpClient
  readonly #process: ChildProcess
  /** For sockets; only this user can look into it. Removed at the end. */
  readonly folder: string
  readonly #serial: SerialFile | undefined

  private constructor(process: ChildProcess, folder: string, qmp: QmpClient, serial: SerialFile | undefined) {
    this.#process = process
    this.folder = folder
    this.qmp = qmp
    this.#serial = serial
  }

  /** Starts QEMU with `words` and connects to its monitor. @throws HostError without QEMU, PeerError when it ends at once. */
  static async start(words: readonly string[], options: EmulatorOptions): Promise<Emulator> {
    const program = requireProgram()
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-qemu-')) // mode 0700
    const socket = path.join(folder, 'qmp')
    const log = path.join(folder, 'messages')
    const messages = fs.openSync(log, 'w')
    const terminal = options.serial === 'terminal'
    const serial =
      typeof options.serial === 'function' && words.includes('-icount')
        ? new SerialFile(path.join(folder, 'serial'), options.serial)
        : undefined
    const child = spawn(
      'setpriv',
      [
        // At the terminal it gets the chance to put it in order again.
        ...['--pdeathsig', terminal ? 'TERM' : 'KILL', program, ...words],
        ...['-qmp', `unix:${socket},server=on,wait=off`],
        ...['-serial', serial === undefined ? 'stdio' : `file:${serial.path}`],
        ...(options.paused ? ['-S'] : []),
      ],
      { stdio: terminal ? ['inherit', 'inherit', messages] : ['ignore', 'pipe', messages] },
    )
    fs.closeSync(messages)
    let failure: Error | undefined
    child.on('error', error => {
      failure = error
    })
    const kill = () => void child.kill('SIGKILL')
    options.abort?.addEventListener('abort', kill, { once: true })
    child.once('exit', () => options.abort?.removeEventListener('abort', kill))
    if (options.abort?.aborted) kill()
    if (typeof options.serial === 'function') child.stdout!.on('data', options.serial)
    for (const start = Date.now(); ; ) {
      if (failure !== undefined || child.exitCode !== null || child.signalCode !== null) {
        const words = fs.readFileSync(log, 'utf8').trim().split('\n').slice(-3).join('\n')
        fs.rmSync(folder, { recursive: true, force: true })
        throw new PeerError('QEMU ended at once', { found: failure?.message ?? (words || 'no message') })
      }
      try {
        const qmp = await QmpClient.connect(socket)
        serial?.follow()
        return new Emulator(child, folder, qmp, serial)
      } catch (error) {
        if (Date.now() - start > START_TIMEOUT_MS) {
          kill()
          fs.rmSync(folder, { recursive: true, force: true })
          throw new PeerError('QEMU does not open its monitor', { found: (error as Error).message })
        }
        await sleep(10)
      }
    }
  }

  get ended(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** QEMU's last words on stderr. */
  get messages(): string {
    return fs.readFileSync(path.join(this.folder, 'messages'), 'utf8').trim()
  }

  /** Waits until QEMU ends; its exit code, or 128 + the signal. */
  async wait(): Promise<number> {
    if (!this.ended) await new Promise(resolve => this.#process.once('exit', resolve))
    const signal = this.#process.signalCode
    return signal === null ? this.#process.exitCode! : 128 + os.constants.signals[signal]
  }

  /** Asks QEMU to end by itself, as Ctrl-C does: it puts the terminal in order. If it does not, it is killed. */
  terminate(): void {
    this.#process.kill('SIGTERM')
    setTimeout(() => this.#process.kill('SIGKILL'), END_TIMEOUT_MS).unref()
  }

  /** Ends QEMU at once and removes its folder. May be called twice. */
  async stop(): Promise<void> {
    this.qmp.close()
    if (!this.ended) {
      this.#process.kill('SIGKILL')
      await this.wait()
    }
    this.#serial?.close()
    fs.rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Path of qemu-system-x86_64, or undefined. */
export function findProgram(): string | undefined {
  return programsNamed(PROGRAM)[0]
}

function requireProgram(): string {
  const program = findProgram()
  if (program === undefined)
    throw new HostError(`${PROGRAM} is not installed`, { hint: 'apt-get install qemu-system-x86' })
  return program
}
