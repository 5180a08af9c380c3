/**
 * The target's side: takes machines, one at a time, and lets each run only when its source has given it up.
 *
 *   source                                   target
 *   RUNNING   ── hello ───────────────────►  PREPARED    space and place are there
 *             ◄── ready (what is here) ────
 *   TRANSFER  ── pages, contents, rounds ─►              written to ID.part
 *   FROZEN    ── header ──────────────────►  VERIFIED    ID.vm synced; files reopened, CPU set: ready, not running
 *             ◄── verified ────────────────
 *   decision written down: from here on the source never runs the guest again
 *   COMMITTED ── commit ──────────────────►  LIVE        ID.started written, then it runs
 *             ◄── running ─────────────────
 *
 * Cut before the decision: the source goes on, the target only has a frozen image. Cut after it: the source asks again
 * with the same ID until it hears `running`; ID.started makes a second commit start nothing. Nobody ever guesses.
 */
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { syncDirectory } from '../lib/atomic-file.js'
import { ImagoError, PeerError } from '../lib/errors.js'
import { FRAME, type FrameStream, PROTOCOL, parseJson } from './frames.js'
import { Incoming } from './incoming.js'
import { holdStarted } from './offer.js'

/** A guest that is made but does not run. */
export interface ReadyGuest {
  release(): Promise<void>
}

export interface Arrival<G extends ReadyGuest> {
  readonly id: string
  readonly guest: G
  readonly image: string
  readonly bytes: number
  /** From the beginning of the last connection on. */
  readonly milliseconds: number
}

/** How long a source waits for the end of another's connection. */
const PATIENCE_MS = 5_000

/** What a target knows of an id; the answer in `ready`. */
export type Standing = 'none' | 'partial' | 'verified' | 'started'

export class Receiver<G extends ReadyGuest> {
  readonly #store: string
  readonly #patienceMs: number
  readonly #makeGuest: (image: string) => Promise<G>
  readonly storeId: string
  #incoming: { id: string; incoming: Incoming } | undefined
  #verified: { id: string; guest: G } | undefined
  /** The connection that is served, until `ended`. */
  #current: { stream: FrameStream; id: string; ended: Promise<void> } | undefined
  /** A machine was given to this side: it takes no other. */
  #taken = false
  #closed = false

  /** @param store folder for images that arrive; made when missing. */
  constructor(store: string, makeGuest: (image: string) => Promise<G>, patienceMs = PATIENCE_MS) {
    this.#store = store
    this.#patienceMs = patienceMs
    this.#makeGuest = makeGuest
    fs.mkdirSync(store, { recursive: true, mode: 0o700 })
    const idFile = path.join(store, 'store-id')
    if (!fs.existsSync(idFile)) fs.writeFileSync(idFile, crypto.randomUUID(), { mode: 0o600 })
    this.storeId = fs.readFileSync(idFile, 'utf8')
    Incoming.sweep(store)
  }

