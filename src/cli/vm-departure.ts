/** The source's side of `vm send` at a terminal: an image at rest, or a guest that runs here until it is gone. */
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Start } from '../engines/microvm/messages.js'
import { MicroVm } from '../engines/microvm/micro-vm.js'
import { headerDigest, openMicroVmFile } from '../formats/microvm/image-file.js'
import { ExitCode, ImagoError, InterruptedError, LossError, PeerError } from '../lib/errors.js'
import { connect, readKey } from '../migrate/channel.js'
import { FrameStream } from '../migrate/frames.js'
import { handOver, InDoubt, TakenBack } from '../migrate/hand-over.js'
import { claimImage, Offer } from '../migrate/offer.js'
import { greet, sendImage } from '../migrate/send-machine.js'
import { noteTransfer, type Output } from './output.js'
import { LiveSend } from './vm-live.js'
import type { GuestOptions } from './vm-options.js'
import { exitCodeOf, grantCheckpoint, printBlock, refuseToGoOn, type SessionOptions } from './vm-session.js'
import { type Wish, Wishes } from './vm-wishes.js'

/** How often, and how far apart, locks are tried that were let go for the target. */
const LOCK_ATTEMPTS = 30
const LOCK_PAUSE_MS = 100
/** How often a cut connection is made anew. */
export const ATTEMPTS = 30

export interface Destination {
  readonly host: string
  readonly port: number
  readonly key: string | undefined
  readonly compress: boolean
  readonly retries: number | undefined
}

export interface RunningOptions extends Destination, GuestOptions, SessionOptions {
  readonly live: boolean
  /** Undefined: when the guest or a signal asks for it. */
  readonly afterMs: number | undefined
}

export function dialer(
  destination: Destination,
  output: Output,
  signal?: AbortSignal,
): () => Promise<FrameStream> {
  const key = readKey(destination.key)
  return async () => {
    const socket = await connect(key, destination.host, destination.port, {
      retries: destination.retries,
      signal,
      onRetry: () => output.note('connect failed, retry in 1 second...'),
    })
    output.note(`Connected to VMM in ${destination.host}:${destination.port}`)
    return new FrameStream(socket)
  }
}

export const onCut = (output: Output) => (error: Error, decided: boolean) =>
  output.note(`imago: ${error.message}; ${decided ? 'asking the target whether it runs' : 'going on'}`)

/**
 * Sends a saved machine, or goes on with a send that was cut or killed. When `signal` ends it the offer stands: the same
 * send goes on. @throws ImagoError
 */
export async function sendRestingImage(
  image: string,
  destination: Destination,
  output: Output,
  signal?: AbortSignal,
): Promise<number> {
  const offer = Offer.open(image, headerDigest)
  const file = openMicroVmFile(offer.path)
  const dial = dialer(destination, output, signal)
  const totalSize = Number(file.record.memoryBytes)
  try {
    if (offer.live && !offer.decided) await askForFrozen(offer, totalSize, dial, output)
    const transferred = await handOver(
      {
        id: offer.id,
        totalSize,
        decided: offer.decided,
        store: offer.store,
        resumable: true,
        transfer: async (stream, frames) => {
          if (offer.live) throw new PeerError('the target lost the machine before it ran')
          await sendImage(stream, file, frames, destination)
        },
        decide: store => offer.decide(store),
      },
      { dial, attempts: ATTEMPTS, signal, onCut: onCut(output) },
    )
    offer.gone()
    noteTransfer('Sent', transferred, output)
    return ExitCode.done
  } catch (error) {
    if (error instanceof TakenBack) {
      offer.takeBack()
      output.note(`imago: the machine is ours again: ${image}`)
    } else offer.close()
    throw error
  } finally {
    file.source.close()
  }
}

/** A live send was killed: what it froze last may be at the target, whole; otherwise the image here is what there is. */
async function askForFrozen(
  offer: Offer,
  totalSize: number,
  dial: () => Promise<FrameStream>,
  output: Output,
): Promise<void> {
  const stream = await dial()
  const { standing } = await greet(stream, offer.id, totalSize)
  stream.destroy()
  if (standing === 'verified') output.note('the target has the machine as it stood when it left')
  else {
    offer.renew()
    output.note('the target has nothing whole: the machine is sent as it was when the live send began')
  }
}

/** Runs a program until it is to be sent, sends it, and goes on with it here when that fails. */
export async function sendRunning(
  start: Start & { kind: 'program' },
  options: RunningOptions,
  output: Output,
): Promise<number> {
  Offer.refuseInDoubt(options.image)
  readKey(options.key)
  const { engine, readOnly, trace } = options
  const vm = await MicroVm.start({ engine, readOnly, trace, start })
  const wishes = new Wishes(vm, options.timeoutMs)
  if (options.afterMs !== undefined && !options.live) wishes.after(options.afterMs, 'save')
  const live = options.live ? new LiveSend(vm, options, output, wishes.endWanted) : undefined
  try {
    for (;;) {
      const running = vm.run()
      live?.step(running)
      const { ended, report } = await running
      const code = exitCodeOf(ended, report, output)
      if (code !== undefined || wishes.endWanted.aborted) await live?.cancel(code !== undefined)
      if (code !== undefined) {
        output.note('imago: the guest ended here: it was not sent')
        return code
      }
      if (await live?.stepTaken()) return ExitCode.done
      let wish: Wish | undefined = ended.kind === 'save-requested' ? { kind: 'save' } : wishes.next()
      for (; wish !== undefined; wish = wishes.next()) {
        refuseToGoOn(wish)
        if (wish.kind === 'checkpoint') {
          if (await grantCheckpoint(vm, wish, options, output)) return ExitCode.done
        } else if (await sendSaved(vm, options, output, wishes.endWanted)) return ExitCode.done
      }
    }
  } finally {
    wishes.close()
    await live?.abandon()
    await vm.release()
  }
}

/** Before a guest that was not sent goes on here. @throws LossError when it cannot: it is in its image */
export async function takeLocksAgain(vm: MicroVm, image: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await vm.takeLocks()
    } catch (error) {
      if (!(error instanceof LossError)) throw error
      if (attempt === LOCK_ATTEMPTS)
        throw new LossError(`the guest was not sent, and cannot go on: ${error.message}`, {
          file: error.details.file,
          hint: `later: imago vm restore ${image}`,
        })
    }
    // A target on this host may have made the guest already, and lets go of it now.
    await sleep(LOCK_PAUSE_MS)
  }
}

/** Saves and sends a guest that stands still. False: the target failed, and the guest is still ours. */
async function sendSaved(
  vm: MicroVm,
  options: RunningOptions,
  output: Output,
  endWanted: AbortSignal,
): Promise<boolean> {
  const { image } = options
  try {
    await vm.save(image, options.withFiles)
    await vm.letLocksGo()
    await printBlock(image, output)
    await sendRestingImage(image, options, output, endWanted)
    return true
  } catch (error) {
    if (!(error instanceof ImagoError) || error instanceof InDoubt) throw error
    if (endWanted.aborted && fs.existsSync(image))
      throw new InterruptedError('interrupted before the guest was sent: it is in its image', {
        file: image,
        hint: 'imago vm send IMAGE HOST:PORT, or imago vm restore IMAGE',
      })
    claimImage(image)
    await takeLocksAgain(vm, image)
    fs.rmSync(image, { force: true })
    output.warn(`${error.describe()}\nthe guest goes on here`)
    return false
  }
}
