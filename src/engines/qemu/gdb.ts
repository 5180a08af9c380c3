/**
 * A client of a gdb stub, as far as stepping and comparing machines needs it: QEMU's, gem5's or any other's.
 *
 *   packet   $ payload # two hex digits (sum of the payload's bytes)      answered by + (or - to send again)
 *   g        all registers        vCont;s:1, s   one instruction        D   detach        ?   why it stands still
 *
 * The first registers of `g` on x86-64 are rax rbx rcx rdx rsi rdi rbp rsp r8 … r15 rip (8 bytes each, little
 * endian), eflags cs ss ds es fs gs (4 bytes each). Source: GDB manual, appendix E; QEMU gdb-xml/i386-64bit.xml.
 */
import net from 'node:net'
import path from 'node:path'
import { PeerError } from '../../lib/errors.js'
import type { Emulator } from './emulator.js'
import { Patience } from './patience.js'

export const gdbRegisters = [
  ...(['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'rsp'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip'] as const),
  ...(['eflags', 'cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const),
] as const
export type GdbRegister = (typeof gdbRegisters)[number]

const WIDE_REGISTERS = 17

/** A stub that says nothing for this long is gone. */
const ANSWER_TIMEOUT_MS = 60_000

/** All registers are some hundred bytes. */
const MAX_PACKET_BYTES = 1024 * 1024

/** QEMU's own packet Qqemu.sstep (QEMU docs/system/gdb.rst). */
const SingleStep = { enable: 1, noInterrupt: 2, noTimer: 4 } as const

/** What single steps let through. */
export interface StepOptions {
  /**
   * Timers fire between steps. Then a machine under icount does not keep its time: QEMU takes one that stands after a
   * step for idle, and moves its clock to the next timer.
   */
  readonly timers: boolean
  /** Interrupts are taken, as running does, unless this is false. */
  readonly interrupts?: boolean
}

export class GdbClient {
  readonly #socket: net.Socket
  readonly #patience: Patience
  #received = ''
  #waiting: { resolve(payload: string): void; reject(error: Error): void } | undefined
  #failure: Error | undefined

  private constructor(socket: net.Socket, timeoutMs: number) {
    this.#socket = socket
    this.#patience = new Patience(timeoutMs, () =>
      socket.destroy(new Error(`no answer for ${timeoutMs / 1000} s`)),
    )
    socket.setEncoding('latin1').setNoDelay(true)
    socket.on('data', (data: string) => {
      this.#received += data
      if (this.#received.length > MAX_PACKET_BYTES) socket.destroy(new Error('a packet that never ends'))
      else this.#takePacket()
    })
    const fail = (error: Error) => {
      this.#failure ??= error
      this.#patience.end()
      this.#waiting?.reject(this.#failure)
      this.#waiting = undefined
    }
    socket.on('error', error => fail(new PeerError('the gdb stub failed', { found: error.message })))
    socket.on('close', () => fail(new PeerError('the gdb stub closed the connection')))
  }

  /** Connects to `HOST:PORT` or the path of a unix socket. @throws PeerError when nobody listens or answers there. */
  static async connect(where: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<GdbClient> {
    const match = /^(?:(.*):)?(\d+)$/.exec(where)
    const socket =
      match === null ? net.connect(where) : net.connect(Number(match[2]), match[1] || '127.0.0.1')
    const patience = new Patience(timeoutMs, () => socket.destroy(new Error('no answer')))
    patience.begin()
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', error =>
        reject(new PeerError(`no gdb stub at ${where}`, { found: error.message })),
      )
    }).finally(() => patience.end())
    const client = new GdbClient(socket, timeoutMs)
    try {
      await client.#request('?')
      return client
    } catch (error) {
      client.close()
      throw error
    }
  }

  /** Opens the stub of a machine of ours, and makes it step like this. */
  static async attach(emulator: Emulator, { timers, interrupts }: StepOptions): Promise<GdbClient> {
    const socket = path.join(emulator.folder, 'gdb')
    await emulator.qmp.execute('human-monitor-command', {
      'command-line': `gdbserver unix:${socket},server=on,wait=off`,
    })
    const client = await GdbClient.connect(socket)
    const { enable, noInterrupt, noTimer } = SingleStep
    const mode = enable | (timers ? 0 : noTimer) | (interrupts === false ? noInterrupt : 0)
    await client.#request(`Qqemu.sstep=0x${mode.toString(16)}`)
    return client
  }

  /** Executes one instruction (or delivers one interrupt). */
  async step(): Promise<void> {
    const answer = await this.#request('s')
    if (!/^[TS]/.test(answer))
      throw new PeerError('the machine ended while it was stepped', { found: answer })
  }

  /** Values of `gdbRegisters`. @throws PeerError when the stub's answer is too short for them. */
  async registers(): Promise<ReadonlyMap<GdbRegister, bigint>> {
    const bytes = Buffer.from(await this.#request('g'), 'hex')
    if (bytes.length < WIDE_REGISTERS * 8 + (gdbRegisters.length - WIDE_REGISTERS) * 4)
      throw new PeerError('the gdb stub has other registers than those of x86-64', {
        found: `${bytes.length} bytes`,
      })
    return new Map(
      gdbRegisters.map((name, i) =>
        i < WIDE_REGISTERS
          ? [name, bytes.readBigUInt64LE(i * 8)]
          : [name, BigInt(bytes.readUInt32LE(WIDE_REGISTERS * 8 + (i - WIDE_REGISTERS) * 4))],
      ),
    )
  }

  /** Lets the machine go without letting it run: the connection just ends. */
  close(): void {
    this.#socket.destroy()
  }

  #request(payload: string): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#patience.begin()
      this.#socket.write(`$${payload}#${checksum(payload)}`, 'latin1')
    })
  }

  /** Acknowledgements are skipped: TCP and unix sockets lose nothing. */
  #takePacket(): void {
    const start = this.#received.indexOf('$')
    const end = this.#received.indexOf('#', start)
    if (start < 0 || end < 0 || this.#received.length < end + 3) return
    const payload = this.#received.slice(start + 1, end)
    this.#received = this.#received.slice(end + 3)
    this.#socket.write('+')
    const waiting = this.#waiting
    this.#waiting = undefined
    this.#patience.end()
    waiting?.resolve(payload)
  }
}

function checksum(payload: string): string {
  let sum = 0
  for (let i = 0; i < payload.length; i++) sum += payload.charCodeAt(i)
  return (sum & 0xff).toString(16).padStart(2, '0')
}
