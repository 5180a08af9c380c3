/**
 * A brake for a machine that runs: QEMU logs what it executes into a FIFO, and when nobody reads, it waits.
 *
 *   virtual CPU ── a line for each block, or twenty for each instruction ──► FIFO (64 KiB) ──► counted here
 *
 * So a machine goes as far as lines are taken, however busy the host is; past that it comes by what the FIFO holds.
 * Logging changes nothing of what is executed. Source: QEMU docs/devel/tcg.rst, option -d.
 */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Emulator } from './emulator.js'
import { monitor, sleeps } from './monitor.js'

/** A machine that logs nothing for so long sleeps, or is being starved: its count is then looked at. */
const SILENCE_MS = 1000
/** Between two pieces of the log, while the machine is being stopped. */
const DRAIN_MS = 5
/** The same near the goal: by then QEMU has taken the word. */
const LONG_DRAIN_MS = 60
const LINE_END = 0x0a
/** A page of the FIFO. */
const FILLING = Buffer.alloc(4096, LINE_END)

export class LogBrake {
  readonly #emulator: Emulator
  readonly #log: net.Socket
  readonly #fd: number
  #lines = 0
  /** Lines after which no more are taken. */
  #goal = Number.POSITIVE_INFINITY
  #reached: (() => void) | undefined

  private constructor(emulator: Emulator, fd: number) {
    this.#emulator = emulator
    const log = new net.Socket({ fd, readable: true, writable: false })
    this.#log = log
    this.#fd = fd
    log.on('data', bytes => {
      for (let at = bytes.indexOf(LINE_END); at >= 0; at = bytes.indexOf(LINE_END, at + 1)) this.#lines++
      if (this.#lines < this.#goal) return
      log.pause()
      this.#reached?.()
    })
  }

  /** The machine must stand still. */
  static async on(emulator: Emulator): Promise<LogBrake> {
    const fifo = path.join(emulator.folder, 'log')
    execFileSync('mkfifo', [fifo], { timeout: 60_000 })
    // Open for writing, too: else it would end, or keep QEMU waiting, whenever the other end is not open.
    const fd = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK)
    await monitor(emulator, [`logfile ${fifo}`])
    return new LogBrake(emulator, fd)
  }

  /** Lets the machine run until about `lines` have been logged, or none for a second. Returns how many were. */
  async run(lines: number): Promise<number> {
    const { qmp } = this.#emulator
    this.#lines = 0
    this.#goal = lines
    const reached = new Promise<void>(resolve => {
      this.#reached = resolve
    })
    this.#log.resume()
    await qmp.execute('cont')
    for (let seen = -1; seen !== this.#lines; ) {
      seen = this.#lines
      if (await Promise.race([reached.then(() => true), sleep(SILENCE_MS, false)])) break
    }
    await this.#stop(DRAIN_MS)
    return this.#lines
  }

  /**
   * Lets a machine that sleeps in HLT run until something wakes it, or for a second: the FIFO is full, so that it waits
   * with what it logs first.
   */
  async wake(): Promise<void> {
    this.#goal = 0
    this.#log.pause()
    // What is paused reads on until its own buffer is full.
    while (this.#fill()) await sleep(1)
    await this.#emulator.qmp.execute('cont')
    for (const end = performance.now() + SILENCE_MS; performance.now() < end; await sleep(1))
      if (!(await sleeps(this.#emulator))) break
    await this.#stop(LONG_DRAIN_MS)
  }

  /** Writes into the FIFO until it takes no more; false when it was full. */
  #fill(): boolean {
    for (let took = false; ; took = true)
      try {
        fs.writeSync(this.#fd, FILLING)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
        return took
      }
  }

  async #stop(drainMs: number): Promise<void> {
    const stopped = this.#emulator.qmp.execute('stop').then(() => true)
    // It stops at the end of a block, which it may have to log before.
    while (!(await Promise.race([stopped, sleep(drainMs, false)]))) this.#log.resume()
    // From now on whatever comes is taken; what is left is not of the next run.
    this.#goal = Number.POSITIVE_INFINITY
    this.#log.resume()
    for (let seen = -1; seen !== this.#lines; await sleep(1)) seen = this.#lines
  }

  /** QEMU must not log any more, or have ended. */
  close(): void {
    this.#log.destroy()
  }
}
