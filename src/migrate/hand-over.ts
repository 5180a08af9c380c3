/**
 * Giving a machine away, cuts and all: transfers, decides, and after the decision asks until it is answered. The
 * states are drawn in receive-machine.ts. When this throws a PeerError the machine is still the source's; when it
 * throws InDoubt the target has been given it, and has not said that it runs.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ImagoError, PeerError } from '../lib/errors.js'
import { FRAME, type FrameStream } from './frames.js'
import { greet } from './send-machine.js'

const PAUSE_MS = 1000

export interface Departure {
  readonly id: string
  readonly totalSize: number
  /** True when the decision was written down before (another run of imago was killed then). */
  readonly decided: boolean
  /** The store of the target that it was given to, when that was written down. */
  readonly store?: string | undefined
  /** True when the transfer can go on after a cut: what is sent does not change. */
  readonly resumable: boolean
  /** Sends all up to the header, leaving out the first `frames` frames. */
  transfer(stream: FrameStream, frames: number): Promise<void>
  /** Writes the decision, and to which store, down: after this the source never runs the machine again. */
  decide(store: string): void
}

export interface HandOverOptions {
  /** Connects, trying again while nobody listens. */
  dial(): Promise<FrameStream>
  /** How often a cut connection is made anew before the decision, and after it. */
  readonly attempts: number
  /** The user wants an end of it: the connection is cut, and not made again. */
  readonly signal?: AbortSignal | undefined
  onCut?(error: Error, decided: boolean): void
}

/** The target was told to run the machine, and then was heard of no more. */
export class InDoubt extends PeerError {}

/** After the decision, and by the same target's word: nobody runs the machine, so the source may. */
export class TakenBack extends PeerError {}

/** What went over the wire, and how long it took from the first connection on. */
export interface Transferred {
  readonly bytes: number
  readonly milliseconds: number
}

/** What outlives a cut connection. */
interface Known {
  decided: boolean
  /** The store of the target that has the machine, or is to have it. */
  store: string | undefined
}

/** Returns when the machine runs at the target. */
export async function handOver(departure: Departure, options: HandOverOptions): Promise<Transferred> {
  const { signal } = options
  const known: Known = { decided: departure.decided, store: departure.store }
  let bytes = 0
  let began: number | undefined
  let stream: FrameStream | undefined
  signal?.addEventListener('abort', () => stream?.destroy())
  for (let attempt = 1; ; attempt++) {
    stream = undefined
    try {
      stream = await options.dial()
      began ??= performance.now()
      await giveAway(departure, known, stream)
      bytes += stream.sent
      stream.close()
      return { bytes, milliseconds: performance.now() - began }
    } catch (error) {
      bytes += stream?.sent ?? 0
      const isLast = attempt >= options.attempts || signal?.aborted === true
      if (isLast || !mayBeMended(error, departure, known)) throw await takeLeave(stream, error, known)
      stream?.destroy()
      options.onCut?.(error, known.decided)
      await sleep(known.decided ? PAUSE_MS : 50, undefined, { signal }).catch(() => {}) // dialling says that it was aborted
    }
  }
}

/** The protocol on one connection. Returns when the machine runs at the target. */
async function giveAway(departure: Departure, known: Known, stream: FrameStream): Promise<void> {
  const { standing, frames, store } = await greet(stream, departure.id, departure.totalSize)
  if (standing === 'started') {
    if (known.decided) return
    throw new PeerError('the target has run this machine before', {
      hint: 'remove the .sending file beside the image to send it once more',
    })
  }
  if (known.decided && standing !== 'verified') {
    if (known.store === store) throw new TakenBack('the target lost the machine before it ran')
    throw new PeerError('this target does not know the machine')
  }
  known.store = store
  if (standing !== 'verified') await departure.transfer(stream, frames)
  await stream.expect(FRAME.verified)
  if (!known.decided) {
    departure.decide(store)
    known.decided = true
  }
  await stream.send(FRAME.commit)
  await stream.expect(FRAME.running)
}

/** Whether another connection can help: before the decision only when this one was cut. */
function mayBeMended(error: unknown, departure: Departure, known: Known): error is ImagoError {
  if (!(error instanceof ImagoError) || error instanceof TakenBack) return false
  return known.decided || (departure.resumable && wasCut(error))
}

/** Ends the connection for good. Returns what to throw. */
async function takeLeave(stream: FrameStream | undefined, error: unknown, known: Known): Promise<unknown> {
  if (!(error instanceof ImagoError) || error instanceof TakenBack) {
    stream?.destroy()
    return error
  }
  if (known.decided) {
    stream?.destroy()
    return new InDoubt('the target was given the machine and does not answer', {
      cause: error,
      found: error.message,
      hint: 'the same imago vm send IMAGE HOST:PORT asks it again',
    })
  }
  await stream?.send(FRAME.abort).catch(() => {})
  stream?.close()
  return error
}

const wasCut = (error: ImagoError) => error instanceof PeerError && error.message === 'the connection was cut'
