/**
 * The guest's timers: of real time (alarm, setitimer) and of the CPU time that it has used. The monitor's thread is
 * blocked while the guest runs, so the main thread is told when one can run out at the earliest, and kicks the CPU then;
 * what is due is looked at here. CPU time is that of the thread which runs the guest, the monitor's work for it included.
 */
import type { Guest } from './guest.js'
import { hostCall } from './libc.js'

const CLOCK_GETTIME = 228
export const CLOCK_MONOTONIC = 1
const CLOCK_THREAD_CPUTIME = 3

/** The timers of setitimer(2) by number, and the signal of each: SIGALRM, SIGVTALRM, SIGPROF. */
export const TIMER_SIGNALS = [14, 26, 27] as const
/** A number of `TIMER_SIGNALS`. VIRTUAL and PROF both count all of the CPU time. */
export type TimerNumber = 0 | 1 | 2
const REAL: TimerNumber = 0

export interface Timer {
  /** When it runs out, nanoseconds: the host's CLOCK_MONOTONIC, or the guest's CPU time. */
  readonly at: bigint
  /** 0: once. */
  readonly interval: bigint
}

/** A clock of the host in nanoseconds. */
export function clockNow(clock: number): bigint {
  const time = Buffer.alloc(16)
  hostCall(CLOCK_GETTIME, clock, time)
  return time.readBigUInt64LE(0) * 1_000_000_000n + time.readBigUInt64LE(8)
}

/** What a guest that is made now, by this thread, adds to the thread's CPU time to get its own. */
export const cpuTimeOffset = (used: bigint): bigint => used - clockNow(CLOCK_THREAD_CPUTIME)

/** CPU time that the guest has used since it began, on whatever host. */
export const cpuTime = ({ process }: Guest): bigint => process.cpuTimeOffset + clockNow(CLOCK_THREAD_CPUTIME)

const nowFor = (guest: Guest, which: TimerNumber): bigint =>
  which === REAL ? clockNow(CLOCK_MONOTONIC) : cpuTime(guest)

/** `left` and `interval` in nanoseconds; nothing left: no timer. */
export function setTimer(guest: Guest, which: TimerNumber, left: bigint, interval: bigint): void {
  const { timers } = guest.process
  if (left > 0n) timers.set(which, { at: nowFor(guest, which) + left, interval })
  else timers.delete(which)
  tellAlarm(guest)
}

/** What is left of the timer, nanoseconds: at least 1 while it runs. */
export function timerLeft(guest: Guest, which: TimerNumber): { left: bigint; interval: bigint } {
  const timer = guest.process.timers.get(which)
  if (timer === undefined) return { left: 0n, interval: 0n }
  const left = timer.at - nowFor(guest, which)
  return { left: left > 0n ? left : 1n, interval: timer.interval }
}

/** Raises the signals of timers that have run out, and tells the main thread when to kick next. */
export function serviceTimers(guest: Guest): void {
  const { process } = guest
  for (const [which, { at, interval }] of process.timers) {
    const now = nowFor(guest, which)
    if (at > now) continue
    process.pendingSignals |= 1n << BigInt(TIMER_SIGNALS[which] - 1)
    if (interval === 0n) process.timers.delete(which)
    else process.timers.set(which, { at: at + ((now - at) / interval + 1n) * interval, interval })
  }
  tellAlarm(guest)
}

/** One thread cannot use more CPU time than passes: a timer of it runs out then at the earliest. */
function tellAlarm(guest: Guest): void {
  let first: bigint | undefined
  for (const [which, { at }] of guest.process.timers) {
    const moment = which === REAL ? at : clockNow(CLOCK_MONOTONIC) + (at - cpuTime(guest))
    if (first === undefined || moment < first) first = moment
  }
  guest.host.setAlarm(first)
}
