/** The clocks of a guest: those of its host, and CPU time, which is that of the thread that runs it, the monitor's work for it included. */
import { hostCall } from './libc.js'

const CLOCK_GETTIME = 228
export const CLOCK_REALTIME = 0
export const CLOCK_MONOTONIC = 1
export const CLOCK_PROCESS_CPUTIME = 2
export const CLOCK_THREAD_CPUTIME = 3
const CLOCK_BOOTTIME = 7
/** Nanoseconds of a millisecond, and of a second. */
export const MILLION = 1_000_000n
export const BILLION = 1_000_000_000n
/** struct itimerspec: interval, then what is left, as timespecs. */
export const ITIMERSPEC_SIZE = 32
/** Of timer_settime(2) and clock_nanosleep(2): the time is a moment, not a length. */
export const TIMER_ABSTIME = 1
/** A guest has one process, and it is the first. */
export const GUEST_PID = 1

/** A clock of the host in nanoseconds. */
export function clockNow(clock: number): bigint {
  const time = Buffer.alloc(16)
  hostCall(CLOCK_GETTIME, clock, time)
  return time.readBigUInt64LE(0) * BILLION + time.readBigUInt64LE(8)
}

/** What a guest that is made now, by this thread, adds to the thread's CPU time to get its own. */
export const cpuTimeOffset = (used: bigint): bigint => used - clockNow(CLOCK_THREAD_CPUTIME)

/**
 * The clocks of CPU time: 2 and 3, and those that clock_getcpuclockid(3) makes of a process or thread, −8·id−(6 or 2). There
 * is one process, of one thread, and it is the guest's, not the monitor's.
 */
export function isCpuClock(clock: number): boolean {
  return clock === 2 || clock === 3 || (clock < 0 && (~(clock >> 3) === 0 || ~(clock >> 3) === GUEST_PID))
}

/** Clocks that a timer may have. */
export const isTimerClock = (clock: number): boolean =>
  clock === CLOCK_REALTIME || clock === CLOCK_MONOTONIC || clock === CLOCK_BOOTTIME || isCpuClock(clock)
