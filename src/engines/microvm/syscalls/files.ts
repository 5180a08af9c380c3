/** System calls on descriptors: read, write and their kin, seek, dup, fcntl, ioctl, pipes. */
import { type Guest, Interrupted } from '../guest.js'
import { hostCall, NR } from '../libc.js'
import { Protection } from '../mappings.js'
import { allowedMode, MOST_FILES, O, type OpenFile } from '../open-files.js'
import { CODE } from '../pending-signals.js'
import { F_GETLK, F_SETLK, FLOCK_SIZE } from '../record-locks.js'
import { raiseBySelf } from '../signals.js'
import { readSignals } from './events.js'
import { type Arguments, E, int, long, MOST_BYTES, row, type SystemCall, size } from './table.js'

const POLLIN = 1
const POLLOUT = 4
const MOST_VECTORS = 1024
/** struct iovec: address u64, length u64. */
const VECTOR_SIZE = 16
const SIGPIPE = 13

/** Where the bytes of a transfer lie; as Linux does, as many as are accessible, but not none of some. */
export function span(
  guest: Guest,
  address: bigint,
  length: bigint,
  protection: number,
): [bigint, number] | undefined {
  const wanted = Math.min(size(length), MOST_BYTES)
  const { memory } = guest
  if (wanted === 0) return [memory.base, 0]
  if (address >= BigInt(memory.memorySize)) return undefined
  const at = Number(address)
  const there = memory.mappings.allowed(at, wanted, protection)
  if (there === 0) return undefined
  if (protection === Protection.write) memory.noteDirty(at, at + there)
  return [memory.base + address, there]
}

const waits = (file: OpenFile) => file.kind !== 'regular' && file.kind !== 'directory'

/** Bytes on the host that a call reads or writes. */
type Piece = readonly [start: bigint, length: number]

/** read, write, pread, pwrite. */
function transfer(reads: boolean, positioned = false) {
  return (guest: Guest, a: Arguments): number => {
    const file = guest.files.get(int(a[0]))
    if (file === undefined) return -E.EBADF
    if (positioned && long(a[3]) < 0) return -E.EINVAL
    if (file.kind === 'signalfd')
      return reads && !positioned ? readSignals(guest, file, a[1], size(a[2])) : -E.EINVAL
    const piece = span(guest, a[1], a[2], reads ? Protection.write : Protection.read)
    if (piece === undefined) return -E.EFAULT
    return move(guest, file, reads, piece[1] > 0 ? [piece] : [], positioned ? a[3] : undefined)
  }
}

/** readv, writev, preadv, pwritev. */
function vector(reads: boolean, positioned = false) {
  return (guest: Guest, a: Arguments): number => {
    const file = guest.files.get(int(a[0]))
    if (file === undefined) return -E.EBADF
    if (file.kind === 'signalfd') return -E.EINVAL
    const count = int(a[2])
    if (count < 0 || count > MOST_VECTORS || (positioned && long(a[3]) < 0)) return -E.EINVAL
    const pieces = vectorAt(guest, a[1], count, reads ? Protection.write : Protection.read)
    return typeof pieces === 'number'
      ? pieces
      : move(guest, file, reads, pieces, positioned ? a[3] : undefined)
  }
}

/** The pieces of a guest's table, up to where memory is not accessible; or minus errno. */
function vectorAt(guest: Guest, address: bigint, count: number, protection: number): Piece[] | number {
  const { memory } = guest
  const table = memory.readable(address, count * VECTOR_SIZE)
  const word = (at: number) => memory.view.getBigUint64(table + at, true)
  const pieces: Piece[] = []
  for (let at = 0; at < count * VECTOR_SIZE; at += VECTOR_SIZE) {
    const length = word(at + 8)
    if (length >= 1n << 63n) return -E.EINVAL
    if (length === 0n) continue
    const piece = span(guest, word(at), length, protection)
    if (piece === undefined && pieces.length === 0) return -E.EFAULT
    if (piece !== undefined) pieces.push(piece)
    if (piece === undefined || piece[1] < size(length)) break
  }
  return pieces
}

/**
 * Moves bytes between a file and guest memory. The host's descriptor may be one that never waits: then the waiting is done
 * where a stop is heard. What was moved before a wait is neither lost nor moved twice: the call then ends with less.
 */
