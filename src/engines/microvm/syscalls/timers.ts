/** System calls on the timers of timer_create. A thread of its own for each (SIGEV_THREAD) is not to be had: there is one. */

import { BILLION, GUEST_PID, ITIMERSPEC_SIZE, isTimerClock, TIMER_ABSTIME } from '../clocks.js'
import { type Guest, newTimer, type Timer } from '../guest.js'
import {
  FIRST_CREATED,
  forgetSignalOf,
  MOST_TIMERS,
  serviceTimers,
  setTimer,
  tellAlarm,
  timeOn,
  timerLeft,
} from '../timers.js'
import { type Arguments, E, int, row, type SystemCall } from './table.js'
import { duration, setDuration } from './waiting.js'

/** struct sigevent: value u64, signal i32, how i32, thread i32; 64 bytes. */
const SIGEVENT_SIZE = 64
const SIGEV = { SIGNAL: 0, NONE: 1, THREAD_ID: 4 } as const
const SIGALRM = 14

function create(guest: Guest, a: Arguments): number {
  const clock = int(a[0])
  if (!isTimerClock(clock)) return -E.EINVAL
  const { memory, process } = guest
  const into = memory.writable(a[2], 4)
  let key = FIRST_CREATED
  while (process.timers.has(key)) key++
  const id = key - FIRST_CREATED
  if (id >= MOST_TIMERS) return -E.EAGAIN
  let [signal, value]: [number | undefined, bigint] = [SIGALRM, BigInt(id)]
  if (a[1] !== 0n) {
    const event = memory.readable(a[1], SIGEVENT_SIZE)
    const how = memory.view.getInt32(event + 12, true)
    value = memory.view.getBigUint64(event, true)
    signal = how === SIGEV.NONE ? undefined : memory.view.getInt32(event + 8, true)
    const toThread = how === SIGEV.THREAD_ID && memory.view.getInt32(event + 16, true) === GUEST_PID
    if (how !== SIGEV.NONE && how !== SIGEV.SIGNAL && !toThread) return -E.EINVAL
    if (signal !== undefined && (signal < 1 || signal > 64)) return -E.EINVAL
  }
  process.timers.set(key, newTimer(clock, signal, value))
  memory.view.setInt32(into, id, true)
  return 0
}

/** Calls `act` with the timer of that id, what is due by now being done. */
function withTimer(guest: Guest, id: bigint, act: (key: number, timer: Timer) => number): number {
  const key = int(id) + FIRST_CREATED
  const timer = int(id) < 0 ? undefined : guest.process.timers.get(key)
  if (timer === undefined) return -E.EINVAL
  serviceTimers(guest)
  return act(key, timer)
}

function tell(guest: Guest, key: number, address: bigint): void {
  const { left, interval } = timerLeft(guest, key)
  setDuration(guest, address, interval, BILLION)
  setDuration(guest, address + 16n, left, BILLION)
}

function setTime(guest: Guest, a: Arguments): number {
  return withTimer(guest, a[0], (key, timer) => {
    guest.memory.readable(a[2], ITIMERSPEC_SIZE)
    const interval = duration(guest, a[2], BILLION)
    const wanted = duration(guest, a[2] + 16n, BILLION)
    if (interval === undefined || wanted === undefined) return -E.EINVAL
    if (a[3] !== 0n) {
      guest.memory.writable(a[3], ITIMERSPEC_SIZE)
      tell(guest, key, a[3])
    }
    const left = (int(a[1]) & TIMER_ABSTIME) === 0 ? wanted : wanted - timeOn(guest, timer)
    setTimer(guest, key, wanted === 0n ? undefined : left, interval)
    serviceTimers(guest)
    return 0
  })
}

function remove(guest: Guest, a: Arguments): number {
  return withTimer(guest, a[0], key => {
    forgetSignalOf(guest, key)
    guest.process.timers.delete(key)
    tellAlarm(guest)
    return 0
  })
}

export const timerCalls: readonly SystemCall[] = [
  row(222, 'timer_create', 'naa', create),
  row(223, 'timer_settime', 'nnaa', setTime),
  row(224, 'timer_gettime', 'na', (guest, a) =>
    withTimer(guest, a[0], key => {
      guest.memory.writable(a[1], ITIMERSPEC_SIZE)
      tell(guest, key, a[1])
      return 0
    }),
  ),
  row(225, 'timer_getoverrun', 'n', (guest, a) => withTimer(guest, a[0], (_, { overrun }) => overrun)),
  row(226, 'timer_delete', 'n', remove),
]
