/**
 * A process that is our child without Node knowing: criu restores the root of the tree as its own sibling.
 * Source: waitpid(2), wait(2) for the status.
 */
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { liveProcess } from '../live-process.js'

export interface ChildEnd {
  readonly code: number
  /** Number of the signal that ended it. */
  readonly signal?: number
}

const WNOHANG = 1
let waitpid: ((pid: number, status: [number], options: number) => number) | undefined

/** A restored process that is this process's child, which Node does not know of. */
export class RestoredChild {
  readonly pid: number
  #end: ChildEnd | undefined

  constructor(pid: number) {
    this.pid = pid
  }

  /** How it ended, or undefined while it lives (or is no child of ours). */
  tryWait(): ChildEnd | undefined {
    if (this.#end !== undefined) return this.#end
    waitpid ??= (createRequire(import.meta.url)('koffi') as typeof import('koffi'))
      .load(null)
      .func('int waitpid(int pid, _Out_ int *status, int options)') as unknown as NonNullable<typeof waitpid>
    const status: [number] = [0]
    if (waitpid(this.pid, status, WNOHANG) !== this.pid) return undefined
    const signal = status[0] & 0x7f
    this.#end = signal === 0 ? { code: (status[0] >> 8) & 0xff } : { code: 128 + signal, signal }
    return this.#end
  }

  /** Waits for its end; signals that reach imago are passed on. Returns its exit code, or 128 + the signal. */
  async wait(): Promise<number> {
    const passOn = (name: NodeJS.Signals) => {
      try {
        process.kill(this.pid, name)
      } catch {
        // It is gone already.
      }
    }
    const names = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
    for (const name of names) process.on(name, passOn)
    try {
      for (;;) {
        const end = this.tryWait()
        if (end !== undefined) return end.code
        if (liveProcess(this.pid) === undefined) return 0 // somebody else's child: nobody tells us
        await sleep(20)
      }
    } finally {
      for (const name of names) process.off(name, passOn)
    }
  }
}
