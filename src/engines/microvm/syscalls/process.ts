/** System calls about the process itself: time, identity, thread pointers, signals' tables, the end, and 400: save. */
import crypto from 'node:crypto'
import { USER_END } from '../../../isa/x86-64-program.js'
import {
  BILLION,
  CLOCK_MONOTONIC,
  CLOCK_REALTIME,
  clockNow,
  GUEST_PID,
  isCpuClock,
  TIMER_ABSTIME,
} from '../clocks.js'
import { type Guest, GuestExit, SaveRequested } from '../guest.js'
import { hostCall } from '../libc.js'
import { Protection } from '../mappings.js'
import { cpuTime } from '../timers.js'
import { span } from './files.js'
import { type Arguments, E, int, row, type SystemCall, size } from './table.js'
import { timeLeft } from './waiting.js'

const ARCH = { SET_GS: 0x1001, SET_FS: 0x1002, GET_FS: 0x1003, GET_GS: 0x1004 } as const
const FUTEX = {
  WAIT: 0,
  WAKE: 1,
  REQUEUE: 3,
  CMP_REQUEUE: 4,
  WAIT_BITSET: 9,
  WAKE_BITSET: 10,
  COMMAND: 0x7f,
} as const
const PR_SET_NAME = 15
const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn

/** A host call that fills `bytes` bytes at argument `index`; a null pointer is passed on. */
function fills(nr: number, index: 0 | 1, bytes: number, mayBeNull = false) {
  return (guest: Guest, a: Arguments): number => {
    if (!(mayBeNull && a[index] === 0n)) guest.memory.writable(a[index], bytes)
    const target = a[index] === 0n ? 0n : guest.memory.base + a[index]
    return index === 0 ? hostCall(nr, target, 0) : hostCall(nr, a[0], target)
  }
}

function archPrctl(guest: Guest, a: Arguments): number {
  switch (int(a[0])) {
    case ARCH.SET_FS:
    case ARCH.SET_GS:
      if (a[1] >= USER_END) return -E.EPERM
      if (int(a[0]) === ARCH.SET_FS) guest.cpu.fsBase = a[1]
      else guest.cpu.gsBase = a[1]
      return 0
    case ARCH.GET_FS:
    case ARCH.GET_GS:
      guest.memory.setU64(a[1], int(a[0]) === ARCH.GET_FS ? guest.cpu.fsBase : guest.cpu.gsBase)
      return 0
    default:
      return -E.EINVAL
  }
}

function timespec(guest: Guest, address: bigint): bigint | undefined {
  const seconds = guest.memory.u64(address)
  const nanoseconds = guest.memory.u64(address + 8n)
  if (seconds >= 1n << 62n || nanoseconds >= 1_000_000_000n) return undefined
  return seconds * 1_000_000_000n + nanoseconds
}

function sleep(guest: Guest, nanoseconds: bigint): number {
  guest.host.wait(undefined, 0, nanoseconds)
  return 0
}

function nanosleep(guest: Guest, address: bigint, clock: number, absolute: boolean): number {
  const time = timespec(guest, address)
  if (time === undefined) return -E.EINVAL
  if (!absolute) return sleep(guest, timeLeft(guest, time)!)
  const left = time - clockNow(clock)
  return left > 0n ? sleep(guest, left) : 0
}

/** One thread: a wait for a value that stands can only end by its timeout. */
function futex(guest: Guest, a: Arguments): number {
  const command = int(a[1]) & FUTEX.COMMAND
  if (a[0] % 4n !== 0n) return -E.EINVAL
  const at = guest.memory.readable(a[0], 4)
  switch (command) {
    case FUTEX.WAIT:
    case FUTEX.WAIT_BITSET: {
      if (guest.memory.view.getUint32(at, true) !== Number(BigInt.asUintN(32, a[2]))) return -E.EAGAIN
      const timeout = a[3] === 0n ? undefined : timespec(guest, a[3])
      const left =
        command === FUTEX.WAIT_BITSET && timeout !== undefined
          ? timeout - clockNow(CLOCK_MONOTONIC)
          : timeLeft(guest, timeout)
      guest.host.wait(undefined, 0, left !== undefined && left < 0n ? 0n : left)
      return -E.ETIMEDOUT
    }
    case FUTEX.WAKE:
    case FUTEX.WAKE_BITSET:
    case FUTEX.REQUEUE:
    case FUTEX.CMP_REQUEUE:
      return 0
    default:
      return -E.ENOSYS
  }
}

