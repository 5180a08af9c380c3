/** A microvm image → a guest that stands still, ready to run. The other way is `save.ts`. */
import crypto from 'node:crypto'
import fs from 'node:fs'
import { USER_END } from '../../formats/microvm/guest-cpu.js'
import { LARGEST_MEMORY, layoutFor, SMALLEST_MEMORY } from '../../formats/microvm/guest-layout.js'
import { blocks, type MicroVmFile, openMicroVmFile } from '../../formats/microvm/image-file.js'
import {
  type FileRecord,
  fileKinds,
  type MicroVmRecord,
  type PendingRecord,
} from '../../formats/microvm/record.js'
import { SREGS_OFFSET } from '../../isa/x86-64-kvm.js'
import { HostError, LossError, UnreadableError } from '../../lib/errors.js'
import type { CpuFactory, VirtualCpu } from './cpu.js'
import { cpuFeaturesOf } from './cpu-features.js'
import { isEventFile, restoreEventFile, watchAgain } from './event-files.js'
import { type Guest, type HostSide, newProcess } from './guest.js'
import { GuestMemory } from './guest-memory.js'
import { hostCall, NR } from './libc.js'
import { takeLocks } from './locks.js'
import type { EngineName } from './messages.js'
import { identityOf, O, type OpenFile, OpenFiles } from './open-files.js'
import { bitOf, CODE } from './pending-signals.js'
import { cpuTimeOffset, FIRST_CREATED, isTimerClock, MOST_TIMERS, newTimer, setTimer } from './timers.js'

const SEEK_SET = 0

/** What to do when a file is not as it was at the save. */
export type FilePolicy =
  /** Refuse, and say which and how. */
  | 'refuse'
  /** Open it at its offset whatever it is now. */
  | 'reopen'
  /** Write back the content that the image holds. */
  | 'restore-content'

export interface RestoreGuestOptions {
  readonly engine: EngineName
  /** Undefined: the one of the image. */
  readonly rootFolder: string | undefined
  readonly readOnly: boolean
  readonly files: FilePolicy
  /** Go on though the CPU lacks features that the program chose its code by. */
  readonly ignoreCpu: boolean
}

/** Memory is mapped, not read: this takes the same time whatever its size. @throws UnreadableError, LossError, HostError */
export function restoreGuest(
  path: string,
  makeCpu: CpuFactory,
  host: HostSide,
  options: RestoreGuestOptions,
): Guest {
  const image = openMicroVmFile(path)
  try {
    const { record } = image
    checkLayout(record, path)
    checkCpu(record, path, options)
    const files = restoreFiles(image, options)
    files.ownImage = identityOf(image.source.fd)
    const memory = GuestMemory.fromFile(
      Number(record.usableBytes),
      image.source.fd,
      image.memoryOffset,
      record.mappings.map(m => ({ ...m, start: Number(m.start), end: Number(m.end) })),
    )
    return restoreState(record, memory, makeCpu, files, host)
  } finally {
    image.source.close()
  }
}

