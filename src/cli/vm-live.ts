/**
 * `vm send --live` at a terminal: the steps of a live departure, taken while the guest runs, and what is said of them.
 * Whatever fails before the decision leaves the guest here, running.
 */
import fs from 'node:fs'
import type { MicroVm } from '../engines/microvm/micro-vm.js'
import { headerDigest } from '../formats/microvm/image-file.js'
import { ImagoError } from '../lib/errors.js'
import { InDoubt } from '../migrate/hand-over.js'
import { keepSafe, sendAway } from '../migrate/live-departure.js'
import { Offer } from '../migrate/offer.js'
import type { LiveGuest, Round } from '../migrate/send-machine.js'
import { bytesText, durationText, type Output } from './output.js'
import { ATTEMPTS, dialer, onCut, type RunningOptions } from './vm-departure.js'

type Running = ReturnType<MicroVm['run']>

export class LiveSend {
  readonly #vm: MicroVm
  readonly #options: RunningOptions
  readonly #output: Output
  readonly #cancelled = new AbortController()
  #next: 'keep safe' | 'leave' | 'nothing' = 'keep safe'

  constructor(vm: MicroVm, options: RunningOptions, output: Output) {
    this.#vm = vm
    this.#options = options
    this.#output = output
  }

  /** The guest has ended (its image goes, too) or the user ends it (its image stays): what is not decided is let be. */
  async cancel(step: Promise<boolean> | undefined, hasEnded: boolean): Promise<void> {
    const { image } = this.#options
    this.#cancelled.abort()
    await step
    if (this.#next === 'keep safe' || !fs.existsSync(image)) return
    if (hasEnded) fs.rmSync(image, { force: true })
    else this.#output.note(`imago: the guest as it stood when the send began is in ${image}`)
  }

  /**
   * The next step, while the guest runs. True: the guest is gone. False: it stands still, and is still ours.
   * Undefined: there is nothing more to do; it stays here.
   */
  step(running: Running): Promise<boolean> | undefined {
    switch (this.#next) {
      case 'keep safe':
        this.#next = 'leave'
        return this.#keepSafe(running)
      case 'leave':
        this.#next = 'nothing'
        return this.#leave(running)
      default:
        return undefined
    }
  }

  async #keepSafe(running: Running): Promise<boolean> {
    const { afterMs, image, withFiles } = this.#options
    if (afterMs !== undefined && afterMs > 0)
      await Promise.race([running, new Promise(resolve => setTimeout(resolve, afterMs))])
    try {
      const { frozenAt } = await keepSafe(this.#guest(running), this.#vm.memory.totalSize, image, withFiles)
      this.#output.note(
        `kept safe in ${image}, standing still for ${durationText(performance.now() - frozenAt)}`,
      )
    } catch (error) {
      this.#stays(error as Error)
    }
    return false
  }

  async #leave(running: Running): Promise<boolean> {
    const { image, withFiles } = this.#options
    const { signal } = this.#cancelled
    let offer: Offer | undefined
    try {
      offer = Offer.open(image, headerDigest, true)
      const { bytes, frozenAt } = await sendAway(this.#guest(running), this.#vm.memory.totalSize, offer, {
        ...{ withFiles, compress: this.#options.compress, attempts: ATTEMPTS, signal },
        dial: dialer(this.#options, this.#output, signal),
        onCut: onCut(this.#output),
        onRound: (round, number) => this.#output.note(roundText(round, number)),
      })
      offer.gone()
      fs.rmSync(offer.path, { force: true }) // an earlier state of what now runs elsewhere
      this.#output.note(`downtime ${durationText(performance.now() - frozenAt)}`)
      this.#output.note(`Sent ${bytes} bytes`)
      return true
    } catch (error) {
      if (error instanceof InDoubt && offer !== undefined) {
        await this.#vm.save(offer.path, withFiles) // exactly what the target was given
        offer.close()
        throw error
      }
      offer?.takeBack()
      this.#stays(error as Error)
      await this.#vm.stop()
      return false
    }
  }

  #stays(error: Error): void {
    this.#next = 'nothing'
    if (this.#cancelled.signal.aborted || error instanceof GuestEnded) return
    fs.rmSync(this.#options.image, { force: true })
    this.#output.warn(
      `${error instanceof ImagoError ? error.describe() : error.message}\nthe guest goes on here`,
    )
  }

  #guest(running: Running): LiveGuest {
    const vm = this.#vm
    return {
      viewMemory: () => vm.viewMemory(),
      follow: on => vm.follow(on),
      changedPages: () => vm.changedPages(),
      freeze: async () => {
        await vm.stop()
        const { ended } = await running
        if (ended.kind === 'exit' || ended.kind === 'fault') throw new GuestEnded('the guest has ended')
      },
      describe: withFiles => vm.describe(withFiles),
    }
  }
}

class GuestEnded extends ImagoError {}

function roundText({ pages, milliseconds, dirtied }: Round, number: number): string {
  const rate = (count: number) => `${bytesText((count * 4096 * 1000) / Math.max(1, milliseconds))}/s`
  return `round ${number}: ${pages} pages (${bytesText(pages * 4096)}) in ${durationText(milliseconds)}, ${rate(pages)}; ${dirtied} pages dirtied meanwhile, ${rate(dirtied)}`
}
