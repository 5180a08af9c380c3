/** The source's side of `vm send` at a terminal: an image at rest, or a guest that runs here until it is gone. */
import fs from 'node:fs'
import type { Start } from '../../engines/microvm/messages.js'
import { MicroVm } from '../../engines/microvm/micro-vm.js'
import { headerDigest, openMicroVmFile } from '../../formats/microvm/image-file.js'
import { ExitCode, ImagoError, InterruptedError, PeerError } from '../../lib/errors.js'
import { readKey } from '../../migrate/channel.js'
import type { FrameStream } from '../../migrate/frames.js'
import { handOver, InDoubt, TakenBack } from '../../migrate/hand-over.js'
import { claimImage, Offer } from '../../migrate/offer.js'
import { greet, sendImage } from '../../migrate/send-machine.js'
import { noteTransfer, type Output } from '../output.js'
import { ATTEMPTS, type Destination, dialer, onCut } from './destination.js'
import { type LiveOptions, LiveSend } from './live.js'
import { takeLocksAgain } from './locks.js'
import type { GuestOptions } from './options.js'
import { exitCodeOf, grantCheckpoint, printBlock, refuseToGoOn } from './session.js'
import { type Wish, Wishes } from './wishes.js'

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

export interface RunningOptions extends LiveOptions, GuestOptions {
  readonly live: boolean
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