/** CPU and process over memory and files that are already there. */
export function restoreState(
  record: MicroVmRecord,
  memory: GuestMemory,
  makeCpu: CpuFactory,
  files: OpenFiles,
  host: HostSide,
): Guest {
  const cpu = makeCpu(memory)
  const special = new DataView(record.cpu.special.buffer, record.cpu.special.byteOffset)
  cpu.writeState({
    registers: record.cpu.registers,
    fsBase: special.getBigUint64(SREGS_OFFSET.fsBase, true),
    gsBase: special.getBigUint64(SREGS_OFFSET.gsBase, true),
    xsave: record.cpu.xsave,
    xcr0: record.cpu.xcr0,
  })
  const process = newProcess(record.process.name)
  const { waitLeft } = record.process
  Object.assign(process, {
    brkStart: Number(record.process.brkStart),
    brk: Number(record.process.brk),
    umask: record.process.umask,
    clearTid: record.process.clearTid,
    signalMask: record.process.signalMask,
    alternateStack: record.process.alternateStack,
    waitLeft: waitLeft < 0n ? undefined : waitLeft,
    boundToCpu: record.cpu.features !== '',
    cpuFeatures: featuresSeen(record, cpu),
  })
  for (const { signal, ...action } of record.signals) process.actions.set(signal, action)
  const guest = { memory, cpu, files, process, host }
  const { realTimer, cpuTime } = record
  process.cpuTimeOffset = cpuTimeOffset(cpuTime?.used ?? 0n)
  const running = (left: bigint) => (left === 0n ? undefined : left)
  for (const [key, timer] of [realTimer, cpuTime?.virtual, cpuTime?.profiling].entries())
    if (timer !== undefined) setTimer(guest, key, running(timer.left), timer.interval)
  for (const { id, clock, signal, value, left, interval, overrun } of record.timers ?? []) {
    if (!isTimerClock(clock) || id >= MOST_TIMERS)
      throw new UnreadableError('an impossible timer', { found: `timer ${id} of clock ${clock}` })
    process.timers.set(FIRST_CREATED + id, newTimer(clock, signal === 0 ? undefined : signal, value))
    setTimer(guest, FIRST_CREATED + id, running(left), interval)
    process.timers.get(FIRST_CREATED + id)!.overrun = overrun
  }
  for (const pending of pendingOf(record)) process.pending.raise(pending)
  return guest
}

/** Older images tell of pending signals no more than their numbers. */
function pendingOf({ process, pending }: MicroVmRecord): readonly PendingRecord[] {
  if (pending !== undefined) return pending
  return Array.from({ length: 64 }, (_, i) => i + 1)
    .filter(signal => (process.pendingSignals & bitOf(signal)) !== 0n)
    .map(signal => ({ signal, code: CODE.user, sender: 0, detail: 0, value: 0n }))
}

/** One that was saved while it was asking (by an older imago) sees this CPU, too. */
function featuresSeen({ cpu: { features } }: MicroVmRecord, { engine, fsBase }: VirtualCpu): string[] {
  const before = features.split(' ')
  return fsBase !== 0n ? before : [...new Set([...before, ...cpuFeaturesOf(engine)])]
}

/** The image must have the layout that this monitor makes, for its page tables and stubs are in it. */
export function checkLayout(record: MicroVmRecord, path: string): void {
  const usable = Number(record.usableBytes)
  if (
    usable < SMALLEST_MEMORY ||
    usable > LARGEST_MEMORY ||
    usable % (2 << 20) !== 0 ||
    BigInt(layoutFor(usable).totalSize) !== record.memoryBytes
  )
    throw new UnreadableError('the memory of this image is not laid out as this monitor does', {
      file: path,
      found: `${record.memoryBytes} bytes, ${usable} for the guest`,
    })
  const special = new DataView(record.cpu.special.buffer, record.cpu.special.byteOffset)
  for (const offset of [SREGS_OFFSET.fsBase, SREGS_OFFSET.gsBase])
    if (special.getBigUint64(offset, true) >= USER_END)
      throw new UnreadableError('a segment base is no user address', {
        file: path,
        found: special.getBigUint64(offset, true),
      })
}

function checkCpu(record: MicroVmRecord, path: string, { engine, ignoreCpu }: RestoreGuestOptions): void {
  if (record.cpu.features === '' || ignoreCpu) return
  const here = new Set(cpuFeaturesOf(engine))
  const missing = record.cpu.features.split(' ').filter(feature => !here.has(feature))
  if (missing.length > 0)
    throw new HostError('the program chose its code for a CPU that can do more than this one', {
      file: path,
      found: `missing here: ${missing.join(' ')}`,
      hint: 'build guests with musl (baseline x86-64), or try --ignore-cpu',
    })
}