function move(guest: Guest, file: OpenFile, reads: boolean, pieces: Piece[], offset?: bigint): number {
  const mayWait = offset === undefined && waits(file) && (file.flags & O.NONBLOCK) === 0
  const nr = offset === undefined ? (reads ? NR.readv : NR.writev) : reads ? NR.preadv : NR.pwritev
  const wait = () => guest.host.wait(file.hostFd, reads ? POLLIN : POLLOUT, undefined)
  if (mayWait && reads && pieces.length > 0) wait()
  let done = 0
  for (let left = pieces; ; ) {
    const result = hostCall(nr, file.hostFd, tableOf(left), left.length, offset ?? 0)
    if (result === -E.EAGAIN && mayWait) {
      try {
        wait()
        continue
      } catch (error) {
        if (error instanceof Interrupted && done > 0) return done
        throw error
      }
    }
    if (result === -E.EPIPE) raiseBySelf(guest, SIGPIPE, CODE.user)
    if (result < 0) return done > 0 ? done : result
    done += result
    if (!reads) noteWrittenFrom(guest, file, pieces, result)
    left = after(left, result)
    // A write that may wait writes all of it.
    if (reads || !mayWait || result === 0 || left.length === 0) return done
  }
}

/** struct iovec, one a piece. */
function tableOf(pieces: readonly Piece[]): Buffer {
  const table = Buffer.alloc(Math.max(1, pieces.length) * VECTOR_SIZE)
  for (const [i, [start, length]] of pieces.entries()) {
    table.writeBigUInt64LE(start, i * VECTOR_SIZE)
    table.writeBigUInt64LE(BigInt(length), i * VECTOR_SIZE + 8)
  }
  return table
}

/** What is left of the pieces without their first `count` bytes. */
function after(pieces: readonly Piece[], count: number): Piece[] {
  const left: Piece[] = []
  for (const [start, length] of pieces) {
    const skipped = Math.min(count, length)
    count -= skipped
    if (skipped < length) left.push([start + BigInt(skipped), length - skipped])
  }
  return left
}

/** The ScratchVM's images say where in memory a file's first bytes stood. */
function noteWrittenFrom(guest: Guest, file: OpenFile, pieces: readonly Piece[], written: number): void {
  if (file.kind !== 'regular' || file.writtenFrom !== undefined || written === 0) return
  const behind = hostCall(NR.lseek, file.hostFd, 0, 1)
  file.writtenFrom = pieces[0]![0] - guest.memory.base - BigInt(behind - written)
}

/** A call on a descriptor alone: its number is exchanged, the other arguments are plain numbers. */
const onDescriptor =
  (nr: number, writes = false) =>
  (guest: Guest, a: Arguments): number => {
    const file = guest.files.get(int(a[0]))
    if (file === undefined) return -E.EBADF
    if (writes && guest.files.readOnly) return -E.EROFS
    return hostCall(nr, file.hostFd, a[1], a[2], a[3])
  }

/** A call that fills a structure of `bytes` bytes at its second argument. */
const fillsStructure =
  (nr: number, bytes: number) =>
  (guest: Guest, a: Arguments): number => {
    const file = guest.files.get(int(a[0]))
    if (file === undefined) return -E.EBADF
    guest.memory.writable(a[1], bytes)
    return hostCall(nr, file.hostFd, guest.memory.base + a[1])
  }

const chmod = onDescriptor(91, true)

function duplicate(
  guest: Guest,
  from: number,
  to: number | undefined,
  closeOnExec: boolean,
  lowest = 0,
): number {
  const file = guest.files.get(from)
  if (file === undefined) return -E.EBADF
  if (to === undefined) return guest.files.placeLowest(file, closeOnExec, lowest)
  if (to < 0 || to >= MOST_FILES) return -E.EBADF
  if (to === from) return to
  guest.files.close(to)
  guest.files.place(to, file, closeOnExec)
  return to
}

const F = {
  DUPFD: 0,
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  SETLKW: 7,
  DUPFD_CLOEXEC: 1030,
} as const
const SETTABLE = O.APPEND | O.NONBLOCK

function fcntl(guest: Guest, a: Arguments): number {
  const descriptor = guest.files.descriptors.get(int(a[0]))
  if (descriptor === undefined) return -E.EBADF
  const { file } = descriptor
  const command = int(a[1])
  const value = int(a[2])
  switch (command) {
    case F.DUPFD:
    case F.DUPFD_CLOEXEC:
      return value < 0 || value >= MOST_FILES
        ? -E.EINVAL
        : duplicate(guest, int(a[0]), undefined, command === F.DUPFD_CLOEXEC, value)
    case F.GETFD:
      return descriptor.closeOnExec ? 1 : 0
    case F.SETFD:
      descriptor.closeOnExec = (value & 1) !== 0
      return 0
    case F.GETFL:
      return file.flags & ~(O.CREAT | O.EXCL | O.TRUNC | O.CLOEXEC)
    case F.SETFL:
      file.flags = (file.flags & ~SETTABLE) | (value & SETTABLE)
      // The host's descriptor never waits, or is the monitor's: only O_APPEND is passed on, to regular files.
      return file.kind === 'regular' ? hostCall(NR.fcntl, file.hostFd, F.SETFL, file.flags & O.APPEND) : 0
    case F_GETLK:
    case F_SETLK:
    case F.SETLKW:
      guest.memory.writable(a[2], FLOCK_SIZE)
      return hostCall(NR.fcntl, file.hostFd, command, guest.memory.base + a[2])
    default:
      return -E.EINVAL
  }
}

