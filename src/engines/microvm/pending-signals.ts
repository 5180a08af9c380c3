/**
 * Signals that were raised and are not delivered yet, each with what siginfo_t tells of it (sigaction(2)). Linux keeps those
 * to the thread (tkill) and those to the process apart: the thread's come first. In each the lowest number comes first, equal
 * ones in order; of a number up to 31 there is one at most, but for timers; real-time signals queue.
 */

export interface RaisedSignal {
  readonly signal: number
  /** si_code: one of `CODE`. */
  readonly code: number
  /** si_pid; of a timer its id. */
  readonly sender: number
  /** si_uid; of a timer how often it ran out beyond the first time. */
  readonly detail: number
  /** si_value. */
  readonly value: bigint
}

/** si_code, by who raised the signal: kill and a broken pipe, the kernel's own timers, sigqueue, timer_create, tkill. */
export const CODE = { user: 0, kernel: 0x80, queue: -1, timer: -2, thread: -6 } as const

const FIRST_REAL_TIME = 32
/** As RLIMIT_SIGPENDING bounds them. */
const MOST_PENDING = 1024

export const bitOf = (signal: number): bigint => 1n << BigInt(signal - 1)

export class PendingSignals {
  /** Called when the set has changed. */
  onChange: (() => void) | undefined
  #raised: RaisedSignal[] = []
  #mask = 0n

  get list(): readonly RaisedSignal[] {
    return this.#raised
  }

  /** Bit n−1 is signal n. */
  get mask(): bigint {
    return this.#mask
  }

  /** False: too many wait already. */
  raise(raised: RaisedSignal): boolean {
    const { signal, code } = raised
    const single = signal < FIRST_REAL_TIME && code !== CODE.timer
    const same = (other: RaisedSignal) => other.signal === signal && isToThread(other) === isToThread(raised)
    if (single && this.#raised.some(same)) return true
    if (this.#raised.length >= MOST_PENDING) return false
    this.#become([...this.#raised, raised])
    return true
  }

  /** The next one of `set`. */
  next(set: bigint): number | undefined {
    if ((this.#mask & set) === 0n) return undefined
    const ready = this.#raised.filter(({ signal }) => (set & bitOf(signal)) !== 0n)
    const toThread = ready.filter(isToThread)
    return Math.min(...(toThread.length > 0 ? toThread : ready).map(({ signal }) => signal))
  }

  /** Takes the first of that number out; there must be one. */
  take(signal: number): RaisedSignal {
    const those = this.#raised.filter(raised => raised.signal === signal)
    const first = those.find(isToThread) ?? those[0]!
    this.#become(this.#raised.filter(raised => raised !== first))
    return first
  }

  /** Puts `next` in the place of what it answers for, or takes that out. */
  replace(which: (raised: RaisedSignal) => boolean, next?: (raised: RaisedSignal) => RaisedSignal): void {
    this.#become(
      next === undefined
        ? this.#raised.filter(raised => !which(raised))
        : this.#raised.map(raised => (which(raised) ? next(raised) : raised)),
    )
  }

  #become(raised: RaisedSignal[]): void {
    this.#raised = raised
    this.#mask = raised.reduce((mask, { signal }) => mask | bitOf(signal), 0n)
    this.onChange?.()
  }
}

const isToThread = ({ code }: RaisedSignal): boolean => code === CODE.thread
