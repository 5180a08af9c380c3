/**
 * What a running guest is stopped for: signals, the time limit, and `imago checkpoint` from another process. They are
 * kept in the order in which they came, so that none is lost while another is granted.
 */
import { listenForRequests, type Saved, type SaveRequest } from '../../engines/microvm/control.js'
import type { MicroVm } from '../../engines/microvm/micro-vm.js'
import { HostError } from '../../lib/errors.js'

export type Wish =
  /** SIGUSR2: save where saves go; with `vm send`: send it now. */
  | { readonly kind: 'save' }
  /** Somebody waits for the image. */
  | { readonly kind: 'checkpoint'; readonly request: SaveRequest; answer(result: Saved | Error): void }
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'timeout' }

export class Wishes {
  readonly #vm: MicroVm
  readonly #waiting: Wish[] = []
  readonly #timers: NodeJS.Timeout[] = []
  readonly #handlers: Array<readonly [NodeJS.Signals, () => void]>
  readonly #requests: { close(): void } | undefined
  readonly #endWanted = new AbortController()

  constructor(vm: MicroVm, timeoutMs: number | undefined) {
    this.#vm = vm
    this.#handlers = (
      [
        ['SIGUSR2', 'save'],
        ['SIGINT', 'interrupt'],
        ['SIGTERM', 'interrupt'],
      ] as const
    ).map(([signal, kind]) => [signal, () => this.#add({ kind })])
    for (const [signal, handler] of this.#handlers) process.on(signal, handler)
    if (timeoutMs !== undefined) this.after(timeoutMs, 'timeout')
    this.#requests = listenForRequests(
      request =>
        new Promise((resolve, reject) => {
          const answer = (result: Saved | Error) =>
            result instanceof Error ? reject(result) : resolve(result)
          this.#add({ kind: 'checkpoint', request, answer })
        }),
    )
  }

  #add(wish: Wish): void {
    this.#waiting.push(wish)
    if (wish.kind === 'interrupt' || wish.kind === 'timeout') this.#endWanted.abort()
    void this.#vm.stop()
  }

  after(milliseconds: number, kind: 'save' | 'timeout'): void {
    this.#timers.push(setTimeout(() => this.#add({ kind }), milliseconds))
  }

  /** The oldest one, taken out. */
  next(): Wish | undefined {
    return this.#waiting.shift()
  }

  /** Aborted when the guest is to end (Ctrl-C, the time limit): that goes before everything else, and ends each wait. */
  get endWanted(): AbortSignal {
    return this.#endWanted.signal
  }

  /** The guest is no longer here: whoever waits for an image of it is told. */
  close(): void {
    this.#requests?.close()
    for (const timer of this.#timers) clearTimeout(timer)
    for (const [signal, handler] of this.#handlers) process.off(signal, handler)
    for (const wish of this.#waiting)
      if (wish.kind === 'checkpoint') wish.answer(new HostError('the guest ended before it could be saved'))
  }
}

/** What a server waits for; undefined when SIGINT or SIGTERM came before it, or together with it. */
export async function unlessInterrupted<T>(wait: Promise<T>): Promise<T | undefined> {
  let interrupted = false
  let interrupt = () => {}
  const end = new Promise<void>(resolve => {
    interrupt = () => {
      interrupted = true
      resolve()
    }
  })
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const signal of signals) process.on(signal, interrupt)
  try {
    const result = await Promise.race([wait, end])
    return interrupted ? undefined : (result as T)
  } finally {
    for (const signal of signals) process.off(signal, interrupt)
  }
}
