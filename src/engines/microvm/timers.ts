/**
 * The guest's real-time timer (alarm, setitimer). The monitor's thread is blocked while the guest runs, so the main thread
 * is told when it runs out, and kicks the CPU then; what is due is looked at here.
 */
import type { Guest } from './guest.js'
import { hostCall } from './libc.js'

const SIGALRM = 14
const CLOCK_GETTIME = 228
export const CLOCK_MONOTONIC = 1

/** A clock of the host in nanoseconds. */
export function clockNow(clock: number): bigint {
  const time = Buffer.alloc(16)
  hostCall(CLOCK_GETTIME, clock, time)
  return time.readBigUInt64LE(0) * 1_000_000_000n + time.readBigUInt64LE(8)
}

/** `left` and `interval` in nanoseconds; nothing left: no timer. */
export function setRealTimer(guest: Guest, left: bigint, interval: bigint): void {
  guest.process.realTimer = left > 0n ? { at: clockNow(CLOCK_MONOTONIC) + left, interval } : undefined
  guest.host.setAlarm(guest.process.realTimer?.at)
}

/** What is left of the timer, nanoseconds: at least 1 while it runs. */
export function realTimerLeft(guest: Guest): { left: bigint; interval: bigint } {
  const timer = guest.process.realTimer
  if (timer === undefined) return { left: 0n, interval: 0n }
  const left = timer.at - clockNow(CLOCK_MONOTONIC)
  return { left: left > 0n ? left : 1n, interval: timer.interval }
}

/** Raises SIGALRM when the timer has run out, and tells the main thread when to kick next. */
export function serviceTimers(guest: Guest): void {
  const { process, host } = guest
  const timer = process.realTimer
  if (timer !== undefined) {
    const now = clockNow(CLOCK_MONOTONIC)
    if (timer.at <= now) {
      process.pendingSignals |= 1n << BigInt(SIGALRM - 1)
      const { interval } = timer
      process.realTimer =
        interval === 0n
          ? undefined
          : { at: timer.at + ((now - timer.at) / interval + 1n) * interval, interval }
    }
  }
  host.setAlarm(process.realTimer?.at)
}
