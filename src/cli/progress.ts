/** A line on a terminal's stderr for work that takes over half a second; silent elsewhere. */
import { performance } from 'node:perf_hooks'

const SHOW_AFTER_MS = 500
const REDRAW_EVERY_MS = 100

export class Progress {
  readonly #label: string
  readonly #started = performance.now()
  #drawn = 0

  constructor(label: string) {
    this.#label = label
  }

  /** `fraction` from 0 to 1; `detail` stands after the percentage. */
  update(fraction: number, detail = ''): void {
    const now = performance.now()
    if (!process.stderr.isTTY || now - this.#started < SHOW_AFTER_MS || now - this.#drawn < REDRAW_EVERY_MS)
      return
    this.#drawn = now
    process.stderr.write(`\r\u001b[K${this.#label} ${Math.floor(fraction * 100)}% ${detail}`)
  }

  done(): void {
    if (this.#drawn > 0) process.stderr.write('\r\u001b[K')
  }
}
