/**
 * The open files of a guest: descriptor → open file (shared by dup) → descriptor of the host.
 * Every path is resolved below the root folder by openat2(2) with RESOLVE_IN_ROOT: neither `..`, nor an absolute
 * path, nor a symlink, nor a rename at the wrong moment leads out of it.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { fileKinds } from '../../formats/microvm/record.js'
import { UsageError } from '../../lib/errors.js'
import { cPath, hostCall, NR } from './libc.js'
import { dropRecordLocks } from './record-locks.js'

const { EACCES, EBADF, EMFILE, ENOENT, EROFS, ETXTBSY } = os.constants.errno

export const O = {
  ACCMODE: 3,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  LARGEFILE: 0o100000,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  TMPFILE: 0o20200000,
} as const
const RESOLVE_NO_MAGICLINKS = 2
const RESOLVE_IN_ROOT = 0x10
const AT_EMPTY_PATH = 0x1000
export const MOST_FILES = 1024
/** f_type of statfs(2) for /proc. */
const PROC_SUPER_MAGIC = 0x9fa0n
/** Flags of open(2) that a guest may give; the rest (O_DIRECT, O_ASYNC, …) are dropped. */
const FLAGS_PASSED =
  O.ACCMODE | O.CREAT | O.EXCL | O.TRUNC | O.APPEND | O.LARGEFILE | O.DIRECTORY | O.NOFOLLOW
/** openat2(2) refuses any other beside O_PATH. */
const FLAGS_WITH_PATH = O.PATH | O.DIRECTORY | O.NOFOLLOW

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000

/** Without set-user-ID and set-group-ID: what a guest makes must not become whoever runs the monitor. */
export const allowedMode = (mode: bigint): bigint => mode & 0o1777n

export type OpenFileKind = (typeof fileKinds)[number]

/** POSIX's open file description. */
export interface OpenFile {
  readonly kind: OpenFileKind
  hostFd: number
  /** Seen from the guest's root, normalised; 'stdin', 'stdout', 'stderr' for the standard streams. */
  readonly path: string
  /** As the guest spelt it. */
  readonly name: string
  /** O_* as the guest gave them. */
  flags: number
  readonly mode: number
  /** Descriptors that share it. */
  references: number
  /** For the two ends of a pipe: a number that they share. */
  readonly pipe?: number
  /** A second descriptor of the host's, by which its content was read. Closing it takes the guest's locks: so it stays. */
  reader?: number
  /** Of a signalfd: the signals that it takes; bit n−1 is signal n. */
  signals?: bigint
  /** Where the byte at offset 0 stood in guest memory when it was written; the ScratchVM's images want it. */
  writtenFrom?: bigint
}

export interface GuestDescriptor {
  readonly file: OpenFile
  closeOnExec: boolean
}

export class OpenFiles {
  readonly rootFolder: string
  readonly readOnly: boolean
  readonly descriptors = new Map<number, GuestDescriptor>()
  /** `identityOf` the image that the guest's memory is mapped from. */
  ownImage: string | undefined
  /** The current folder, absolute within the root. */
  workingDirectory = '/'
  readonly #root: number
  #pipes = 0

