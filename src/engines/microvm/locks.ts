/**
 * The locks that a guest holds on files, of fcntl and of flock. They are the monitor's own, and the kernel tells of them in
 * /proc/self/fdinfo (proc(5)):   lock:  1: POSIX  ADVISORY  WRITE 4711 08:01:1234 0 EOF
 */
import fs from 'node:fs'
import path from 'node:path'
import { type LockRecord, lockKinds } from '../../formats/microvm/record.js'
import { LossError } from '../../lib/errors.js'
import { hostCall, NR } from './libc.js'
import type { OpenFile, OpenFiles } from './open-files.js'
import { dropRecordLocks, F_GETLK, F_SETLK, FLOCK_PROCESS, recordLock } from './record-locks.js'

const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const

type Lock = Omit<LockRecord, 'file'>
export interface HeldLock extends Lock {
  readonly of: OpenFile
}

const OF_FCNTL = lockKinds.indexOf('fcntl')
const kindsInProc: Readonly<Record<string, number>> = { POSIX: OF_FCNTL, FLOCK: lockKinds.indexOf('flock') }

/** The locks that this process holds on an open file, as the kernel tells them (proc_pid_fdinfo(5)). */
export function locksOf(file: OpenFile): Lock[] {
  if (file.kind !== 'regular') return []
  const told = fs.readFileSync(`/proc/self/fdinfo/${file.hostFd}`, 'latin1')
  const lines = told.matchAll(
    /^lock:\s+\d+: (POSIX|FLOCK)\s+ADVISORY\s+(READ|WRITE) \S+ \S+ (\d+) (\d+|EOF)$/gm,
  )
  return [...lines].map(([, kind, type, first, last]) => ({
    kind: kindsInProc[kind!]!,
    exclusive: type === 'WRITE' ? 1 : 0,
    start: BigInt(first!),
    length: last === 'EOF' ? 0n : BigInt(last!) + 1n - BigInt(first!),
  }))
}

/** Takes locks without waiting for them. @throws LossError when another process has one */
export function takeLocks(locks: readonly HeldLock[], rootFolder: string): void {
  for (const lock of locks) {
    if (setLock(lock) >= 0) continue
    const holder = holderOf(lock)
    throw new LossError(`another process has the lock that the guest holds on ${lock.of.name}`, {
      file: path.join(rootFolder, lock.of.path),
      ...(holder > 0 ? { found: `process ${holder}` } : {}),
      hint: 'the guest can go on when that process has let go of it',
    })
  }
}

/** Gives all locks of a guest that stands still away; `takeLocks` takes them again. */
export function letLocksGo(files: OpenFiles): HeldLock[] {
  const open = new Set([...files.descriptors.values()].map(({ file }) => file))
  const held = [...open].flatMap(of => locksOf(of).map(lock => ({ ...lock, of })))
  for (const { kind, of } of held)
    if (kind === OF_FCNTL) dropRecordLocks(of)
    else hostCall(NR.flock, of.hostFd, LOCK.UN)
  return held
}

function setLock({ of, kind, exclusive, ...range }: HeldLock): number {
  return kind === OF_FCNTL
    ? hostCall(NR.fcntl, of.hostFd, F_SETLK, recordLock(exclusive, range))
    : hostCall(NR.flock, of.hostFd, (exclusive === 1 ? LOCK.EX : LOCK.SH) | LOCK.NB)
}

/** The process that has a conflicting lock of fcntl; 0 or less: not known. */
function holderOf({ of, kind, exclusive, ...range }: HeldLock): number {
  if (kind !== OF_FCNTL) return 0
  const conflict = recordLock(exclusive, range)
  return hostCall(NR.fcntl, of.hostFd, F_GETLK, conflict) < 0 ? 0 : conflict.readInt32LE(FLOCK_PROCESS)
}
