/** The open files of an image, opened again where they stood; what a file kept in the image is put back when that is asked for. */
import crypto from 'node:crypto'
import fs from 'node:fs'
import { blocks, type MicroVmFile } from '../../formats/microvm/image-file.js'
import { type FileRecord, fileKinds, type MicroVmRecord } from '../../formats/microvm/record.js'
import { HostError, LossError, UnreadableError } from '../../lib/errors.js'
import { isEventFile, restoreEventFile, watchAgain } from './event-files.js'
import { hostCall, NR } from './libc.js'
import { takeLocks } from './locks.js'
import { O, type OpenFile, OpenFiles } from './open-files.js'

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

/** Reopens everything, in the order of the image. Nothing of the host is changed before all checks are done. */
export function restoreFiles(image: MicroVmFile, options: RestoreFilesOptions): OpenFiles {
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
  options: RestoreFilesOptions,
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
