/** System calls on files that stand for events: eventfd, timerfd, epoll, signalfd. */

import { BILLION, CLOCK_MONOTONIC, clockNow, ITIMERSPEC_SIZE, MILLION } from '../clocks.js'
import {
  EFD_SEMAPHORE,
  type EventFileKind,
  eventFile,
  makeEventFile,
  showPending,
  TIMER_CLOCKS,
} from '../event-files.js'
import type { Guest } from '../guest.js'
import { hostCall, NR } from '../libc.js'
import { O, type OpenFile } from '../open-files.js'
import { CODE } from '../pending-signals.js'
import { takeSignal, UNBLOCKABLE } from '../signals.js'
import { type Arguments, E, int, row, type SystemCall } from './table.js'
import { duration, maskAt, timeLeft, withMask } from './waiting.js'

const POLLIN = 1
const EPOLL_EVENT_SIZE = 12
const EPOLL_CTL_DEL = 2
/** Of one answer; a program that asks for more asks again. */
const MOST_EVENTS = 1024
const SIGNALFD_SIGINFO_SIZE = 128
const SETTABLE_FLAGS = O.NONBLOCK | O.CLOEXEC

function make(guest: Guest, kind: EventFileKind, detail: number, flags: number): number {
  const hostFd = makeEventFile(kind, detail)
  if (hostFd < 0) return hostFd
  const kept = (flags & O.NONBLOCK) | (kind === 'eventfd' ? detail & EFD_SEMAPHORE : 0) | 2 // O_RDWR
  return guest.files.placeLowest(eventFile(kind, hostFd, kept), (flags & O.CLOEXEC) !== 0)
}

function eventfd(guest: Guest, count: bigint, flags: number): number {
  if ((flags & ~(SETTABLE_FLAGS | EFD_SEMAPHORE)) !== 0) return -E.EINVAL
  const fd = make(guest, 'eventfd', flags, flags)
  const first = Buffer.alloc(8)
  first.writeBigUInt64LE(BigInt.asUintN(32, count))
  if (fd >= 0) hostCall(1, guest.files.get(fd)!.hostFd, first, 8)
  return fd
}

function timerfd(guest: Guest, a: Arguments): number {
  const [clock, flags] = [int(a[0]), int(a[1])]
  if (!TIMER_CLOCKS.has(clock) || (flags & ~SETTABLE_FLAGS) !== 0) return -E.EINVAL
  return make(guest, 'timerfd', clock, flags)
}

/** Makes one that takes the signals of the set, or gives the one at `fd` another set. */
function signalfd(guest: Guest, a: Arguments, flags: number): number {
  if (a[2] !== 8n || (flags & ~SETTABLE_FLAGS) !== 0) return -E.EINVAL
  const signals = guest.memory.u64(a[1]) & ~UNBLOCKABLE
  const fd = int(a[0]) === -1 ? make(guest, 'signalfd', 0, flags) : int(a[0])
  if (fd < 0) return int(a[0]) === -1 ? fd : -E.EBADF
  const file = fileOf(guest, BigInt(fd), 'signalfd')
  if (typeof file === 'number') return file
  file.signals = signals
  showPending(guest.files, guest.process.pending.mask)
  return fd
}

/** What a read of one gives: a struct signalfd_siginfo for each signal that it takes, as many as there is room for. */
export function readSignals(guest: Guest, file: OpenFile, address: bigint, length: number): number {
  const { memory, process } = guest
  if (length < SIGNALFD_SIGINFO_SIZE) return -E.EINVAL
  const most = Math.min(Math.floor(length / SIGNALFD_SIGINFO_SIZE), MOST_EVENTS)
  const at = memory.writable(address, most * SIGNALFD_SIGINFO_SIZE)
  if ((process.pending.mask & file.signals!) === 0n) {
    if ((file.flags & O.NONBLOCK) !== 0) return -E.EAGAIN
    guest.host.wait(file.hostFd, POLLIN, undefined)
  }
  let count = 0
  for (; count < most; count++) {
    const signal = process.pending.next(file.signals!)
    if (signal === undefined) break
    const { code, sender, detail, value } = takeSignal(guest, signal)
    const ofTimer = code === CODE.timer
    const start = at + count * SIGNALFD_SIGINFO_SIZE
    memory.bytes.fill(0, start, start + SIGNALFD_SIGINFO_SIZE)
    const { view } = memory
    view.setUint32(start, signal, true)
    view.setInt32(start + 8, code, true)
    view.setInt32(start + (ofTimer ? 24 : 12), sender, true) // ssi_tid, ssi_pid
    view.setInt32(start + (ofTimer ? 32 : 16), detail, true) // ssi_overrun, ssi_uid
    view.setInt32(start + 44, Number(BigInt.asIntN(32, value)), true)
    view.setBigUint64(start + 48, value, true)
  }
  return count * SIGNALFD_SIGINFO_SIZE
}