  /** @throws UsageError when the root is no folder. */
  constructor(rootFolder: string, readOnly: boolean) {
    this.rootFolder = path.resolve(rootFolder)
    this.readOnly = readOnly
    // openat2 for the root itself must not be confined: a plain open.
    this.#root = hostCall(2, Buffer.from(`${this.rootFolder}\0`), O.PATH | O.DIRECTORY | O.CLOEXEC)
    if (this.#root < 0)
      throw new UsageError('the root folder of the guest cannot be opened', { file: this.rootFolder })
  }

  /** Connects 0, 1 and 2 to those of the monitor. */
  connectStandardStreams(): void {
    for (const [fd, name] of ['stdin', 'stdout', 'stderr'].entries())
      this.place(fd, {
        kind: 'standard',
        hostFd: fd,
        path: name,
        name,
        flags: fd === 0 ? 0 : O.WRONLY,
        mode: 0,
        references: 0,
      })
  }

  get(fd: number): OpenFile | undefined {
    return this.descriptors.get(fd)?.file
  }

  /** The absolute form of a guest's path, `.` and doubled slashes gone; `..` is left to the kernel. */
  absolute(guestPath: string, from = this.workingDirectory): string {
    const whole = guestPath.startsWith('/') ? guestPath : `${from}/${guestPath}`
    return `/${whole
      .split('/')
      .filter(part => part !== '' && part !== '.')
      .join('/')}`
  }

  /** Where a file or folder is now, seen from the root: it may have been renamed since it was opened. One that is gone is where it was. */
  pathNow({ hostFd, path }: OpenFile): string {
    if (fs.fstatSync(hostFd).nlink === 0) return path
    const [root, now] = [this.#root, hostFd].map(fd => fs.readlinkSync(`/proc/self/fd/${fd}`, 'latin1'))
    const below = root === '/' ? '' : root!
    return now === root ? '/' : now!.startsWith(`${below}/`) ? now!.slice(below.length) : path
  }

  /** openat2 within the root. Returns a host descriptor or minus errno. */
  resolve(absolutePath: string, flags: number, mode = 0): number {
    const how = Buffer.alloc(24) // flags, mode, resolve
    how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0)
    how.writeBigUInt64LE(BigInt(mode), 8)
    how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), 16)
    return hostCall(NR.openat2, this.#root, cPath(absolutePath), how, how.length)
  }

  /** Opens for the guest. Returns its descriptor or minus errno. */
  open(absolutePath: string, flags: number, mode: number, name = absolutePath): number {
    if ((flags & O.TMPFILE) === O.TMPFILE) return -os.constants.errno.EOPNOTSUPP
    if (this.readOnly && (flags & (O.ACCMODE | O.CREAT | O.TRUNC)) !== 0) return -EROFS
    if ((flags & (O.ACCMODE | O.TRUNC)) !== 0 && this.isOwnImage(absolutePath)) return -ETXTBSY
    const opened = this.openHost(absolutePath, flags, mode, name)
    if (typeof opened === 'number') return opened
    return this.placeLowest(opened, (flags & O.CLOEXEC) !== 0)
  }

  /** The same without giving it a descriptor. */
  openHost(absolutePath: string, flags: number, mode: number, name = absolutePath): OpenFile | number {
    // A guest's FIFO would block the monitor: opened without waiting, then refused. With O_PATH nothing is opened.
    const isPath = (flags & O.PATH) !== 0
    const passed = isPath ? flags & FLAGS_WITH_PATH : (flags & FLAGS_PASSED) | O.NONBLOCK
    const creating = !isPath && (flags & O.CREAT) !== 0
    const fd = this.resolve(absolutePath, passed, creating ? Number(allowedMode(BigInt(mode))) : 0)
    if (fd < 0) return fd
    const type = modeOf(fd) & S_IFMT
    // The host's /proc shows the monitor, and would let its memory be written.
    if ((type !== S_IFREG && type !== S_IFDIR) || isInProc(fd)) {
      hostCall(NR.close, fd)
      return -EACCES
    }
    const kind = type === S_IFDIR ? 'directory' : 'regular'
    return { kind, hostFd: fd, path: absolutePath, name, flags, mode, references: 0 }
  }

  /** True for the image that the guest's memory is mapped from: it would change, or lose, its own memory. */
  isOwnImage(absolutePath: string): boolean {
    if (this.ownImage === undefined) return false
    return this.withPath(absolutePath, true, fd => (identityOf(fd) === this.ownImage ? 1 : 0)) === 1
  }