function clockGettime(guest: Guest, a: Arguments): number {
  const clock = int(a[0])
  if (!isCpuClock(clock)) return clock < 0 ? -E.EINVAL : hostClock(guest, a)
  const at = guest.memory.writable(a[1], 16)
  const time = cpuTime(guest)
  guest.memory.view.setBigUint64(at, time / BILLION, true)
  guest.memory.view.setBigUint64(at + 8, time % BILLION, true)
  return 0
}
const hostClock = fills(228, 1, 16)

/** struct rusage of the host, but for the time: that is the guest's. */
function getrusage(guest: Guest, a: Arguments): number {
  const result = hostUsage(guest, a)
  if (result < 0) return result
  const time = int(a[0]) === RUSAGE_CHILDREN ? 0n : cpuTime(guest)
  const words = [time / BILLION, (time % BILLION) / 1000n, 0n, 0n] // user, then system
  for (const [i, word] of words.entries()) guest.memory.setU64(a[1] + BigInt(i * 8), word)
  return result
}
const hostUsage = fills(98, 1, 144)
const RUSAGE_CHILDREN = -1

/** struct tms: user, system, and twice those of children, in hundredths of a second. */
function times(guest: Guest, a: Arguments): number | bigint {
  if (a[0] !== 0n) {
    const at = guest.memory.writable(a[0], 32)
    guest.memory.bytes.fill(0, at, at + 32)
    guest.memory.view.setBigUint64(at, cpuTime(guest) / 10_000_000n, true)
  }
  return clockNow(CLOCK_MONOTONIC) / 10_000_000n
}

function uname(guest: Guest, a: Arguments): number {
  const at = guest.memory.writable(a[0], 390)
  guest.memory.bytes.fill(0, at, at + 390)
  for (const [i, text] of ['Linux', 'imago', '6.1.0', '#1 imago micro-VM', 'x86_64', '(none)'].entries())
    guest.memory.bytes.write(text, at + i * 65, 'latin1')
  return 0
}

function getrandom(guest: Guest, a: Arguments): number {
  const place = span(guest, a[0], a[1], Protection.write)
  if (place === undefined) return -E.EFAULT
  const at = Number(a[0])
  if (place[1] > 0) crypto.randomFillSync(guest.memory.bytes, at, place[1])
  return place[1]
}

/** prlimit64 of the own process: everything unlimited but the stack and the number of files. */
function limit(guest: Guest, resource: number, into: bigint): number {
  if (resource < 0 || resource > 15) return -E.EINVAL
  if (into === 0n) return 0
  const value = resource === 3 ? 8n << 20n : resource === 7 ? 1024n : RLIM_INFINITY
  guest.memory.writable(into, 16)
  guest.memory.setU64(into, value)
  guest.memory.setU64(into + 8n, value)
  return 0
}

function sysinfo(guest: Guest, a: Arguments): number {
  const at = guest.memory.writable(a[0], 112)
  const { view, bytes, memorySize } = guest.memory
  bytes.fill(0, at, at + 112)
  view.setBigUint64(at, clockNow(CLOCK_MONOTONIC) / 1_000_000_000n, true)
  view.setBigUint64(at + 32, BigInt(memorySize), true) // totalram
  view.setBigUint64(at + 40, BigInt(memorySize), true) // freeram
  view.setUint16(at + 80, 1, true) // procs
  view.setUint32(at + 104, 1, true) // mem_unit
  return 0
}

/** Real, effective and saved id: the last is the effective one. */
const threeTimes = (real: number, effective: number) => (guest: Guest, a: Arguments) => {
  for (const [i, nr] of [real, effective, effective].entries())
    guest.memory.view.setUint32(guest.memory.writable(a[i]!, 4), hostCall(nr), true)
  return 0
}

