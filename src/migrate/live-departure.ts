/**
 * Giving away a guest that runs (pre-copy). A running guest dies with its process, so before a byte of it travels an
 * earlier state of it is made safe in IMAGE, in rounds while it runs; from then on a kill of either side at any moment
 * leaves a machine that can go on:
 *
 *   killed                                 what there is
 *   before the target has verified it      IMAGE: the guest as it stood when the send began
 *   after that, before the decision        the same; `vm send IMAGE` finds the frozen guest at the target, and gives it
 *   after the decision                     IMAGE.sent, and the guest at the target: only that may run
 *
 * offer.ts has the states on the source's disk, receive-machine.ts those of the target.
 */
import fs from 'node:fs'
import { type HandOverOptions, handOver, type Transferred } from './hand-over.js'
import { Incoming } from './incoming.js'
import type { Offer } from './offer.js'
import {
  type LiveGuest,
  type LiveReport,
  type Round,
  recordTo,
  type SendOptions,
  sendLive,
} from './send-machine.js'

/** Makes the guest's state safe in `image`; the guest stands still afterwards. @throws ImagoError, Error of the file system */
export async function keepSafe(
  guest: LiveGuest,
  totalSize: number,
  image: string,
  withFiles: boolean,
): Promise<LiveReport> {
  const incoming = new Incoming(`${image}.part`, totalSize)
  try {
    return await sendLive(recordTo(incoming, image), guest, withFiles, { compress: false }, () => {})
  } catch (error) {
    fs.rmSync(incoming.file, { force: true })
    throw error
  } finally {
    incoming.close()
  }
}

export interface LiveOptions extends SendOptions, HandOverOptions {
  readonly withFiles: boolean
  onRound(round: Round, number: number): void
}

/** Sends the guest in rounds, freezes it and hands it over. @throws as `handOver`: the guest then stands still, or runs. */
export async function sendAway(
  guest: LiveGuest,
  totalSize: number,
  offer: Offer,
  options: LiveOptions,
): Promise<Transferred & { frozenAt: number }> {
  let frozenAt = 0
  const transferred = await handOver(
    {
      id: offer.id,
      totalSize,
      decided: false,
      resumable: false,
      async transfer(stream) {
        ;({ frozenAt } = await sendLive(stream, guest, options.withFiles, options, options.onRound))
      },
      decide: store => offer.decide(store),
    },
    options,
  )
  return { ...transferred, frozenAt }
}
