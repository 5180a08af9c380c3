/**
 * The files of a guest that stand for events: eventfd, timerfd, epoll, signalfd. Each is one of the host's (a signalfd is an
 * eventfd there, readable while a signal waits for it); what an image keeps of it is its content, told by the kernel in
 * /proc/self/fdinfo (proc(5)):
 *
 *   eventfd   count u64
 *   timerfd   clock u64 │ expirations not yet read u64 │ time left u64 (0: not running) │ interval u64, nanoseconds
 *   epoll     an entry a file that is watched: index of the file u32 │ events u32 │ data u64
 *   signalfd  the signals it takes u64, bit n−1 for signal n
 */
import fs from 'node:fs'
import type { FileRecord } from '../../formats/microvm/record.js'
import { HostError, UnreadableError } from '../../lib/errors.js'
import { BILLION } from './clocks.js'
import { hostCall, NR } from './libc.js'
import { O, type OpenFile, type OpenFiles } from './open-files.js'

export type EventFileKind = 'eventfd' | 'timerfd' | 'epoll' | 'signalfd'

/** Of eventfd2(2): each read takes one. */
export const EFD_SEMAPHORE = 1
const EPOLL_CTL_ADD = 1
/** ioctl of a timerfd: how often it expired; of kernels with CONFIG_CHECKPOINT_RESTORE. */
const TFD_IOC_SET_TICKS = 0x40085400
/** CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME. */
export const TIMER_CLOCKS: ReadonlySet<number> = new Set([0, 1, 7])
const EPOLL_ENTRY = 16
/** Bytes of an eventfd's and of a timerfd's content. */
const COUNT_SIZE = 8
const TIMER_SIZE = 32
const SIGNALS_SIZE = 8

export const isEventFile = (kind: string): kind is EventFileKind =>
  kind === 'eventfd' || kind === 'timerfd' || kind === 'epoll' || kind === 'signalfd'

/** The host's descriptor never blocks the monitor; whether the guest's does, `flags` says. */
export function eventFile(kind: EventFileKind, hostFd: number, flags: number): OpenFile {
  const name = `anon_inode:[${kind === 'epoll' ? 'eventpoll' : kind}]`
  return { kind, hostFd, path: name, name, flags, mode: 0, references: 0 }
}

/** A fresh one of the host's, or minus errno. `detail`: flags of an eventfd, clock of a timerfd. */
export function makeEventFile(kind: EventFileKind, detail: number): number {
  const flags = O.NONBLOCK | O.CLOEXEC
  if (kind === 'eventfd') return hostCall(NR.eventfd2, 0, (detail & EFD_SEMAPHORE) | flags)
  if (kind === 'signalfd') return hostCall(NR.eventfd2, 0, flags)
  return kind === 'timerfd' ? hostCall(NR.timerfdCreate, detail, flags) : hostCall(NR.epollCreate1, O.CLOEXEC)
}

/** What an image keeps of it. `files`: all open files, in the order of the image. */
export function eventContent(file: OpenFile, files: readonly OpenFile[]): Buffer {
  if (file.kind === 'signalfd') {
    const content = Buffer.alloc(SIGNALS_SIZE)
    content.writeBigUInt64LE(file.signals!)
    return content
  }
  const told = fs.readFileSync(`/proc/self/fdinfo/${file.hostFd}`, 'latin1')
  const field = (name: string, base: number) =>
    BigInt(`${base === 16 ? '0x' : ''}${new RegExp(`^${name}:\\s*([0-9a-f]+)`, 'm').exec(told)?.[1] ?? '0'}`)
  if (file.kind === 'eventfd') {
    const content = Buffer.alloc(COUNT_SIZE)
    content.writeBigUInt64LE(field('eventfd-count', 16))
    return content
  }
  if (file.kind === 'timerfd') {
    const now = Buffer.alloc(TIMER_SIZE) // struct itimerspec: interval, then what is left
    hostCall(NR.timerfdGettime, file.hostFd, now)
    const time = (at: number) => now.readBigUInt64LE(at) * BILLION + now.readBigUInt64LE(at + 8)
    const content = Buffer.alloc(TIMER_SIZE)
    for (const [i, word] of [field('clockid', 10), field('ticks', 10), time(16), time(0)].entries())
      content.writeBigUInt64LE(word, i * 8)
    return content
  }
  const watched = [...told.matchAll(/^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)/gm)]
  const entries = watched.flatMap(([, fd, events, data]) => {
    const index = files.findIndex(({ hostFd }) => hostFd === Number(fd))
    if (index < 0) return []
    const entry = Buffer.alloc(EPOLL_ENTRY)
    entry.writeUInt32LE(index, 0)
    entry.writeUInt32LE(Number.parseInt(events!, 16) >>> 0, 4)
    entry.writeBigUInt64LE(BigInt(`0x${data}`), 8)
    return [entry]
  })
  return Buffer.concat(entries)
}