/** Reopens everything, in the order of the image. Nothing of the host is changed before all checks are done. */
export function restoreFiles(image: MicroVmFile, options: RestoreGuestOptions): OpenFiles {
  const { record } = image
  const root = options.rootFolder ?? Buffer.from(record.process.rootFolder, 'latin1').toString('utf8')
  const files = new OpenFiles(root, options.readOnly || record.process.readOnly)
  try {
    files.workingDirectory = files.absolute(record.process.workingDirectory, '/')
    const pipes = new Map<number, { read: number; write: number }>()
    const opened = record.files.map((file, i) =>
      openAgain(image, file, files, options, pipes, standardFdOf(record, i)),
    )
    for (const [i, file] of record.files.entries())
      if (fileKinds[file.kind] === 'epoll') watchAgain(opened[i]!, eventContentIn(image, file), opened)
    for (const { fd, file, closeOnExec } of record.descriptors)
      files.place(fd, opened[file]!, closeOnExec === 1)
    for (const file of record.files)
      if (fileKinds[file.kind] === 'pipe-read') fillPipe(image, file, pipes.get(file.pipe)!)
    takeLocks(
      (record.locks ?? []).map(lock => ({ ...lock, of: opened[lock.file]! })),
      files.rootFolder,
    )
    return files
  } catch (error) {
    files.release()
    throw error
  }
}

function standardFdOf(record: MicroVmRecord, index: number): number {
  return ['stdin', 'stdout', 'stderr'].indexOf(record.files[index]!.path)
}

function openAgain(
  image: MicroVmFile,
  record: FileRecord,
  files: OpenFiles,
  options: RestoreGuestOptions,
  pipes: Map<number, { read: number; write: number }>,
  standardFd: number,
): OpenFile {
  const kind = fileKinds[record.kind]!
  const common = {
    kind,
    path: record.path,
    name: record.name,
    flags: record.flags,
    mode: record.mode,
    references: 0,
  }
  if (kind === 'standard') {
    if (standardFd < 0) throw new UnreadableError('an unknown standard stream', { found: record.path })
    return { ...common, hostFd: standardFd }
  }
  if (kind === 'pipe-read' || kind === 'pipe-write') {
    let ends = pipes.get(record.pipe)
    if (ends === undefined) {
      const pair = Buffer.alloc(8)
      if (hostCall(NR.pipe2, pair, O.CLOEXEC | O.NONBLOCK) < 0) throw new HostError('no pipe can be made')
      ends = { read: pair.readInt32LE(0), write: pair.readInt32LE(4) }
      pipes.set(record.pipe, ends)
    }
    return { ...common, hostFd: kind === 'pipe-read' ? ends.read : ends.write, pipe: record.pipe }
  }
  if (isEventFile(kind)) return restoreEventFile(kind, record, eventContentIn(image, record))
  if (!record.path.startsWith('/'))
    throw new UnreadableError('the path of an open file is not absolute', { found: record.path })
  if (kind === 'regular' && files.readOnly && (record.flags & O.ACCMODE) !== 0)
    throw new LossError(`the guest has ${record.name} open for writing`, {
      file: files.rootFolder + record.path,
      hint: 'it cannot go on below a read-only root: leave --read-only out',
    })
  const restoring = options.files === 'restore-content' && kind === 'regular' && record.contentOffset !== 0n
  if (restoring) restoreContent(image, record, files)
  // What created or emptied the file then must not do it again.
  const opened = files.openHost(
    record.path,
    record.flags & ~(O.CREAT | O.EXCL | O.TRUNC),
    record.mode,
    record.name,
  )
  if (typeof opened === 'number') throw fileError(record, `it cannot be opened (errno ${-opened})`, files)
  if (opened.kind !== kind) throw fileError(record, `it is now a ${opened.kind}`, files)
  if (kind === 'regular' && options.files === 'refuse') {
    const now = OpenFiles.describe(opened.hostFd)
    // An image that came from another format knows of a file only how far the guest had got in it.
    if (record.mtime === 0n && now.size < record.offset)
      throw fileError(record, `${now.size} bytes now, at least ${record.offset} at the save`, files)
    if (record.mtime !== 0n && now.size !== record.size)
      throw fileError(record, `${now.size} bytes now, ${record.size} bytes at the save`, files)
    if (record.mtime !== 0n && now.mtime !== record.mtime)
      throw fileError(record, 'it was written to after the save', files)
  }
  const isPath = (record.flags & O.PATH) !== 0
  if (!isPath && hostCall(NR.lseek, opened.hostFd, record.offset, SEEK_SET) < 0)
    throw fileError(record, 'its offset cannot be set', files)
  return {
    ...opened,
    flags: record.flags,
    mode: record.mode,
    ...(record.writtenFrom > 0n ? { writtenFrom: record.writtenFrom } : {}),
  }
}

