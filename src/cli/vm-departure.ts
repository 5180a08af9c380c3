/** The source's side of `vm send` at a terminal: an image at rest, or a guest that runs here until it is gone. */
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import type { Start } from '../engines/microvm/messages.js'
import { MicroVm } from '../engines/microvm/micro-vm.js'
import { openMicroVmFile } from '../formats/microvm/image-file.js'
import { syncDirectory, writeFileAtomically, writeFully } from '../lib/atomic-file.js'
import { ExitCode, ImagoError, UnreadableError } from '../lib/errors.js'
import { connect, readKey } from '../migrate/channel.js'
import { FrameStream } from '../migrate/frames.js'
import { type Departure, handOver, InDoubt } from '../migrate/hand-over.js'
import { sendImage, sendLive } from '../migrate/send-machine.js'
import { bytesText, durationText, type Output } from './output.js'
import type { GuestOptions } from './vm-options.js'
import { exitCodeOf, grantCheckpoint, printBlock, refuseToGoOn, type SessionOptions } from './vm-session.js'
import { type Wish, Wishes } from './vm-wishes.js'

const ATTEMPTS = 30

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

function dialer(destination: Destination, output: Output): () => Promise<FrameStream> {
  const key = readKey(destination.key)
  return async () => {
    const socket = await connect(key, destination.host, destination.port, {
      retries: destination.retries,
      onRetry: () => output.note('connect failed, retry in 1 second...'),
    })
    output.note(`Connected to VMM in ${destination.host}:${destination.port}`)
    return new FrameStream(socket)
  }
}

const onCut = (output: Output) => (error: Error, decided: boolean) =>
  output.note(`imago: ${error.message}; ${decided ? 'asking the target whether it runs' : 'going on'}`)

/**
 * IMAGE.sending holds the id of the transfer from its beginning on; the decision is the renaming of IMAGE to
 * IMAGE.sent. So a `vm send` that was killed is continued by the same command.
 */
export async function sendRestingImage(
  image: string,
  destination: Destination,
  output: Output,
): Promise<number> {
  const marker = `${image}.sending`
  const sentImage = `${image}.sent`
  const decided = !fs.existsSync(image) && fs.existsSync(sentImage) && fs.existsSync(marker)
  const file = openMicroVmFile(decided ? sentImage : image)
  const id = transferId(marker)
  const bytes = await handOver(
    {
      id,
      totalSize: Number(file.record.memoryBytes),
      decided,
      resumable: true,
      transfer: (stream, frames) => sendImage(stream, file, frames, destination),
      decide: () => {
        fs.renameSync(image, sentImage)
        syncDirectory(path.dirname(image))
      },
    },
    { dial: dialer(destination, output), attempts: ATTEMPTS, onCut: onCut(output) },
  )
  file.source.close()
  fs.rmSync(marker)
  output.note(`Sent ${bytes} bytes`)
  return ExitCode.done
}

function transferId(marker: string): string {
  if (fs.existsSync(marker)) {
    const id = fs.readFileSync(marker, 'utf8').trim()
    if (!/^[0-9a-f-]{36}$/.test(id))
      throw new UnreadableError('this is no mark of a transfer', { file: marker })
    return id
  }
  const id = crypto.randomUUID()
  writeFileAtomically(marker, fd => writeFully(fd, Buffer.from(`${id}\n`), 0))
  return id
}

/** Runs a program until it is to be sent, sends it, and goes on with it here when that fails. */
export async function sendRunning(
  start: Start & { kind: 'program' },
  options: RunningOptions,
  output: Output,
): Promise<number> {
  const dial = dialer(options, output)
  const { engine, readOnly, trace } = options
  const vm = await MicroVm.start({ engine, readOnly, trace, start })
  const wishes = new Wishes(vm, options.timeoutMs)
  if (options.afterMs !== undefined && !options.live) wishes.after(options.afterMs, 'save')
  try {
    let live = options.live
    for (;;) {
      const running = vm.run()
      const departure = live ? liveDeparture(vm, running, options, dial, output) : undefined
      live = false
      const { ended, report } = await running
      const code = exitCodeOf(ended, report, output)
      if (code !== undefined) {
        await departure?.catch(() => {})
        return code
      }
      if (departure !== undefined && !wishes.interrupted && (await departure)) return ExitCode.done
      let wish: Wish | undefined = ended.kind === 'save-requested' ? { kind: 'save' } : wishes.next()
      for (; wish !== undefined; wish = wishes.next()) {
        refuseToGoOn(wish)
        if (wish.kind === 'checkpoint') {
          if (await grantCheckpoint(vm, wish, options, output)) return ExitCode.done
        } else if (await sendSaved(vm, options, output)) return ExitCode.done
      }
    }
  } finally {
    wishes.close()
    await vm.release()
  }
}

/** Saves and sends a guest that stands still. False: the target failed, and the guest is still ours. */
async function sendSaved(vm: MicroVm, options: RunningOptions, output: Output): Promise<boolean> {
  await vm.save(options.image, options.withFiles)
  await printBlock(options.image, output)
  try {
    await sendRestingImage(options.image, options, output)
    return true
  } catch (error) {
    if (!(error instanceof ImagoError) || error instanceof InDoubt) throw error
    for (const name of [options.image, `${options.image}.sending`]) fs.rmSync(name, { force: true })
    output.warn(`${error.describe()}\nthe guest goes on here`)
    return false
  }
}

/** Pre-copy of a running guest. True: it is gone. False: it stands still, and is still ours. */
async function liveDeparture(
  vm: MicroVm,
  running: Promise<unknown>,
  options: RunningOptions,
  dial: () => Promise<FrameStream>,
  output: Output,
): Promise<boolean> {
  if (options.afterMs !== undefined && options.afterMs > 0)
    await Promise.race([running, new Promise(resolve => setTimeout(resolve, options.afterMs))])
  let frozenAt = 0
  const departure: Departure = {
    id: crypto.randomUUID(),
    totalSize: vm.memory.totalSize,
    decided: false,
    resumable: false,
    async transfer(stream) {
      const report = await sendLive(
        stream,
        {
          viewMemory: () => vm.viewMemory(),
          follow: on => vm.follow(on),
          changedPages: () => vm.changedPages(),
          freeze: async () => {
            await vm.stop()
            await running
          },
          describe: withFiles => vm.describe(withFiles),
        },
        options.withFiles,
        options,
        (round, number) =>
          output.note(
            `round ${number}: ${round.pages} pages (${bytesText(round.pages * 4096)}) in ${durationText(round.milliseconds)}, ${bytesText((round.pages * 4096 * 1000) / Math.max(1, round.milliseconds))}/s`,
          ),
      )
      frozenAt = report.frozenAt
    },
    // The guest lives in this process only: what stands on disk is that it was given away, and to whom.
    decide: () =>
      writeFileAtomically(`${options.image}.given-away`, fd =>
        writeFully(fd, Buffer.from(`${departure.id} ${options.host}:${options.port}\n`), 0),
      ),
  }
  try {
    const bytes = await handOver(departure, { dial, attempts: ATTEMPTS, onCut: onCut(output) })
    output.note(`downtime ${durationText(performance.now() - frozenAt)}`)
    output.note(`Sent ${bytes} bytes`)
    return true
  } catch (error) {
    if (!(error instanceof ImagoError)) throw error
    if (error instanceof InDoubt) {
      await vm.save(`${options.image}.in-doubt`, options.withFiles)
      throw error
    }
    output.warn(`${error.describe()}\nthe guest goes on here`)
    await vm.stop()
    return false
  } finally {
    fs.rmSync(`${options.image}.given-away`, { force: true })
  }
}
