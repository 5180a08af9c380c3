/**
 * `vm send --live` at a terminal: the steps of a live departure, taken while the guest runs, and what is said of them.
 * Whatever fails before the decision leaves the guest here, running.
 */
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MicroVm } from '../../engines/microvm/micro-vm.js'
import { headerDigest } from '../../formats/microvm/image-file.js'
import { ImagoError } from '../../lib/errors.js'
import { InDoubt } from '../../migrate/hand-over.js'
import { keepSafe, sendAway } from '../../migrate/live-departure.js'
import { Offer } from '../../migrate/offer.js'
import type { LiveGuest, Round } from '../../migrate/send-machine.js'
import { bytesText, durationText, noteTransfer, type Output } from '../output.js'
import { ATTEMPTS, type Destination, dialer, onCut } from './destination.js'
import { takeLocksAgain } from './locks.js'
import type { SessionOptions } from './session.js'

type Running = ReturnType<MicroVm['run']>

export interface LiveOptions extends Destination, SessionOptions {
  /** Undefined: when the guest or a signal asks for it. */
  readonly afterMs: number | undefined
}

export class LiveSend {
  readonly #vm: MicroVm
  readonly #options: LiveOptions
  readonly #output: Output
  readonly #cancelled = new AbortController()
  #step: Promise<boolean> | undefined
  /** IMAGE is an earlier state of the guest. */
  #isSafe = false
  #next: 'keep safe' | 'leave' | 'nothing' = 'keep safe'

  /** @param endWanted aborted when the guest is to end: nothing is waited for any more */
  constructor(vm: MicroVm, options: LiveOptions, output: Output, endWanted: AbortSignal) {
    this.#vm = vm
    this.#options = options
    this.#output = output
    endWanted.addEventListener('abort', () => this.#cancelled.abort())
  }

  /** The guest has ended (its image goes, too) or the user ends it (its image stays): what is not decided is let be. */
  async cancel(hasEnded: boolean): Promise<void> {
    const { image } = this.#options
    this.#cancelled.abort()
    await this.#step
    if (!this.#isSafe) return
    if (hasEnded) fs.rmSync(image, { force: true })
    else this.#output.note(`imago: the guest as it stood when the send began is in ${image}`)
  }

  /** After an error: what still uses the guest is waited for, and has no more to say. */
  async abandon(): Promise<void> {
    this.#cancelled.abort()
    await this.#step?.catch(() => {})
  }

  /** Begins the next step, while the guest runs. */
  step(running: Running): void {
    const next = this.#next
    this.#next = next === 'keep safe' ? 'leave' : 'nothing'
    this.#step =
      next === 'keep safe' ? this.#keepSafe(running) : next === 'leave' ? this.#leave(running) : undefined
    this.#step?.catch(() => {}) // thrown to who waits for it
  }

  /** Waits for the end of the step. True: the guest is gone. False: it stands still, and is still ours. */
  async stepTaken(): Promise<boolean> {
    return (await this.#step) ?? false
  }

  async #keepSafe(running: Running): Promise<boolean> {
    const { afterMs, image, withFiles } = this.#options
    try {
      if (afterMs !== undefined && afterMs > 0) await this.#sleep(afterMs, running)
      const { frozenAt } = await keepSafe(this.#guest(running), this.#vm.memory.totalSize, image, withFiles)
      this.#isSafe = true
      this.#output.note(
        `kept safe in ${image}, standing still for ${durationText(performance.now() - frozenAt)}`,
      )
    } catch (error) {
      this.#stays(error as Error)
    }
    return false
  }

  /** Until the time is over, or the guest stands still. @throws GuestEnded when it is to end */
  async #sleep(milliseconds: number, running: Running): Promise<void> {
    const over = new AbortController()
    const wake = () => over.abort()
    const { signal } = this.#cancelled
    signal.addEventListener('abort', wake)
    void running.then(wake, wake)
    await sleep(milliseconds, undefined, { signal: over.signal }).catch(() => {})
    signal.removeEventListener('abort', wake)
    if (signal.aborted) throw new GuestEnded('the guest is to end')
  }

  async #leave(running: Running): Promise<boolean> {
    const { image, withFiles } = this.#options
    const { signal } = this.#cancelled
    let offer: Offer | undefined
    try {
      offer = Offer.open(image, headerDigest, true)
      const { frozenAt, ...transferred } = await sendAway(
        this.#guest(running, true),
        this.#vm.memory.totalSize,
        offer,
        {
          ...{ withFiles, compress: this.#options.compress, attempts: ATTEMPTS, signal },
          dial: dialer(this.#options, this.#output, signal),
          onCut: onCut(this.#output),
          onRound: (round, number) => this.#output.note(roundText(round, number)),
        },
      )
      offer.gone()
      fs.rmSync(offer.path, { force: true }) // an earlier state of what now runs elsewhere
      this.#output.note(`downtime ${durationText(performance.now() - frozenAt)}`)
      noteTransfer('Sent', transferred, this.#output)
      return true
    } catch (error) {
      if (error instanceof InDoubt && offer !== undefined) {
        await this.#vm.save(offer.path, withFiles) // exactly what the target was given
        offer.close()
        throw error
      }
      offer?.takeBack()
      await this.#vm.stop()
      await running
      await this.#takeLocks()
      this.#stays(error as Error)
      return false
    }
  }

  /** @throws LossError when it cannot go on without them: it is in its image then, as it stands */
  async #takeLocks(): Promise<void> {
    const { image, withFiles } = this.#options
    try {
      await takeLocksAgain(this.#vm, image)
    } catch (error) {
      await this.#vm.save(image, withFiles)
      throw error
    }
  }

  #stays(error: Error): void {
    this.#next = 'nothing'
    if (this.#cancelled.signal.aborted || error instanceof GuestEnded) return
    if (this.#isSafe) fs.rmSync(this.#options.image, { force: true })
    this.#isSafe = false
    this.#output.warn(
      `${error instanceof ImagoError ? error.describe() : error.message}\nthe guest goes on here`,
    )
  }

  /** @param leaving its locks are let go when it is frozen, for the target to take */
  #guest(running: Running, leaving = false): LiveGuest {
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
      describe: async withFiles => {
        const description = await vm.describe(withFiles)
        if (leaving) await vm.letLocksGo()
        return description
      },
    }
  }
}

class GuestEnded extends ImagoError {}

function roundText({ pages, milliseconds, dirtied }: Round, number: number): string {
  const rate = (count: number) => `${bytesText((count * 4096 * 1000) / Math.max(1, milliseconds))}/s`
  return `round ${number}: ${pages} pages (${bytesText(pages * 4096)}) in ${durationText(milliseconds)}, ${rate(pages)}; ${dirtied} pages dirtied meanwhile, ${rate(dirtied)}`
}