  /** Lowest free descriptor from `from` on. */
  placeLowest(file: OpenFile, closeOnExec: boolean, from = 0): number {
    let fd = from
    while (this.descriptors.has(fd)) fd++
    if (fd >= MOST_FILES) {
      if (file.references === 0) hostCall(NR.close, file.hostFd)
      return -EMFILE
    }
    this.place(fd, file, closeOnExec)
    return fd
  }

  place(fd: number, file: OpenFile, closeOnExec = false): void {
    file.references++
    this.descriptors.set(fd, { file, closeOnExec })
  }

  close(fd: number): number {
    const descriptor = this.descriptors.get(fd)
    if (descriptor === undefined) return -EBADF
    this.descriptors.delete(fd)
    const { file } = descriptor
    // The standard streams belong to the monitor.
    if (file.kind === 'standard' || --file.references > 0) {
      if (file.kind === 'regular') dropRecordLocks(file)
      return 0
    }
    if (file.reader !== undefined) hostCall(NR.close, file.reader)
    return hostCall(NR.close, file.hostFd)
  }

  /** A number for the two ends of a fresh pipe. */
  newPipe(): number {
    const used = [...this.descriptors.values()].map(({ file }) => file.pipe ?? -1)
    this.#pipes = Math.max(this.#pipes, ...used) + 1
    return this.#pipes
  }

  /**
   * Calls `act` with the host descriptor of the folder that holds the last part of the path, and that part.
   * For calls that work on names (unlink, mkdir, rename): they never follow the last part.
   */
  withParent(absolutePath: string, act: (parent: number, name: Buffer) => number): number {
    const cut = absolutePath.lastIndexOf('/')
    const name = absolutePath.slice(cut + 1)
    if (name === '') return -os.constants.errno.EBUSY
    const parent = this.resolve(absolutePath.slice(0, cut) || '/', O.PATH | O.DIRECTORY)
    if (parent < 0) return parent
    try {
      return act(parent, cPath(name))
    } finally {
      hostCall(NR.close, parent)
    }
  }

  /** Calls `act` with a host descriptor (O_PATH) of what the path names. */
  withPath(absolutePath: string, follow: boolean, act: (fd: number) => number): number {
    const fd = this.resolve(absolutePath, O.PATH | (follow ? 0 : O.NOFOLLOW))
    if (fd < 0) return fd
    try {
      return act(fd)
    } finally {
      hostCall(NR.close, fd)
    }
  }

  /** Where a path relative to a descriptor begins; AT_FDCWD is −100. */
  startOf(dirFd: number): string | number {
    if (dirFd === -100) return this.workingDirectory
    const file = this.get(dirFd)
    if (file === undefined) return -EBADF
    return file.kind === 'directory' ? file.path : -os.constants.errno.ENOTDIR
  }

  /** Size and modification time (nanoseconds) of what an open file is now. */
  static describe(hostFd: number): { size: bigint; mtime: bigint; mode: number } {
    const stat = Buffer.alloc(144)
    hostCall(NR.fstat, hostFd, stat)
    return {
      mode: stat.readUInt32LE(24),
      size: stat.readBigUInt64LE(48),
      mtime: stat.readBigUInt64LE(88) * 1_000_000_000n + stat.readBigUInt64LE(96),
    }
  }

  /** Closes everything of the host's. */
  release(): void {
    for (const fd of [...this.descriptors.keys()]) this.close(fd)
    hostCall(NR.close, this.#root)
  }
}

/** Which file it is, by whatever name: device and inode. */
export function identityOf(hostFd: number): string {
  const { dev, ino } = fs.fstatSync(hostFd, { bigint: true })
  return `${dev}:${ino}`
}

function isInProc(fd: number): boolean {
  const status = Buffer.alloc(120) // struct statfs: type u64, …
  hostCall(NR.fstatfs, fd, status)
  return status.readBigUInt64LE(0) === PROC_SUPER_MAGIC
}

function modeOf(fd: number): number {
  return OpenFiles.describe(fd).mode
}

export { AT_EMPTY_PATH, ENOENT }