  /** Images of machines that were given to this host, and whose guests have not ended: they run, or died with their monitor. */
  unfinished(): string[] {
    return fs
      .readdirSync(this.#store)
      .filter(name => name.endsWith('.started'))
      .map(name => this.imageOf(name.replace('.started', '')))
      .filter(image => fs.existsSync(image))
  }

  imageOf(id: string): string {
    return path.join(this.#store, `${id}.vm`)
  }
  #markerOf(id: string): string {
    return path.join(this.#store, `${id}.started`)
  }

  #standing(id: string): Standing {
    if (fs.existsSync(this.#markerOf(id))) return 'started'
    if (fs.existsSync(this.imageOf(id))) return 'verified'
    return this.#incoming?.id === id ? 'partial' : 'none'
  }

  /**
   * Follows the protocol on one connection. Returns the guest to run, or undefined when the source took it back or
   * asked about one that was started before. @throws PeerError when the connection is cut: the source may come again.
   */
  async serve(stream: FrameStream): Promise<Arrival<G> | undefined> {
    let leave: (() => void) | undefined
    const began = performance.now()
    try {
      const { id, totalSize } = await hearHello(stream)
      leave = await this.#takeTurn(stream, id)
      const arrival = await this.#serve(stream, id, totalSize)
      return arrival && { ...arrival, milliseconds: performance.now() - began }
    } catch (error) {
      if (error instanceof ImagoError && !(error instanceof PeerError && error.message.includes('cut')))
        await stream.sendJson(FRAME.failed, { message: error.describe() }).catch(() => {})
      throw error
    } finally {
      leave?.()
    }
  }

  /**
   * One connection at a time. A source that comes again has lost its first connection, whether or not that was heard
   * of here: it is cut. Any other is waited for a little. Returns how to end the turn. @throws PeerError
   */
  async #takeTurn(stream: FrameStream, id: string): Promise<() => void> {
    const patience = AbortSignal.timeout(this.#patienceMs)
    const outOfPatience = new Promise<void>(resolve => patience.addEventListener('abort', () => resolve()))
    while (this.#current !== undefined) {
      if (patience.aborted) throw new PeerError('busy with another machine')
      if (this.#current.id === id) this.#current.stream.destroy()
      await Promise.race([this.#current.ended, outOfPatience])
    }
    let end = () => {}
    const ended = new Promise<void>(resolve => {
      end = resolve
    })
    this.#current = { stream, id, ended }
    return () => {
      this.#current = undefined
      end()
    }
  }

  async #serve(
    stream: FrameStream,
    id: string,
    totalSize: unknown,
  ): Promise<Omit<Arrival<G>, 'milliseconds'> | undefined> {
    const standing = this.#standing(id)
    if (this.#taken && standing !== 'started') throw new PeerError('busy: it runs another machine')
    if (standing === 'none') {
      this.#drop()
      const incoming = new Incoming(path.join(this.#store, `${id}.part`), Number(totalSize))
      this.#incoming = { id, incoming }
    }
    const frames = standing === 'partial' ? this.#incoming!.incoming.frames : 0
    await stream.sendJson(FRAME.ready, { standing, frames, store: this.storeId })
    if (standing === 'started') return undefined
    if (standing !== 'verified') {
      const header = await this.#take(stream, this.#incoming!.incoming)
      if (header === undefined) {
        this.#drop()
        return undefined
      }
      this.#incoming!.incoming.finish(header, this.imageOf(id))
      this.#incoming!.incoming.close()
      this.#incoming = undefined
    }
    if (this.#verified?.id !== id) {
      await this.#verified?.guest.release()
      this.#verified = undefined
      try {
        const guest = await this.#makeGuest(this.imageOf(id))
        if (this.#closed) {
          await guest.release()
          throw new PeerError('this side was told to stop')
        }
        this.#verified = { id, guest }
      } catch (error) {
        // It cannot run here: the source keeps it.
        fs.rmSync(this.imageOf(id), { force: true })
        throw error
      }
    }
    await stream.send(FRAME.verified)
    const decision = await stream.expect(FRAME.commit, FRAME.abort)
    if (this.#closed) throw new PeerError('this side was told to stop')
    const { guest } = this.#verified
    this.#verified = undefined
    if (decision.type === FRAME.abort) {
      await guest.release()
      fs.rmSync(this.imageOf(id), { force: true })
      return undefined
    }
    // Made, never overwritten: whoever makes it runs the guest.
    fs.writeFileSync(this.#markerOf(id), '', { mode: 0o600, flag: 'wx' })
    syncDirectory(this.#store)
    holdStarted(this.#markerOf(id))
    this.#taken = true
    // The guest is ours whether or not the source hears of it.
    await stream.send(FRAME.running).catch(() => {})
    return { id, guest, image: this.imageOf(id), bytes: stream.received }
  }

  /** Frames up to the header; undefined when the source takes the guest back. */
  async #take(stream: FrameStream, incoming: Incoming): Promise<Uint8Array | undefined> {
    for (;;) {
      const frame = await stream.expect(
        FRAME.pages,
        FRAME.zeros,
        FRAME.content,
        FRAME.round,
        FRAME.header,
        FRAME.abort,
      )
      if (this.#closed) throw new PeerError('this side was told to stop')
      if (frame.type === FRAME.abort) return undefined
      const payload = frame.compressed ? (await import('./zstd.js')).decompress(frame.payload) : frame.payload
      const header = incoming.take(frame.type, payload)
      if (header !== undefined) return header
    }
  }

  #drop(): void {
    if (this.#incoming === undefined) return
    this.#incoming.incoming.close()
    fs.rmSync(this.#incoming.incoming.file, { force: true })
    this.#incoming = undefined
  }

  /** The guest has ended: its image is no longer needed. The marker stays, so that no late commit starts it again. */
  forget(id: string): void {
    fs.rmSync(this.imageOf(id), { force: true })
  }

  /** At the end of the server: what was not whole goes; whole images stay. */
  async close(): Promise<void> {
    this.#closed = true
    this.#drop()
    const guest = this.#verified?.guest
    this.#verified = undefined
    await guest?.release()
  }
}

/** What a source says first. @throws PeerError */
async function hearHello(stream: FrameStream): Promise<{ id: string; totalSize: unknown }> {
  const { id, protocol, totalSize } = parseJson((await stream.expect(FRAME.hello)).payload)
  if (protocol !== PROTOCOL)
    throw new PeerError('the other imago speaks another protocol', {
      found: String(protocol),
      expected: PROTOCOL,
    })
  if (typeof id !== 'string' || !/^[0-9a-f-]{36}$/.test(id)) throw new PeerError('impossible id')
  return { id, totalSize }
}
