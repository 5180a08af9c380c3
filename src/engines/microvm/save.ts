/** A guest that stands still → a microvm image. `restore.ts` is the way back: a field added here belongs there. */
import crypto from 'node:crypto'
import fs from 'node:fs'
import { extentsIn } from '../../formats/microvm/extents.js'
import { guestMsrs, specialRegistersFor } from '../../formats/microvm/guest-cpu.js'
import { encodeHeader } from '../../formats/microvm/header.js'
import {
  type CpuRecord,
  type CreatedTimerRecord,
  type ExtentRecord,
  type FileRecord,
  fileKinds,
  type MicroVmRecord,
} from '../../formats/microvm/record.js'
import { R } from '../../isa/x86-64-kvm.js'
import { KEPT_FLAGS } from '../../isa/x86-64-program.js'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { ImagoError } from '../../lib/errors.js'
import { eventContent, isEventFile } from './event-files.js'
import type { Guest } from './guest.js'
import { hostCall, NR } from './libc.js'
import { locksOf } from './locks.js'
import { O, type OpenFile, OpenFiles } from './open-files.js'
import { cpuTime, FIRST_CREATED, timerLeft } from './timers.js'

const SEEK_CUR = 1
const LONGEST_EXTENT = 4 << 20
const FIONREAD = 0x541b

export interface SaveOptions {
  /** Store the content of regular files, too. */
  readonly withFiles: boolean
  /** Nanoseconds since 1970. */
  readonly now: bigint
}

export interface SaveResult {
  /** Bytes of memory that are not zero. */
  readonly memoryBytes: number
  readonly totalBytes: number
}

/** Writes the image whole or not at all. The guest may go on afterwards. @throws ImagoError */
export function saveGuest(guest: Guest, path: string, options: SaveOptions): SaveResult {
  const { record, contents } = describeGuest(guest, options)
  record.extents = dataExtents(guest)
  let header = encodeHeader(record)
  const memoryBytes = Number(record.memoryBytes)
  let at = header.length + memoryBytes
  for (const [i, content] of contents) {
    const file = record.files[i]!
    file.contentOffset = BigInt(at)
    file.contentLength = BigInt(content.length)
    file.contentDigest = crypto.createHash('sha256').update(content).digest()
    at += content.length
  }
  header = encodeHeader(record)
  const { bytes } = guest.memory
  let stored = 0
  try {
    writeFileAtomically(path, fd => {
      fs.ftruncateSync(fd, at)
      writeFully(fd, header, 0)
      for (const extent of record.extents) {
        const from = Number(extent.address)
        const length = Number(extent.length)
        writeFully(fd, bytes.subarray(from, from + length), header.length + from)
        stored += length
      }
      for (const [i, content] of contents) writeFully(fd, content, Number(record.files[i]!.contentOffset))
    })
  } catch (cause) {
    throw new ImagoError('the image cannot be written', {
      file: path,
      found: (cause as Error).message,
      cause,
    })
  }
  return { memoryBytes: stored, totalBytes: at }
}

/** Everything but memory; `contents` are those of files and pipes, by index of the file. */
export function describeGuest(
  guest: Guest,
  options: SaveOptions,
): { record: MicroVmRecord; contents: Map<number, Uint8Array> } {
  const { process, memory, files } = guest
  const contents = new Map<number, Uint8Array>()
  const open = [...new Set([...files.descriptors.values()].map(({ file }) => file))]
  const record: MicroVmRecord = {
    memoryBytes: BigInt(memory.layout.totalSize),
    usableBytes: BigInt(memory.memorySize),
    cpu: cpuRecord(guest),
    process: {
      engine: guest.cpu.engine,
      name: process.name,
      rootFolder: Buffer.from(files.rootFolder, 'utf8').toString('latin1'),
      workingDirectory: files.workingDirectory,
      readOnly: files.readOnly,
      umask: process.umask,
      brkStart: BigInt(process.brkStart),
      brk: BigInt(process.brk),
      clearTid: process.clearTid,
      signalMask: process.signalMask,
      pendingSignals: process.pending.mask,
      alternateStack: process.alternateStack,
      waitLeft: process.waitLeft ?? -1n,
      savedAt: options.now,
    },
    signals: [...process.actions].map(([signal, action]) => ({ signal, ...action })),
    mappings: memory.mappings.list.map(m => ({ ...m, start: BigInt(m.start), end: BigInt(m.end) })),
    files: open.map((file, i) => {
      const content = isEventFile(file.kind) ? eventContent(file, open) : contentOf(file, options.withFiles)
      if (content !== undefined) contents.set(i, content)
      return fileRecord(file, files)
    }),
    descriptors: [...files.descriptors].map(([fd, { file, closeOnExec }]) => ({
      fd,
      file: open.indexOf(file),
      closeOnExec: closeOnExec ? 1 : 0,
    })),
    extents: [],
    realTimer: process.timers.get(0)!.at === undefined ? undefined : timerLeft(guest, 0),
    cpuTime: { used: cpuTime(guest), virtual: timerLeft(guest, 1), profiling: timerLeft(guest, 2) },
    timers: orAbsent(createdTimers(guest)),
    pending: orAbsent(process.pending.list.map(raised => ({ ...raised }))),
    locks: orAbsent(open.flatMap((file, i) => locksOf(file).map(lock => ({ ...lock, file: i })))),
    unknown: [],
  }
  return { record, contents }
}

