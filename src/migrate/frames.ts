/**
 * Frames on a stream, and how the two sides know each other.
 *
 *   0   type u8 │ 1  compressed u8 (0, 1 zstd) │ 2  u16 0 │ 4  length u32 │ 8  CRC-32 of the payload u32 │ 12  payload
 *
 * The stream is TLS with a shared key (ECDHE-PSK: both sides prove that they have it, and nobody else can read or
 * change a byte). The CRC is against faults of our own, not against an enemy.
 */
import type { Duplex } from 'node:stream'
import { crc32 } from 'node:zlib'
import { PeerError } from '../lib/errors.js'

export const PROTOCOL = 1

/** Who says it: S the source, T the target. */
export const FRAME = {
  /** S, JSON: protocol, id, memory sizes. */
  hello: 1,
  /** T, JSON: what it already has of this id. */
  ready: 2,
  /** S: address u64, then the bytes of whole pages. */
  pages: 3,
  /** S: address u64, length u64: these pages are zero. */
  zeros: 4,
  /** S: index u32, offset u64, total u64, then bytes of the content of a file or pipe. */
  content: 5,
  /** S: the end of a round; the target brings its checksums up to date meanwhile. */
  round: 6,
  /** S: the header of the image; nothing follows but the decision. */
  header: 7,
  /** T: the image is whole and synced, the guest is made and stands ready. */
  verified: 8,
  /** S: the decision is written down; the guest is yours. */
  commit: 9,
  /** T: it runs. */
  running: 10,
  /** S: the guest goes on here; forget it. */
  abort: 11,
  /** T, JSON: why it cannot. */
  failed: 12,
} as const

const HEAD = 12
export const MOST_PAYLOAD = 4 << 20
/**
 * Who says nothing, or takes nothing, for so long is gone: a host that lost its power sends no FIN. It is longer than
 * any side is silent by design: what a target writes it also syncs as it comes (`round`).
 */
const SILENCE_MS = 120_000
/** How long what was sent last may take to leave, once nobody waits for an answer. */
const FAREWELL_MS = 5_000

export interface Frame {
  readonly type: number
  readonly compressed: boolean
  readonly payload: Buffer
}

export class FrameStream {
  readonly #stream: Duplex
  readonly #silenceMs: number
  readonly #queue: Buffer[] = []
  #queued = 0
  #ended = false
  #error: Error | undefined
  #wake: (() => void) | undefined
  /** Bytes that went through, heads included. */
  sent = 0
  received = 0

  constructor(stream: Duplex, silenceMs = SILENCE_MS) {
    this.#stream = stream
    this.#silenceMs = silenceMs
    stream.on('data', (chunk: Buffer) => {
      this.#queue.push(chunk)
      this.#queued += chunk.length
      this.received += chunk.length
      if (this.#queued > 2 * MOST_PAYLOAD) stream.pause()
      this.#wake?.()
    })
    const end = (error?: Error) => {
      this.#ended = true
      this.#error ??= error
      this.#wake?.()
    }
    stream.on('end', () => end())
    stream.on('close', () => end())
    stream.on('error', end)
  }

  /** Resolves when the stream takes more. @throws PeerError */
  async send(type: number, payload: Uint8Array = new Uint8Array(), compressed = false): Promise<void> {
    if (this.#ended || this.#stream.destroyed) throw this.#gone()
    const head = Buffer.alloc(HEAD)
    head[0] = type
    head[1] = compressed ? 1 : 0
    head.writeUInt32LE(payload.length, 4)
    head.writeUInt32LE(crc32(payload) >>> 0, 8)
    this.#stream.write(head)
    this.sent += HEAD + payload.length
    if (payload.length === 0 || this.#stream.write(payload)) return
    await this.#within(
      'takes nothing',
      new Promise<void>((resolve, reject) => {
        const done = () => {
          this.#stream.off('drain', done)
          this.#stream.off('close', fail)
          resolve()
        }
        const fail = () => {
          this.#stream.off('drain', done)
          reject(this.#gone())
        }
        this.#stream.once('drain', done)
        this.#stream.once('close', fail)
      }),
    )
  }

  /** Waits for the other side, but not for ever: then the connection is cut here. */
  async #within(what: string, wait: Promise<void>): Promise<void> {
    const cut = () =>
      this.#stream.destroy(new Error(`the other side ${what} for ${this.#silenceMs / 1000} s`))
    const timer = setTimeout(cut, this.#silenceMs)
    try {
      await wait
    } finally {
      clearTimeout(timer)
    }
  }

  sendJson(type: number, value: object): Promise<void> {
    return this.send(type, Buffer.from(JSON.stringify(value)))
  }

  /** The next frame. @throws PeerError when the stream ends or what comes is no frame. */
  async receive(): Promise<Frame> {
    const head = await this.#take(HEAD)
    const length = head.readUInt32LE(4)
    if (length > MOST_PAYLOAD || head[1]! > 1 || head[0] === 0 || head[0]! > 12)
      throw new PeerError('the other side sent what is no frame', { found: head.toString('hex') })
    const payload = await this.#take(length)
    if (crc32(payload) >>> 0 !== head.readUInt32LE(8)) throw new PeerError('a frame arrived damaged')
    return { type: head[0]!, compressed: head[1] === 1, payload }
  }

  /** The next frame, which must be of one of these types; `failed` becomes an error. */
  async expect(...types: number[]): Promise<Frame> {
    const frame = await this.receive()
    if (frame.type === FRAME.failed) {
      const { message } = parseJson(frame.payload) as { message?: unknown }
      throw new PeerError(`the other side: ${typeof message === 'string' ? message : 'failed'}`)
    }
    if (!types.includes(frame.type))
      throw new PeerError('the other side does not follow the protocol', { found: `frame ${frame.type}` })
    return frame
  }

  async #take(count: number): Promise<Buffer> {
    if (count === 0) return Buffer.alloc(0)
    while (this.#queued < count) {
      if (this.#ended) throw this.#gone()
      this.#stream.resume()
      await this.#within(
        'says nothing',
        new Promise<void>(resolve => {
          this.#wake = resolve
        }),
      )
      this.#wake = undefined
    }
    const whole = this.#queue[0]!.length >= count ? this.#queue[0]! : Buffer.concat(this.#queue)
    if (whole !== this.#queue[0]) this.#queue.splice(0, this.#queue.length, whole)
    if (whole.length === count) this.#queue.shift()
    else this.#queue[0] = whole.subarray(count)
    this.#queued -= count
    return whole.subarray(0, count)
  }

  #gone(): PeerError {
    return new PeerError('the connection was cut', { cause: this.#error, found: this.#error?.message })
  }

  /** Lets go of the connection when what was sent has left. */
  close(): void {
    setTimeout(() => this.#stream.destroy(), FAREWELL_MS).unref()
    this.#stream.end()
    this.#stream.destroySoon?.()
  }

  destroy(): void {
    this.#stream.destroy()
  }
}

declare module 'node:stream' {
  interface Duplex {
    destroySoon?(): void
  }
}

/** @throws PeerError */
export function parseJson(payload: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(payload.toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // said below
  }
  throw new PeerError('the other side sent malformed JSON')
}
