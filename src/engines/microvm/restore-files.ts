/** The open files of an image, opened again where they stood; what a file kept in the image is put back when that is asked for. */
import crypto from 'node:crypto'
import fs from 'node:fs'
import { blocks, type MicroVmFile } from '../../formats/microvm/image-file.js'
import { type FileRecord, fileKinds } from '../../formats/microvm/record.js'
import { HostError, LossError, UnreadableError } from '../../lib/errors.js'
import { isEventFile, restoreEventFile, watchAgain } from './event-files.js'
import { hostCall, NR } from './libc.js'
import { takeLocks } from './locks.js'
import { O, type OpenFile, OpenFiles } from './open-files.js'
import { replaceContent } from './replace-content.js'

const SEEK_SET = 0

/** What to do when a file is not as it was at the save. */
export type FilePolicy =
  /** Refuse, and say which and how. */
  | 'refuse'
  /** Open it at its offset whatever it is now. */
  | 'reopen'
  /** Write back the content that the image holds. */
  | 'restore-content'

export interface RestoreFilesOptions {
  /** Undefined: the one of the image. */
  readonly rootFolder: string | undefined
  readonly readOnly: boolean
  readonly files: FilePolicy
}

/**
 * Reopens everything. Files whose content is written back come last, when all others are open and all content has been
 * checked: until then nothing of the host is changed.
 */
export function restoreFiles(image: MicroVmFile, options: RestoreFilesOptions): OpenFiles {
  const { record } = image
  const root = options.rootFolder ?? Buffer.from(record.process.rootFolder, 'latin1').toString('utf8')
  const files = new OpenFiles(root, options.readOnly || record.process.readOnly)
  try {
    files.workingDirectory = files.absolute(record.process.workingDirectory, '/')
    const opened = new Reopening(image, files, options.files).all()
    for (const [i, file] of record.files.entries())
      if (fileKinds[file.kind] === 'epoll') watchAgain(opened[i]!, eventContentIn(image, file), opened)
    for (const { fd, file, closeOnExec } of record.descriptors)
      files.place(fd, opened[file]!, closeOnExec === 1)
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

/** The open files of an image on their way to be open again. */
class Reopening {
  readonly #image: MicroVmFile
  readonly #files: OpenFiles
  readonly #policy: FilePolicy
  readonly #pipes = new Map<number, { read: number; write: number }>()

  constructor(image: MicroVmFile, files: OpenFiles, policy: FilePolicy) {
    this.#image = image
    this.#files = files
    this.#policy = policy
  }

  /** In the order of the image. */
  all(): OpenFile[] {
    const { files } = this.#image.record
    for (const record of files) if (this.#getsContent(record)) this.#checkContent(record)
    const opened = new Array<OpenFile>(files.length)
    for (const withContent of [false, true])
      for (const [i, record] of files.entries())
        if (this.#getsContent(record) === withContent) opened[i] = this.#open(record)
    return opened
  }

  #getsContent(record: FileRecord): boolean {
    return (
      this.#policy === 'restore-content' &&
      fileKinds[record.kind] === 'regular' &&
      record.contentOffset !== 0n
    )
  }

  #open(record: FileRecord): OpenFile {
    const kind = fileKinds[record.kind]!
    if (kind === 'standard')
      return { ...knownOf(record), hostFd: standardDescriptor(record), kind, references: 0 }
    if (kind === 'pipe-read' || kind === 'pipe-write') return this.#openPipe(record, kind)
    if (isEventFile(kind)) return restoreEventFile(kind, record, eventContentIn(this.#image, record))
    return this.#openByPath(record, kind)
  }

  #openPipe(record: FileRecord, kind: 'pipe-read' | 'pipe-write'): OpenFile {
    let ends = this.#pipes.get(record.pipe)
    if (ends === undefined) {
      const pair = Buffer.alloc(8)
      if (hostCall(NR.pipe2, pair, O.CLOEXEC | O.NONBLOCK) < 0) throw new HostError('no pipe can be made')
      ends = { read: pair.readInt32LE(0), write: pair.readInt32LE(4) }
      this.#pipes.set(record.pipe, ends)
    }
    if (kind === 'pipe-read') fillPipe(this.#image, record, ends)
    const hostFd = kind === 'pipe-read' ? ends.read : ends.write
    return { ...knownOf(record), hostFd, kind, pipe: record.pipe, references: 0 }
  }

  #openByPath(record: FileRecord, kind: 'regular' | 'directory'): OpenFile {
    const files = this.#files
    if (!record.path.startsWith('/'))
      throw new UnreadableError('the path of an open file is not absolute', { found: record.path })
    if (kind === 'regular' && files.readOnly && (record.flags & O.ACCMODE) !== 0)
      throw new LossError(`the guest has ${record.name} open for writing`, {
        file: files.rootFolder + record.path,
        hint: 'it cannot go on below a read-only root: leave --read-only out',
      })
    if (this.#getsContent(record))
      replaceContent(files, record.path, record.name, record.mode || 0o644, this.#content(record))
    // What created or emptied the file then must not do it again.
    const flags = record.flags & ~(O.CREAT | O.EXCL | O.TRUNC)
    const opened = files.openHost(record.path, flags, record.mode, record.name)
    if (typeof opened === 'number') throw fileError(record, `it cannot be opened (errno ${-opened})`, files)
    if (opened.kind !== kind) throw fileError(record, `it is now a ${opened.kind}`, files)
    if (kind === 'regular' && this.#policy === 'refuse') refuseChanged(record, opened, files)
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

  #checkContent(record: FileRecord): void {
    const digest = crypto.createHash('sha256')
    for (const block of this.#content(record)) digest.update(block)
    if (!digest.digest().equals(record.contentDigest))
      throw new UnreadableError(`the saved content of ${record.name} is damaged`, {
        file: this.#image.source.path,
      })
  }

  #content(record: FileRecord): Iterable<Uint8Array> {
    return blocks(this.#image.source, Number(record.contentOffset), Number(record.contentLength))
  }
}

/** What the image says of any open file. */
function knownOf({ path, name, flags, mode }: FileRecord) {
  return { path, name, flags, mode }
}

function standardDescriptor(record: FileRecord): number {
  const fd = ['stdin', 'stdout', 'stderr'].indexOf(record.path)
  if (fd < 0) throw new UnreadableError('an unknown standard stream', { found: record.path })
  return fd
}

function refuseChanged(record: FileRecord, opened: OpenFile, files: OpenFiles): void {
  const now = OpenFiles.describe(opened.hostFd)
  // An image that came from another format knows of a file only how far the guest had got in it.
  if (record.mtime === 0n && now.size < record.offset)
    throw fileError(record, `${now.size} bytes now, at least ${record.offset} at the save`, files)
  if (record.mtime !== 0n && now.size !== record.size)
    throw fileError(record, `${now.size} bytes now, ${record.size} bytes at the save`, files)
  if (record.mtime !== 0n && now.mtime !== record.mtime)
    throw fileError(record, 'it was written to after the save', files)
}

function fileError(record: FileRecord, difference: string, files: OpenFiles): LossError {
  return new LossError(`the open file ${record.name} is not as it was`, {
    file: files.rootFolder + record.path,
    found: difference,
    hint: '--files=reopen takes it as it is; --files=restore-content writes back what the image holds (saved with --with-files)',
  })
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