const orAbsent = <T>(list: T[]): T[] | undefined => (list.length > 0 ? list : undefined)

function createdTimers(guest: Guest): CreatedTimerRecord[] {
  return [...guest.process.timers]
    .filter(([key]) => key >= FIRST_CREATED)
    .map(([key, { clock, signal, value, overrun }]) => ({
      ...{ id: key - FIRST_CREATED, clock, signal: signal ?? 0, value, overrun },
      ...timerLeft(guest, key),
    }))
}

function cpuRecord(guest: Guest): CpuRecord {
  const state = guest.cpu.readState()
  const { layout } = guest.memory
  const registers = state.registers.slice()
  registers[R.rflags] = (registers[R.rflags]! & KEPT_FLAGS) | 2n
  return {
    registers,
    special: specialRegistersFor(layout, state.fsBase, state.gsBase),
    msrs: guestMsrs(layout),
    xcr0: state.xcr0,
    xsave: state.xsave,
    // A program of glibc has chosen its code by a CPU that it saw; others use the x86-64 baseline.
    features: guest.process.boundToCpu ? guest.process.cpuFeatures.join(' ') : '',
  }
}

function fileRecord(file: OpenFile, files: OpenFiles): FileRecord {
  const standard = file.kind === 'standard'
  const now = standard ? { size: 0n, mtime: 0n, mode: 0 } : OpenFiles.describe(file.hostFd)
  const seekable = (file.kind === 'regular' || file.kind === 'directory') && (file.flags & O.PATH) === 0
  const { writtenFrom } = file
  return {
    kind: fileKinds.indexOf(file.kind),
    flags: file.flags,
    mode: file.mode,
    pipe: file.pipe ?? -1,
    offset: seekable ? BigInt(hostCall(NR.lseek, file.hostFd, 0, SEEK_CUR)) : 0n,
    size: file.kind === 'regular' ? now.size : 0n,
    mtime: file.kind === 'regular' ? now.mtime : 0n,
    writtenFrom: writtenFrom !== undefined && writtenFrom > 0n ? writtenFrom : 0n,
    contentOffset: 0n,
    contentLength: 0n,
    contentDigest: new Uint8Array(32),
    path: file.kind === 'regular' || file.kind === 'directory' ? files.pathNow(file) : file.path,
    name: file.name,
  }
}

/** What of a file has to be in the image: what is still in a pipe always, a regular file when asked for. */
function contentOf(file: OpenFile, withFiles: boolean): Uint8Array | undefined {
  if (file.kind === 'pipe-read') return pipeContent(file.hostFd)
  if (file.kind !== 'regular' || !withFiles) return undefined
  const { size } = OpenFiles.describe(file.hostFd)
  const content = Buffer.alloc(Number(size))
  // Opened once more: the guest's own descriptor may be for writing only.
  file.reader ??= fs.openSync(`/proc/self/fd/${file.hostFd}`, 'r')
  let done = 0
  while (done < content.length) {
    const count = fs.readSync(file.reader, content, done, content.length - done, done)
    if (count === 0) break
    done += count
  }
  return content.subarray(0, done)
}

/** Reads a pipe empty and fills it again: nobody else has its ends. */
function pipeContent(readEnd: number): Uint8Array {
  const count = Buffer.alloc(4)
  hostCall(NR.ioctl, readEnd, FIONREAD, count)
  const content = Buffer.alloc(count.readInt32LE(0))
  if (content.length === 0) return content
  hostCall(NR.read, readEnd, content, content.length)
  const writeEnd = fs.openSync(`/proc/self/fd/${readEnd}`, 'w')
  writeAll(writeEnd, content)
  fs.closeSync(writeEnd)
  return content
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(fd, bytes, done)
}

/** Of the mappings and the monitor's area: nothing else was ever written. */
function dataExtents({ memory }: Guest): ExtentRecord[] {
  const ranges = memory.mappings.list.map(({ start, end }) => ({ start, end }))
  ranges.push({ start: memory.memorySize, end: memory.layout.totalSize })
  return ranges.flatMap(({ start, end }) =>
    extentsIn(memory.bytes.subarray(start, end), start, LONGEST_EXTENT),
  )
}