const constant = (value: number) => () => value
const hostIdentity = (nr: number) => () => hostCall(nr)

export const processCalls: readonly SystemCall[] = [
  row(24, 'sched_yield', '', constant(0)),
  row(35, 'nanosleep', 'aa', (guest, a) => nanosleep(guest, a[0], 1, false)),
  row(39, 'getpid', '', constant(GUEST_PID)),
  // There are no other processes, and none can be made.
  row(61, 'wait4', 'nana', constant(-E.ECHILD)),
  row(60, 'exit', 'n', (_, a) => {
    throw new GuestExit(int(a[0]) & 0xff)
  }),
  row(63, 'uname', 'a', uname),
  row(95, 'umask', 'n', (guest, a) => {
    const old = guest.process.umask
    guest.process.umask = int(a[0]) & 0o777
    return old
  }),
  row(96, 'gettimeofday', 'aa', fills(96, 0, 16, true)),
  row(97, 'getrlimit', 'na', (guest, a) => limit(guest, int(a[0]), a[1])),
  row(98, 'getrusage', 'na', getrusage),
  row(99, 'sysinfo', 'a', sysinfo),
  row(100, 'times', 'a', times),
  row(102, 'getuid', '', hostIdentity(102)),
  row(104, 'getgid', '', hostIdentity(104)),
  row(107, 'geteuid', '', hostIdentity(107)),
  row(108, 'getegid', '', hostIdentity(108)),
  row(110, 'getppid', '', constant(0)),
  row(111, 'getpgrp', '', constant(GUEST_PID)),
  row(112, 'setsid', '', constant(GUEST_PID)),
  row(115, 'getgroups', 'na', constant(0)),
  row(118, 'getresuid', 'aaa', threeTimes(102, 107)),
  row(120, 'getresgid', 'aaa', threeTimes(104, 108)),
  row(121, 'getpgid', 'n', constant(GUEST_PID)),
  // Its name is all that a thread may say of itself here.
  row(157, 'prctl', 'nnnnn', (_, a) => (int(a[0]) === PR_SET_NAME ? 0 : -E.EINVAL)),
  row(158, 'arch_prctl', 'na', archPrctl),
  row(160, 'setrlimit', 'na', constant(0)),
  row(162, 'sync', '', constant(0)),
  row(186, 'gettid', '', constant(GUEST_PID)),
  row(201, 'time', 'a', (guest, a) => {
    const seconds = clockNow(CLOCK_REALTIME) / 1_000_000_000n
    if (a[0] !== 0n) guest.memory.setU64(a[0], seconds)
    return seconds
  }),
  row(202, 'futex', 'annaan', futex),
  row(204, 'sched_getaffinity', 'nna', (guest, a) => {
    if (size(a[1]) < 8) return -E.EINVAL
    guest.memory.setU64(a[2], 1n)
    return 8
  }),
  row(218, 'set_tid_address', 'a', (guest, a) => {
    guest.process.clearTid = a[0]
    return GUEST_PID
  }),
  row(228, 'clock_gettime', 'na', clockGettime),
  row(229, 'clock_getres', 'na', fills(229, 1, 16, true)),
  row(230, 'clock_nanosleep', 'nnaa', (guest, a) =>
    nanosleep(guest, a[2], int(a[0]), (int(a[1]) & TIMER_ABSTIME) !== 0),
  ),
  row(231, 'exit_group', 'n', (_, a) => {
    throw new GuestExit(int(a[0]) & 0xff)
  }),
  row(273, 'set_robust_list', 'an', constant(0)),
  row(302, 'prlimit64', 'nnaa', (guest, a) => limit(guest, int(a[1]), a[3])),
  row(318, 'getrandom', 'ann', getrandom),
  // Asked by glibc at start, which does without it.
  row(334, 'rseq', 'annn', constant(-E.ENOSYS)),
  row(400, 'save', '', () => {
    throw new SaveRequested()
  }),
]