/** The open file of that kind, or minus errno. */
function fileOf(guest: Guest, fd: bigint, kind: EventFileKind): OpenFile | number {
  const file = guest.files.get(int(fd))
  if (file === undefined) return -E.EBADF
  return file.kind === kind ? file : -E.EINVAL
}

function setTime(guest: Guest, a: Arguments): number {
  const file = fileOf(guest, a[0], 'timerfd')
  if (typeof file === 'number') return file
  const { memory } = guest
  const wanted = memory.base + BigInt(memory.readable(a[2], ITIMERSPEC_SIZE))
  const old = a[3] === 0n ? 0n : memory.base + BigInt(memory.writable(a[3], ITIMERSPEC_SIZE))
  return hostCall(NR.timerfdSettime, file.hostFd, int(a[1]), wanted, old)
}

function getTime(guest: Guest, a: Arguments): number {
  const file = fileOf(guest, a[0], 'timerfd')
  if (typeof file === 'number') return file
  const into = guest.memory.base + BigInt(guest.memory.writable(a[1], ITIMERSPEC_SIZE))
  return hostCall(NR.timerfdGettime, file.hostFd, into)
}

function control(guest: Guest, a: Arguments): number {
  const epoll = fileOf(guest, a[0], 'epoll')
  if (typeof epoll === 'number') return epoll
  const file = guest.files.get(int(a[2]))
  if (file === undefined) return -E.EBADF
  const operation = int(a[1])
  // DEL looks at no event: old programs pass none.
  const event =
    operation === EPOLL_CTL_DEL
      ? 0n
      : guest.memory.base + BigInt(guest.memory.readable(a[3], EPOLL_EVENT_SIZE))
  return hostCall(NR.epollCtl, epoll.hostFd, operation, file.hostFd, event)
}

/** Waits where a stop is heard, and then asks without waiting. */
function wait(guest: Guest, a: Arguments, asked: bigint | undefined): number {
  const epoll = fileOf(guest, a[0], 'epoll')
  if (typeof epoll === 'number') return epoll
  if (int(a[2]) <= 0 || int(a[2]) > Math.floor(0x7fff_ffff / EPOLL_EVENT_SIZE)) return -E.EINVAL
  const most = Math.min(int(a[2]), MOST_EVENTS)
  const into = guest.memory.base + BigInt(guest.memory.writable(a[1], most * EPOLL_EVENT_SIZE))
  const timeoutNs = timeLeft(guest, asked)
  const end = timeoutNs === undefined ? undefined : clockNow(CLOCK_MONOTONIC) + timeoutNs
  for (let left = timeoutNs; ; ) {
    const ready = guest.host.wait(epoll.hostFd, POLLIN, left)
    const count = ready ? hostCall(232, epoll.hostFd, into, most, 0) : 0
    if (count !== 0) return count
    if (end === undefined) continue
    left = end - clockNow(CLOCK_MONOTONIC)
    if (left <= 0n) return 0
  }
}

const milliseconds = (value: bigint) => (int(value) < 0 ? undefined : BigInt(int(value)) * MILLION)

function waitWithTimespec(guest: Guest, a: Arguments): number {
  const timeout = a[3] === 0n ? undefined : duration(guest, a[3], BILLION)
  if (a[3] !== 0n && timeout === undefined) return -E.EINVAL
  return withMask(guest, maskAt(guest, a[4]), () => wait(guest, a, timeout))
}

export const eventCalls: readonly SystemCall[] = [
  row(213, 'epoll_create', 'n', (guest, a) => (int(a[0]) <= 0 ? -E.EINVAL : make(guest, 'epoll', 0, 0))),
  row(232, 'epoll_wait', 'nann', (guest, a) => wait(guest, a, milliseconds(a[3]))),
  row(233, 'epoll_ctl', 'nnna', control),
  row(281, 'epoll_pwait', 'nannan', (guest, a) =>
    withMask(guest, maskAt(guest, a[4]), () => wait(guest, a, milliseconds(a[3]))),
  ),
  row(282, 'signalfd', 'nan', (guest, a) => signalfd(guest, a, 0)),
  row(283, 'timerfd_create', 'nn', timerfd),
  row(284, 'eventfd', 'n', (guest, a) => eventfd(guest, a[0], 0)),
  row(286, 'timerfd_settime', 'nnaa', setTime),
  row(287, 'timerfd_gettime', 'na', getTime),
  row(289, 'signalfd4', 'nann', (guest, a) => signalfd(guest, a, int(a[3]))),
  row(290, 'eventfd2', 'nn', (guest, a) => eventfd(guest, a[0], int(a[1]))),
  row(291, 'epoll_create1', 'n', (guest, a) => make(guest, 'epoll', 0, int(a[0]))),
  row(441, 'epoll_pwait2', 'nanaan', waitWithTimespec),
]
