/**
 * The guest's timers: those of alarm and setitimer, and those of timer_create. The monitor's thread is
 * blocked while the guest runs, so the main thread is told when one can run out at the earliest, and kicks the CPU then;
 * what is due is looked at here.
 */
import { CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME, clockNow, isCpuClock } from './clocks.js'
import { type Guest, INTERVAL_TIMERS, type Timer } from './guest.js'
import { CODE, type RaisedSignal } from './pending-signals.js'

/** Timers of timer_create have their keys after those of setitimer: key − this is their id. */
export const FIRST_CREATED = INTERVAL_TIMERS.length
export const MOST_TIMERS = 256
const MOST_OVERRUNS = 0x7fff_ffff

/** CPU time that the guest has used since it began, on whatever host. */
export const cpuTime = ({ process }: Guest): bigint => process.cpuTimeOffset + clockNow(CLOCK_THREAD_CPUTIME)

/** The time by which `Timer.at` is meant. */
const nowFor = (guest: Guest, { clock }: Timer): bigint =>
  isCpuClock(clock) ? cpuTime(guest) : clockNow(CLOCK_MONOTONIC)

/** The time on the timer's own clock. */
export const timeOn = (guest: Guest, { clock }: Timer): bigint =>
  isCpuClock(clock) ? cpuTime(guest) : clockNow(clock)

/** `left` (undefined: it does not run) and `interval` in nanoseconds. What it raised before is not told any more. */
export function setTimer(guest: Guest, key: number, left: bigint | undefined, interval: bigint): void {
  const timer = guest.process.timers.get(key)!
  timer.at = left === undefined ? undefined : nowFor(guest, timer) + left
  timer.interval = interval
  timer.overrun = 0
  forgetSignalOf(guest, key)
  tellAlarm(guest)
}

/** The signal that the timer raised, taken back. */
export function forgetSignalOf({ process }: Guest, key: number): void {
  if (key >= FIRST_CREATED) process.pending.replace(raisedBy(key))
}

/** What is left of the timer, nanoseconds: 0 when it does not run, at least 1 while it does. */
export function timerLeft(guest: Guest, key: number): { left: bigint; interval: bigint } {
  const timer = guest.process.timers.get(key)!
  if (timer.at === undefined) return { left: 0n, interval: timer.interval }
  const left = timer.at - nowFor(guest, timer)
  return { left: left > 0n ? left : 1n, interval: timer.interval }
}

/** Raises the signals of timers that have run out, and tells the main thread when to kick next. */
export function serviceTimers(guest: Guest): void {
  for (const [key, timer] of guest.process.timers) {
    const { at, interval } = timer
    if (at === undefined) continue
    const now = nowFor(guest, timer)
    if (at > now) continue
    const times = interval === 0n ? 1n : (now - at) / interval + 1n
    timer.at = interval === 0n ? undefined : at + times * interval
    if (timer.signal !== undefined) raise(guest, key, timer.signal, timer.value, Number(times))
  }
  tellAlarm(guest)
}

function raise({ process }: Guest, key: number, signal: number, value: bigint, times: number): void {
  const created = key >= FIRST_CREATED
  if (!created) process.pending.raise({ signal, code: CODE.kernel, sender: 0, detail: 0, value: 0n })
  else if (process.pending.list.some(raisedBy(key)))
    process.pending.replace(raisedBy(key), raised => ({ ...raised, detail: capped(raised.detail + times) }))
  else {
    const detail = capped(times - 1)
    process.pending.raise({ signal, code: CODE.timer, sender: key - FIRST_CREATED, detail, value })
  }
}

const raisedBy =
  (key: number) =>
  ({ code, sender }: RaisedSignal): boolean =>
    code === CODE.timer && sender === key - FIRST_CREATED
const capped = (times: number) => Math.min(times, MOST_OVERRUNS)

/** The program has been told of a signal: when it was a timer's, that timer knows how often it had run out. */
export function noteTaken({ process }: Guest, { code, sender, detail }: RaisedSignal): void {
  const timer = code === CODE.timer ? process.timers.get(sender + FIRST_CREATED) : undefined
  if (timer !== undefined) timer.overrun = detail
}

/** One thread cannot use more CPU time than passes: a timer of it runs out then at the earliest. */
export function tellAlarm(guest: Guest): void {
  let first: bigint | undefined
  for (const timer of guest.process.timers.values()) {
    if (timer.at === undefined || timer.signal === undefined) continue
    const moment = isCpuClock(timer.clock)
      ? clockNow(CLOCK_MONOTONIC) + (timer.at - cpuTime(guest))
      : timer.at
    if (first === undefined || moment < first) first = moment
  }
  guest.host.setAlarm(first)
}
