/** How long an answer may be awaited. (The timeout of a socket will not do: once it has come while nobody waited, it comes no more.) */
export class Patience {
  readonly #milliseconds: number
  readonly #giveUp: () => void
  #timer: NodeJS.Timeout | undefined

  /** @param giveUp called when nothing has come for `milliseconds` since `begin`. */
  constructor(milliseconds: number, giveUp: () => void) {
    this.#milliseconds = milliseconds
    this.#giveUp = giveUp
  }

  /** An answer is awaited from now on. */
  begin(): void {
    this.end()
    this.#timer = setTimeout(this.#giveUp, this.#milliseconds)
  }

  /** None is awaited any more. */
  end(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
