import fs from 'node:fs'

/** Milliseconds between two looks. */
const FOLLOW_MS = 5

/** What a guest prints, read from the file that QEMU writes it to. */
export class SerialFile {
  readonly path: string
  readonly #receive: (bytes: Uint8Array) => void
  #timer: NodeJS.Timeout | undefined
  #fd: number | undefined
  #position = 0

  constructor(path: string, receive: (bytes: Uint8Array) => void) {
    this.path = path
    this.#receive = receive
  }

  /** From when QEMU has made the file. */
  follow(): void {
    this.#fd = fs.openSync(this.path, 'r')
    this.#timer = setInterval(() => this.#readOn(), FOLLOW_MS).unref()
  }

  /** Hands on one piece; false at the end of the file. A guest may print faster than the receiver takes it. */
  #readOn(): boolean {
    if (this.#fd === undefined) return false // closed by the one who receives
    const bytes = Buffer.alloc(64 * 1024)
    const count = fs.readSync(this.#fd, bytes, { position: this.#position })
    this.#position += count
    if (count > 0) this.#receive(bytes.subarray(0, count))
    return count > 0
  }

  /** Reads to the end, and no further. May be called twice. */
  close(): void {
    if (this.#fd === undefined) return
    clearInterval(this.#timer)
    while (this.#readOn());
    fs.closeSync(this.#fd)
    this.#fd = undefined
  }
}