/** Makes it anew from an image. Which files an epoll watches is said when all are there (`watchAgain`). @throws UnreadableError, HostError */
export function restoreEventFile(kind: EventFileKind, record: FileRecord, content: Buffer): OpenFile {
  const wrong = (): never => {
    throw new UnreadableError(`the state of an open ${kind} makes no sense`, {
      found: content.toString('hex', 0, 64),
    })
  }
  const size = { eventfd: COUNT_SIZE, timerfd: TIMER_SIZE, epoll: undefined, signalfd: SIGNALS_SIZE }[kind]
  if (size !== undefined && content.length !== size) wrong()
  const clock = kind === 'timerfd' ? content.readBigUInt64LE(0) : 0n
  if (kind === 'timerfd' && !TIMER_CLOCKS.has(Number(clock))) wrong()
  const hostFd = makeEventFile(kind, kind === 'timerfd' ? Number(clock) : record.flags)
  if (hostFd < 0) throw new HostError(`no ${kind} can be made (errno ${-hostFd})`)
  if (kind === 'eventfd' && content.readBigUInt64LE(0) !== 0n)
    if (hostCall(NR.write, hostFd, content, COUNT_SIZE) < 0) wrong()
  if (kind === 'timerfd') {
    const [ticks, left, interval] = [8, 16, 24].map(at => content.readBigUInt64LE(at)) as [
      bigint,
      bigint,
      bigint,
    ]
    if (left > 0n && setTimer(hostFd, left, interval) < 0) wrong()
    const count = Buffer.alloc(8)
    count.writeBigUInt64LE(ticks)
    // Where the kernel cannot be told how often, it expires once more, at once.
    if (ticks > 0n && hostCall(NR.ioctl, hostFd, TFD_IOC_SET_TICKS, count) < 0) setTimer(hostFd, 1n, interval)
  }
  const file = eventFile(kind, hostFd, record.flags)
  return kind === 'signalfd' ? { ...file, signals: content.readBigUInt64LE(0) } : file
}

/** Makes each signalfd readable where one of its signals is pending, and only there. */
export function showPending(files: OpenFiles, pending: bigint): void {
  const one = Buffer.alloc(8)
  one.writeBigUInt64LE(1n)
  for (const { file } of files.descriptors.values()) {
    if (file.signals === undefined) continue
    // An eventfd that does not wait: whoever is told of its edge is told anew.
    hostCall(NR.read, file.hostFd, Buffer.alloc(8), 8)
    if ((file.signals & pending) !== 0n) hostCall(NR.write, file.hostFd, one, 8)
  }
}

function setTimer(hostFd: number, left: bigint, interval: bigint): number {
  const wanted = Buffer.alloc(TIMER_SIZE)
  for (const [i, word] of [interval / BILLION, interval % BILLION, left / BILLION, left % BILLION].entries())
    wanted.writeBigUInt64LE(word, i * 8)
  return hostCall(NR.timerfdSettime, hostFd, 0, wanted, 0)
}

/** An epoll of an image watches what it watched. @throws UnreadableError */
export function watchAgain(epoll: OpenFile, content: Buffer, files: readonly OpenFile[]): void {
  for (let at = 0; at < content.length; at += EPOLL_ENTRY) {
    const file = at + EPOLL_ENTRY <= content.length ? files[content.readUInt32LE(at)] : undefined
    if (file === undefined) throw new UnreadableError('an epoll watches a file that is not in the image')
    const event = Buffer.from(content.subarray(at + 4, at + EPOLL_ENTRY)) // struct epoll_event, packed
    // A standard stream may be a regular file now, which is never waited for.
    hostCall(NR.epollCtl, epoll.hostFd, EPOLL_CTL_ADD, file.hostFd, event)
  }
}