function fileError(record: FileRecord, difference: string, files: OpenFiles): LossError {
  return new LossError(`the open file ${record.name} is not as it was`, {
    file: files.rootFolder + record.path,
    found: difference,
    hint: '--files=reopen takes it as it is; --files=restore-content writes back what the image holds (saved with --with-files)',
  })
}

/** Writes the saved content under a temporary name and puts it in the file's place. */
function restoreContent(image: MicroVmFile, record: FileRecord, files: OpenFiles): void {
  const digest = crypto.createHash('sha256')
  for (const block of blocks(image.source, Number(record.contentOffset), Number(record.contentLength)))
    digest.update(block)
  if (!digest.digest().equals(record.contentDigest))
    throw new UnreadableError(`the saved content of ${record.name} is damaged`, { file: image.source.path })
  replaceContent(
    files,
    record.path,
    record.name,
    record.mode || 0o644,
    blocks(image.source, Number(record.contentOffset), Number(record.contentLength)),
  )
}

/** A file below the root gets a new content, whole or not at all. `target` is absolute within the root. */
export function replaceContent(
  files: OpenFiles,
  target: string,
  name: string,
  mode: number,
  content: Iterable<Uint8Array>,
): void {
  if (files.readOnly)
    throw new LossError('contents cannot be restored below a read-only root', { file: name })
  const fail = (found: string): never => {
    throw new LossError(`the content of ${name} cannot be restored`, {
      file: files.rootFolder + target,
      found,
    })
  }
  const temporary = `${target}.imago-restore`
  const fd = files.resolve(temporary, O.CREAT | O.WRONLY | O.TRUNC | O.NOFOLLOW, mode)
  if (fd < 0) fail(`it cannot be written (errno ${-fd})`)
  try {
    for (const block of content)
      for (let done = 0; done < block.length; ) done += fs.writeSync(fd, block, done)
    fs.fsyncSync(fd)
  } finally {
    hostCall(NR.close, fd)
  }
  const result = files.withParent(temporary, (from, name) =>
    files.withParent(target, (to, newName) => hostCall(264, from, name, to, newName)),
  )
  if (result < 0) fail(`it cannot be put in place (errno ${-result})`)
}

/** Where many files are watched it is 64 KiB. */
const MOST_EVENT_CONTENT = 1 << 16

function eventContentIn(image: MicroVmFile, { contentOffset, contentLength }: FileRecord): Buffer {
  if (contentLength > BigInt(MOST_EVENT_CONTENT))
    throw new UnreadableError('too much in a file of events', { found: contentLength })
  return contentLength === 0n
    ? Buffer.alloc(0)
    : Buffer.from(image.source.read(Number(contentOffset), Number(contentLength)))
}

function fillPipe(image: MicroVmFile, record: FileRecord, ends: { write: number }): void {
  const most = 1 << 16 // what a pipe holds without asking
  if (record.contentLength > BigInt(most))
    throw new UnreadableError('too much in a pipe', { found: record.contentLength })
  if (record.contentLength === 0n) return
  const content = image.source.read(Number(record.contentOffset), Number(record.contentLength))
  for (let done = 0; done < content.length; ) done += fs.writeSync(ends.write, content, done)
}
