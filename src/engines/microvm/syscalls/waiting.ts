/** System calls that wait for descriptors, signals and time: poll, select, pause, sigsuspend, alarm, setitimer and their kin. */

import { BILLION, CLOCK_MONOTONIC, clockNow, MILLION } from '../clocks.js'
import { type Guest, INTERVAL_TIMERS, Interrupted } from '../guest.js'
import { nextSignal, SIGINFO_SIZE, takeSignal, UNBLOCKABLE, writeSiginfo } from '../signals.js'
import { setTimer, timerLeft } from '../timers.js'
import { type Arguments, E, int, row, type SystemCall, size } from './table.js'

const MOST_DESCRIPTORS = 1024
const POLLFD_SIZE = 8
/** Of poll(2), in the numbering that Linux gives select: readable, writable, exceptional. */
const POLLIN_SET = 0x40 | 0x80 | 1 | 0x10 | 8 // RDNORM, RDBAND, IN, HUP, ERR
const POLLOUT_SET = 0x200 | 0x100 | 4 | 8 // WRBAND, WRNORM, OUT, ERR
const POLLPRI = 2
const POLLNVAL = 0x20
const ITIMER_REAL = 0

/** A timespec or timeval at `address`: seconds, and `unit`ths of them. Nanoseconds; undefined when it is none. */
export function duration(guest: Guest, address: bigint, unit: bigint): bigint | undefined {
  const seconds = guest.memory.u64(address)
  const fraction = guest.memory.u64(address + 8n)
  if (seconds >= 1n << 32n || fraction >= unit) return undefined
  return seconds * BILLION + fraction * (BILLION / unit)
}

/** How long a call is to wait: what the program asks, or what is left when its wait was cut short and it is made again. */
export function timeLeft({ process }: Guest, asked: bigint | undefined): bigint | undefined {
  return asked === undefined ? undefined : (process.waitLeft ?? asked)
}

/** The other way: writes nanoseconds as a timespec or timeval. */
export function setDuration(guest: Guest, address: bigint, nanoseconds: bigint, unit: bigint): void {
  guest.memory.setU64(address, nanoseconds / BILLION)
  guest.memory.setU64(address + 8n, (nanoseconds % BILLION) / (BILLION / unit))
}

/** Calls `wait` with another signal mask; a signal that comes puts the old one into its frame. */
export function withMask(guest: Guest, mask: bigint | undefined, wait: () => number): number {
  if (mask === undefined) return wait()
  const { process } = guest
  process.maskPutAside = process.signalMask
  process.signalMask = mask & ~UNBLOCKABLE
  if (nextSignal(guest) !== undefined) throw new Interrupted()
  const result = wait() // throws with the mask put aside
  process.signalMask = process.maskPutAside
  process.maskPutAside = undefined
  return result
}

/** The signal mask at an address; undefined at NULL. */
export function maskAt(guest: Guest, address: bigint): bigint | undefined {
  return address === 0n ? undefined : guest.memory.u64(address)
}

/** The host's pollfd for descriptors of the guest; one that is not open answers POLLNVAL. */
function poll(
  guest: Guest,
  wanted: ReadonlyArray<{ readonly fd: number; readonly events: number }>,
  timeoutNs: bigint | undefined,
): number[] {
  const set = Buffer.alloc(wanted.length * POLLFD_SIZE)
  let closed = false
  for (const [i, { fd, events }] of wanted.entries()) {
    const file = fd < 0 ? undefined : guest.files.get(fd)
    if (file === undefined && fd >= 0) closed = true
    set.writeInt32LE(file?.hostFd ?? -1, i * POLLFD_SIZE)
    set.writeInt16LE(events, i * POLLFD_SIZE + 4)
  }
  guest.host.poll(set, wanted.length, closed ? 0n : timeLeft(guest, timeoutNs))
  return wanted.map(({ fd }, i) =>
    fd >= 0 && guest.files.get(fd) === undefined ? POLLNVAL : set.readUInt16LE(i * POLLFD_SIZE + 6),
  )
}

