/**
 * fcntl(2)'s locks as the kernel takes them. struct flock: type i16 (0 read, 1 write, 2 unlock), whence i16, start i64,
 * length i64 (0: to the end), process i32.
 */
import { hostCall, NR } from './libc.js'

export const F_GETLK = 5
export const F_SETLK = 6
const F_UNLCK = 2
export const FLOCK_SIZE = 32
export const FLOCK_PROCESS = 24

/** A struct flock. */
export function recordLock(exclusive: number, { start, length }: { start: bigint; length: bigint }): Buffer {
  const lock = Buffer.alloc(FLOCK_SIZE)
  lock.writeInt16LE(exclusive, 0)
  lock.writeBigInt64LE(start, 8)
  lock.writeBigInt64LE(length, 16)
  return lock
}

/** What closing any descriptor of a file does to its locks of fcntl. */
export function dropRecordLocks({ hostFd }: { hostFd: number }): void {
  const whole = Buffer.alloc(FLOCK_SIZE)
  whole.writeInt16LE(F_UNLCK, 0)
  hostCall(NR.fcntl, hostFd, F_SETLK, whole)
}