/** Requests of ioctl(2) that a terminal answers, and how many bytes each reads or writes. */
const terminalRequests: Readonly<Record<number, number>> = {
  21505: 36, // TCGETS
  21506: 36, // TCSETS
  21507: 36, // TCSETSW
  21508: 36, // TCSETSF
  21519: 4, // TIOCGPGRP
  21523: 8, // TIOCGWINSZ
  21531: 4, // FIONREAD
}

function ioctl(guest: Guest, a: Arguments): number {
  const file = guest.files.get(int(a[0]))
  if (file === undefined) return -E.EBADF
  const bytes = terminalRequests[size(a[1])]
  if (bytes === undefined || file.kind === 'directory') return -E.ENOTTY
  guest.memory.writable(a[2], bytes)
  return hostCall(NR.ioctl, file.hostFd, a[1], guest.memory.base + a[2])
}

function pipe(guest: Guest, address: bigint, flags: number): number {
  const at = guest.memory.writable(address, 8)
  const ends = Buffer.alloc(8)
  const result = hostCall(NR.pipe2, ends, O.CLOEXEC | O.NONBLOCK)
  if (result < 0) return result
  const number = guest.files.newPipe()
  const name = `pipe:[${number}]`
  const place = (kind: 'pipe-read' | 'pipe-write', end: 0 | 1) =>
    guest.files.placeLowest(
      {
        ...{
          kind,
          path: name,
          name,
          flags: (flags & O.NONBLOCK) | end,
          mode: 0,
          references: 0,
          pipe: number,
        },
        hostFd: ends.readInt32LE(end * 4),
      },
      (flags & O.CLOEXEC) !== 0,
    )
  const fds = [place('pipe-read', 0), place('pipe-write', 1)] as const
  if (fds[0] < 0 || fds[1] < 0) {
    for (const fd of fds) if (fd >= 0) guest.files.close(fd)
    return -E.EMFILE
  }
  for (const [i, fd] of fds.entries()) guest.memory.view.setInt32(at + i * 4, fd, true)
  return 0
}

export const fileCalls: readonly SystemCall[] = [
  row(0, 'read', 'nan', transfer(true)),
  row(1, 'write', 'nan', transfer(false)),
  row(3, 'close', 'n', (guest, a) => guest.files.close(int(a[0]))),
  row(5, 'fstat', 'na', fillsStructure(NR.fstat, 144)),
  row(8, 'lseek', 'nnn', onDescriptor(NR.lseek)),
  row(16, 'ioctl', 'naa', ioctl),
  row(17, 'pread64', 'nann', transfer(true, true)),
  row(18, 'pwrite64', 'nann', transfer(false, true)),
  row(19, 'readv', 'nan', vector(true)),
  row(20, 'writev', 'nan', vector(false)),
  row(22, 'pipe', 'a', (guest, a) => pipe(guest, a[0], 0)),
  row(32, 'dup', 'n', (guest, a) => duplicate(guest, int(a[0]), undefined, false)),
  row(33, 'dup2', 'nn', (guest, a) => duplicate(guest, int(a[0]), int(a[1]), false)),
  row(72, 'fcntl', 'nna', fcntl),
  row(73, 'flock', 'nn', onDescriptor(73)),
  row(74, 'fsync', 'n', onDescriptor(74)),
  row(75, 'fdatasync', 'n', onDescriptor(75)),
  row(77, 'ftruncate', 'nn', onDescriptor(NR.ftruncate, true)),
  row(91, 'fchmod', 'nn', (guest, a) => chmod(guest, [a[0], allowedMode(a[1]), 0n, 0n, 0n, 0n])),
  row(93, 'fchown', 'nnn', onDescriptor(93, true)),
  row(138, 'fstatfs', 'na', fillsStructure(138, 120)),
  row(217, 'getdents64', 'nan', (guest, a) => {
    const file = guest.files.get(int(a[0]))
    if (file === undefined) return -E.EBADF
    const place = span(guest, a[1], a[2], Protection.write)
    return place === undefined ? -E.EFAULT : hostCall(217, file.hostFd, place[0], place[1])
  }),
  row(221, 'fadvise64', 'nnnn', () => 0),
  row(285, 'fallocate', 'nnnn', onDescriptor(285, true)),
  row(295, 'preadv', 'nann', vector(true, true)),
  row(296, 'pwritev', 'nann', vector(false, true)),
  row(292, 'dup3', 'nnn', (guest, a) =>
    a[0] === a[1] ? -E.EINVAL : duplicate(guest, int(a[0]), int(a[1]), (int(a[2]) & O.CLOEXEC) !== 0),
  ),
  row(293, 'pipe2', 'an', (guest, a) => pipe(guest, a[0], int(a[1]))),
]