/** struct pollfd: fd i32, events i16, revents i16. */
function pollCall(guest: Guest, address: bigint, count: bigint, timeoutNs: bigint | undefined): number {
  if (count > MOST_DESCRIPTORS) return -E.EINVAL
  const length = size(count)
  const at = guest.memory.writable(address, length * POLLFD_SIZE)
  const { view } = guest.memory
  const wanted = Array.from({ length }, (_, i) => ({
    fd: view.getInt32(at + i * POLLFD_SIZE, true),
    events: view.getInt16(at + i * POLLFD_SIZE + 4, true),
  }))
  const found = poll(guest, wanted, timeoutNs)
  for (const [i, events] of found.entries()) view.setUint16(at + i * POLLFD_SIZE + 6, events, true)
  return found.filter(events => events !== 0).length
}

function ppoll(guest: Guest, a: Arguments): number {
  const timeout = a[2] === 0n ? undefined : duration(guest, a[2], BILLION)
  if (a[2] !== 0n && timeout === undefined) return -E.EINVAL
  if (a[3] !== 0n && a[4] !== 8n) return -E.EINVAL
  return withMask(guest, maskAt(guest, a[3]), () => pollCall(guest, a[0], a[1], timeout))
}

/** fd_set: a bit a descriptor. A set that is not given is empty. */
function select(
  guest: Guest,
  count: number,
  sets: readonly [bigint, bigint, bigint],
  timeoutNs: bigint | undefined,
): number {
  if (count < 0 || count > MOST_DESCRIPTORS) return -E.EINVAL
  const bytes = Math.ceil(count / 64) * 8
  const { memory } = guest
  const places = sets.map(address => (address === 0n ? undefined : memory.writable(address, bytes)))
  const has = (place: number | undefined, fd: number) =>
    place !== undefined && (memory.bytes[place + (fd >> 3)]! & (1 << (fd & 7))) !== 0
  const wanted: Array<{ fd: number; events: number }> = []
  for (let fd = 0; fd < count; fd++) {
    const events =
      (has(places[0], fd) ? POLLIN_SET & 0xc1 : 0) |
      (has(places[1], fd) ? POLLOUT_SET & 0x304 : 0) |
      (has(places[2], fd) ? POLLPRI : 0)
    if (events === 0) continue
    if (guest.files.get(fd) === undefined) return -E.EBADF
    wanted.push({ fd, events })
  }
  const found = poll(guest, wanted, timeoutNs)
  const asked = places.map(place =>
    place === undefined ? undefined : Buffer.from(memory.bytes.subarray(place, place + bytes)),
  )
  let ready = 0
  for (const [k, place] of places.entries()) {
    if (place === undefined) continue
    memory.bytes.fill(0, place, place + bytes)
    for (const [i, { fd }] of wanted.entries()) {
      const answers = [POLLIN_SET, POLLOUT_SET, POLLPRI][k]!
      if ((asked[k]![fd >> 3]! & (1 << (fd & 7))) === 0 || (found[i]! & answers) === 0) continue
      memory.bytes[place + (fd >> 3)]! |= 1 << (fd & 7)
      ready++
    }
  }
  return ready
}

/** Linux writes into the timeout what is left of it. */
function selectCall(guest: Guest, a: Arguments, unit: bigint, mask?: bigint): number {
  const timeout = a[4] === 0n ? undefined : duration(guest, a[4], unit)
  if (a[4] !== 0n && timeout === undefined) return -E.EINVAL
  const began = clockNow(CLOCK_MONOTONIC)
  const result = withMask(guest, mask, () => select(guest, int(a[0]), [a[1], a[2], a[3]], timeout))
  if (timeout !== undefined) {
    const left = timeout - (clockNow(CLOCK_MONOTONIC) - began)
    setDuration(guest, a[4], left > 0n ? left : 0n, unit)
  }
  return result
}

/** The sixth argument points to a mask's address and its size. */
function pselect6(guest: Guest, a: Arguments): number {
  const address = a[5] === 0n ? 0n : guest.memory.u64(a[5])
  if (address !== 0n && guest.memory.u64(a[5] + 8n) !== 8n) return -E.EINVAL
  return selectCall(guest, a, BILLION, maskAt(guest, address))
}

