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

/** What went over the wire, and how long it took from the first connection on. */
export interface Transferred {
  readonly bytes: number
  readonly milliseconds: number
}

/** Returns when the machine runs at the target. */
export async function handOver(departure: Departure, options: HandOverOptions): Promise<Transferred> {
  let { decided, store } = departure
  let sent = 0
  let began: number | undefined
  const transferred = () => ({ bytes: sent, milliseconds: performance.now() - began! })
  let stream: FrameStream | undefined
  const { signal } = options
  signal?.addEventListener('abort', () => stream?.destroy())
  for (let attempt = 1; ; attempt++) {
    stream = undefined
    try {
      stream = await options.dial()
      began ??= performance.now()
      const welcome = await greet(stream, departure.id, departure.totalSize)
      if (welcome.standing === 'started') {
        if (decided) return transferred()
        throw new PeerError('the target has run this machine before', {
          hint: 'remove the .sending file beside the image to send it once more',
        })
      }
      if (decided && welcome.standing !== 'verified') {
        if (store === welcome.store) throw new TakenBack('the target lost the machine before it ran')
        throw new PeerError('this target does not know the machine')
      }
      store = welcome.store
      if (welcome.standing !== 'verified') await departure.transfer(stream, welcome.frames)
      await stream.expect(FRAME.verified)
      if (!decided) {
        departure.decide(store)
        decided = true
      }
      await stream.send(FRAME.commit)
      await stream.expect(FRAME.running)
      sent += stream.sent
      stream.close()
      return transferred()
    } catch (error) {
      sent += stream?.sent ?? 0
      if (!(error instanceof ImagoError) || error instanceof TakenBack) {
        stream?.destroy()
        throw error
      }
      const mayRetry =
        attempt < options.attempts &&
        signal?.aborted !== true &&
        (decided || (departure.resumable && wasCut(error)))
      if (!mayRetry) {
        if (decided) {
          stream?.destroy()
          throw new InDoubt('the target was given the machine and does not answer', {
            cause: error,
            found: error.message,
            hint: 'the same imago vm send IMAGE HOST:PORT asks it again',
          })
        }
        await stream?.send(FRAME.abort).catch(() => {})
        stream?.close()
        throw error
      }
      stream?.destroy()
      options.onCut?.(error, decided)
      await sleep(decided ? PAUSE_MS : 50, undefined, { signal }).catch(() => {}) // dialling says that it was aborted
    }
  }
}

/** After the decision, and by the same target's word: nobody runs the machine, so the source may. */
export class TakenBack extends PeerError {}

const wasCut = (error: ImagoError) => error instanceof PeerError && error.message === 'the connection was cut'
