/**
 * A client of the QEMU Machine Protocol: JSON values, one a line, over a unix socket.
 *
 *   ← {"QMP": {version…}}            greeting
 *   → {"execute": "qmp_capabilities"}
 *   → {"execute": NAME, "arguments": {…}, "id": n}
 *   ← {"return": …, "id": n}   or   {"error": {"class", "desc"}, "id": n}
 *   ← {"event": NAME, "data": {…}}   at any time
 *
 * Source: QEMU docs/interop/qmp-spec.
 */
import net from 'node:net'
import { PeerError } from '../../lib/errors.js'
import { Patience } from './patience.js'

interface Reply {
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
  readonly id?: number
}

/** Longest line QEMU may send; a listing of a large machine is under 1 MB. */
const MAX_LINE_BYTES = 64 * 1024 * 1024

/** QEMU answers between two pieces of work; one that says nothing for this long hangs. */
const ANSWER_TIMEOUT_MS = 120_000

export class QmpClient {
  readonly #socket: net.Socket
  readonly #patience: Patience
  readonly #pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  #nextId = 1
  #closed: Error | undefined
  #greeted = false

  private constructor(socket: net.Socket, timeoutMs: number) {
    this.#socket = socket
    this.#patience = new Patience(timeoutMs, () =>
      socket.destroy(new Error(`QEMU said nothing for ${timeoutMs / 1000} s`)),
    )
    let text = ''
    socket.setEncoding('utf8')
    socket.on('data', (data: string) => {
      text += data
      if (this.#pending.size > 0) this.#patience.begin()
      if (text.length > MAX_LINE_BYTES) socket.destroy(new Error('QEMU sent a line that never ends'))
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        this.#receive(text.slice(0, end))
        text = text.slice(end + 1)
      }
    })
    socket.on('error', error => this.#close(error))
    socket.on('close', () => this.#close(new Error('QEMU closed the connection')))
  }

  /** Connects to the socket at `path`, which QEMU may not have made yet: then the error's code is ENOENT or ECONNREFUSED. */
  static async connect(path: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<QmpClient> {
    const socket = net.connect(path)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    const client = new QmpClient(socket, timeoutMs)
    try {
      await client.execute('qmp_capabilities')
      return client
    } catch (error) {
      client.close()
      throw error
    }
  }

  /** Runs one command and returns its result. @throws PeerError when QEMU refuses, goes away or hangs. */
  execute<Result = unknown>(command: string, args?: Readonly<Record<string, unknown>>): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(gone(command, this.#closed))
        return
      }
      const id = this.#nextId++
      this.#pending.set(id, {
        resolve: value => resolve(value as Result),
        reject: error => reject(error instanceof PeerError ? error : gone(command, error)),
      })
      this.#patience.begin()
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #receive(line: string): void {
    if (line.trim() === '') return
    let reply: Reply
    try {
      const value: unknown = JSON.parse(line)
      if (typeof value !== 'object' || value === null) throw new Error(`found ${line.slice(0, 80)}`)
      reply = value
    } catch (error) {
      this.#socket.destroy(new Error(`QEMU sent what is no message: ${(error as Error).message}`))
      return
    }
    if (!this.#greeted) {
      this.#greeted = true
      return
    }
    if (reply.error !== undefined && reply.id === undefined) {
      // It could not even read what we sent, so it does not know whose error this is.
      this.#socket.destroy(new Error(`QEMU did not understand: ${reply.error.desc}`))
      return
    }
    if (reply.event !== undefined || reply.id === undefined) return
    const waiting = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if (this.#pending.size === 0) this.#patience.end()
    if (reply.error === undefined) waiting?.resolve(reply.return)
    else waiting?.reject(new PeerError(`QEMU refused: ${reply.error.desc}`))
  }

  #close(error: Error): void {
    this.#closed ??= error
    this.#patience.end()
    for (const waiting of this.#pending.values()) waiting.reject(this.#closed)
    this.#pending.clear()
  }
}

function gone(command: string, cause: Error): PeerError {
  return new PeerError(`QEMU went away before it answered '${command}'`, { found: cause.message, cause })
}