/** Waits for a signal whose handler then runs. */
function pause(guest: Guest, mask?: bigint): number {
  return withMask(guest, mask, () => {
    for (;;) guest.host.wait(undefined, 0, undefined)
  })
}

/** Takes a pending signal of a set, without its handler; siginfo_t is 128 bytes. */
function sigtimedwait(guest: Guest, a: Arguments): number {
  if (a[3] !== 8n) return -E.EINVAL
  const { process, memory } = guest
  const set = memory.u64(a[0]) & ~UNBLOCKABLE
  const timeout = a[2] === 0n ? undefined : duration(guest, a[2], BILLION)
  if (a[2] !== 0n && timeout === undefined) return -E.EINVAL
  const signal = process.pending.next(set)
  if (signal === undefined) {
    // A signal that comes meanwhile interrupts the wait, and the call is made again.
    guest.host.wait(undefined, 0, timeLeft(guest, timeout))
    return -E.EAGAIN
  }
  const into = a[1] === 0n ? undefined : memory.writable(a[1], SIGINFO_SIZE)
  const raised = takeSignal(guest, signal)
  if (into !== undefined) {
    memory.bytes.fill(0, into, into + SIGINFO_SIZE)
    writeSiginfo(new DataView(memory.bytes.buffer, memory.bytes.byteOffset + into, SIGINFO_SIZE), raised)
  }
  return signal
}

/** struct itimerval: interval, then what is left, as timevals. */
function getTimer(guest: Guest, which: number, into: bigint): number {
  if (INTERVAL_TIMERS[which] === undefined) return -E.EINVAL
  const { left, interval } = timerLeft(guest, which)
  guest.memory.writable(into, 32)
  setDuration(guest, into, interval, MILLION)
  setDuration(guest, into + 16n, left, MILLION)
  return 0
}

function setitimer(guest: Guest, a: Arguments): number {
  const which = int(a[0])
  if (INTERVAL_TIMERS[which] === undefined) return -E.EINVAL
  const interval = a[1] === 0n ? 0n : duration(guest, a[1], MILLION)
  const left = a[1] === 0n ? 0n : duration(guest, a[1] + 16n, MILLION)
  if (interval === undefined || left === undefined) return -E.EINVAL
  if (a[2] !== 0n) getTimer(guest, which, a[2])
  setTimer(guest, which, left > 0n ? left : undefined, interval)
  return 0
}

/** Seconds that were left of the last one, rounded as Linux does: never 0 while it runs. */
function alarm(guest: Guest, seconds: number): number {
  const { left } = timerLeft(guest, ITIMER_REAL)
  setTimer(guest, ITIMER_REAL, seconds > 0 ? BigInt(seconds) * BILLION : undefined, 0n)
  return left === 0n ? 0 : Math.max(1, Number((left + BILLION / 2n) / BILLION))
}

export const waitingCalls: readonly SystemCall[] = [
  row(7, 'poll', 'ann', (guest, a) =>
    pollCall(guest, a[0], a[1], int(a[2]) < 0 ? undefined : BigInt(int(a[2])) * MILLION),
  ),
  row(23, 'select', 'naaaa', (guest, a) => selectCall(guest, a, MILLION)),
  row(34, 'pause', '', guest => pause(guest)),
  row(36, 'getitimer', 'na', (guest, a) => getTimer(guest, int(a[0]), a[1])),
  row(37, 'alarm', 'n', (guest, a) => alarm(guest, int(a[0]) >>> 0)),
  row(38, 'setitimer', 'naa', setitimer),
  row(128, 'rt_sigtimedwait', 'aaan', sigtimedwait),
  row(130, 'rt_sigsuspend', 'an', (guest, a) =>
    a[1] === 8n ? pause(guest, guest.memory.u64(a[0])) : -E.EINVAL,
  ),
  row(270, 'pselect6', 'naaaaa', pselect6),
  row(271, 'ppoll', 'anaan', ppoll),
]
