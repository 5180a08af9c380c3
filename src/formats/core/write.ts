/**
 * The model of a process → a core that gdb opens. Memory goes from where it lies to the new file by ranges;
 * zeros become holes.
 *
 *   ELF header │ page border │ segments in the order of the mappings │ content of open files │ notes │ program headers
 *
 * With imago's own notes and the registers in signal frames, so that it can be restored. Only an image that came from a core of the
 * kernel or of gcore stays without: what they would say is not in it.
 *
 * `rewrite` makes the core that an image was read from this core: what is new goes behind its end, and is synced before the
 * ELF header leads there. So the file is one of the two images at any moment.
 */
import fs from 'node:fs'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import { type ByteSource, FileSource } from '../../lib/byte-source.js'
import { alignUp } from '../../lib/bytes.js'
import {
  ELF_HEADER_SIZE,
  EM,
  ET,
  PF,
  type ProgramHeader,
  PT,
  writeElfHeader,
  writeProgramHeaders,
} from '../../lib/elf-header.js'
import { LossError, UsageError } from '../../lib/errors.js'
import { lockFile } from '../../lib/libc.js'
import { copySparse } from '../../lib/sparse.js'
import { type Extent, PAGE_SIZE } from '../../model/memory.js'
import type { Process, ProcessImage } from '../../model/process.js'
import { writeExtent } from '../extent-file.js'
import type { Loss, WriteOptions } from '../format.js'
import { OwnRecords, type PlacedContent } from './own-records.js'
import { type PlacedMapping, placeMappings } from './placement.js'
import type { RecordsByKind } from './private-notes.js'
import type { RawCore } from './raw.js'
import { read } from './read.js'
import { sleeping } from './sleeping.js'
import { allNotes, SEAL_NOTE_SIZE, sealNote } from './write-notes.js'

/** imago's own records for the new file, once it is known where everything lies; the seal is added after them. */
export type RecordsOf = (
  placed: readonly PlacedMapping[],
  content: ReadonlyMap<number, PlacedContent>,
) => RecordsByKind

/** Bytes of an open file that a core keeps, and where they come from. */
interface KeptContent extends PlacedContent {
  readonly id: number
  readonly source: ByteSource
}

/** What is to be written: one process of an image, asleep. */
interface Content {
  readonly image: ProcessImage
  readonly process: Process
  readonly recordsOf?: RecordsOf | undefined
  readonly kept: readonly KeptContent[]
}

/**
 * @throws LossError when the image holds several processes and `options.pid` names none of them, or a thread's stack has no room
 *   for its registers.
 */
export async function write(
  image: ProcessImage,
  path: string,
  options: WriteOptions,
): Promise<readonly Loss[]> {
  const process = chosenProcess(image, options.options.pid)
  const raw = coreOf(image)
  if (raw !== undefined && raw.records.size === 0) {
    writeCore(path, image, process)
    return losses(image, process)
  }
  return withContent(image, process, raw, content => {
    writeFileAtomically(path, fd => commit(fd, appendCore(fd, PAGE_SIZE, content)))
  })
}

/** Makes `target` the same core in its plain form: all bytes of a mapping at one place, and none that it has no use for. */
export async function copyPlain(source: string, target: string): Promise<void> {
  const image = await read(source)
  try {
    if (coreOf(image)?.records.has('moved')) await write(image, target, { options: {} })
    else copySparse(source, target)
  } finally {
    for (const { memory } of image.processes) memory.close()
  }
}

/**
 * Makes the file that `image` was read from, a core of imago's own, the core of `image`.
 * @throws UsageError when it is another file by now, or somebody else is rewriting it; LossError as `write`.
 */
export async function rewrite(image: ProcessImage, path: string): Promise<readonly Loss[]> {
  const raw = coreOf(image)
  const seal = raw?.records.get('seal')?.[0]
  if (raw === undefined || seal === undefined || !(raw.source instanceof FileSource))
    throw new UsageError('only a core that imago wrote can change in place', { file: path })
  const { source } = raw
  return withContent(image, chosenProcess(image, undefined), raw, content => {
    const fd = fs.openSync(path, 'r+')
    try {
      refuseOtherFile(fd, source, raw, path)
      commit(fd, appendOrLeave(fd, seal.number('fileSize'), content, raw))
    } finally {
      fs.closeSync(fd)
    }
  })
}

/** When there is no room for the new core, the file is as long as it was. */
function appendOrLeave(fd: number, end: number, content: Content, base: RawCore): Uint8Array {
  try {
    fs.ftruncateSync(fd, end) // another may have died here
    return appendCore(fd, end, content, base)
  } catch (error) {
    fs.ftruncateSync(fd, end)
    throw error
  }
}

/** Two that append to one file would spoil each other's image, and with it the only one that there is. */
function refuseOtherFile(fd: number, source: FileSource, raw: RawCore, path: string): void {
  if (!lockFile(fd))
    throw new UsageError('somebody else is changing the image', {
      file: path,
      hint: 'another imago retarget, or the program that has just written it; or it is of a program that an older imago compiled: use -o',
    })
  const [mine, read] = [fs.fstatSync(fd), fs.fstatSync(source.fd)]
  const header = new Uint8Array(ELF_HEADER_SIZE)
  fs.readSync(fd, header, 0, header.length, 0)
  if (mine.ino !== read.ino || mine.dev !== read.dev || Buffer.compare(header, raw.headerBytes) !== 0)
    throw new UsageError('the image is not the one that was read: somebody has changed it since', {
      file: path,
      hint: 'a compressed image must be unpacked first: imago convert IMAGE --to core -o FILE',
    })
}

function coreOf(image: ProcessImage): RawCore | undefined {
  return image.origin.format === 'core' ? (image.origin.raw as RawCore | undefined) : undefined
}

/** Lets `work` write the process, asleep and with imago's own records. */
function withContent(
  image: ProcessImage,
  process: Process,
  raw: RawCore | undefined,
  work: (content: Content) => void,
): readonly Loss[] {
  const asleep = sleeping(process, image.isa, raw?.isa === image.isa ? raw : undefined)
  try {
    const own = new OwnRecords(image, asleep.process, asleep.frames, raw)
    work({
      image,
      process: asleep.process,
      recordsOf: (placed, content) => own.of(placed, content),
      kept: keptContent(raw),
    })
    return [...otherProcesses(image, process), ...own.losses]
  } finally {
    asleep.close()
  }
}

function keptContent(raw: RawCore | undefined): KeptContent[] {
  return (raw?.records.get('description') ?? []).flatMap(record => {
    const size = record.number('contentSize')
    const [id, offset] = [record.number('id'), record.number('contentOffset')]
    return size > 0 ? [{ id, source: raw!.source, offset, size }] : []
  })
}

function chosenProcess(image: ProcessImage, pid: unknown): Process {
  const living = image.processes.filter(process => process.state !== 'zombie')
  const chosen =
    pid === undefined
      ? living.length === 1
        ? living[0]
        : undefined
      : living.find(process => process.pid === Number(pid))
  if (chosen === undefined)
    throw new LossError('a core holds one process', {
      found: `${living.length} processes: ${living.map(process => process.pid).join(', ')}`,
      hint: 'choose one with --pid',
    })
  return chosen
}

function otherProcesses(image: ProcessImage, process: Process): Loss[] {
  return image.processes
    .filter(other => other !== process)
    .map(other => ({ kind: 'dropped', subject: `pid ${other.pid}`, field: 'process', detail: other.name }))
}

/** Of a core without imago's own notes. */
function losses(image: ProcessImage, process: Process): Loss[] {
  const subject = `pid ${process.pid}`
  const dropped = (count: number, field: string, detail: string): Loss[] =>
    count > 0 ? [{ kind: 'dropped', subject, field, detail: `${count}${detail}` }] : []
  return [
    ...otherProcesses(image, process),
    ...dropped(process.files.length, 'files', ' descriptors: a core has no place for them'),
    ...dropped(process.signalActions.size, 'signal actions', ''),
  ]
}

/** Writes the core under a temporary name, syncs and renames it. */
export function writeCore(path: string, image: ProcessImage, process: Process, recordsOf?: RecordsOf): void {
  writeFileAtomically(path, fd =>
    commit(fd, appendCore(fd, PAGE_SIZE, { image, process, recordsOf, kept: [] })),
  )
}

/**
 * Writes all of a core but its ELF header from `from` on, syncs it, and returns that header.
 * @param base the core that the file holds already: what did not change of its memory stays where it is.
 */
function appendCore(fd: number, from: number, content: Content, base?: RawCore): Uint8Array {
  const { image, process, recordsOf } = content
  const { mappings, end: memoryEnd } = placeMappings(process, from, base)
  const places = new Map<number, PlacedContent>()
  let end = memoryEnd
  for (const { id, source, offset, size } of content.kept) {
    const stays = source === base?.source
    places.set(id, { offset: stays ? offset : end, size })
    if (!stays) end = alignUp(end + size, PAGE_SIZE)
  }
  fs.ftruncateSync(fd, end)
  writeMemory(fd, process, mappings)
  for (const { id, source, offset, size } of content.kept)
    if (source !== base?.source) writeExtent(fd, slice(source, offset, size), places.get(id)!.offset)

  const notesOffset = end
  const notes = allNotes(image, process, recordsOf?.(mappings, places) ?? new Map())
  const notesSize = notes.length + (recordsOf ? SEAL_NOTE_SIZE : 0)
  const headersOffset = alignUp(notesOffset + notesSize, 8)
  const segments = [noteSegment(notesOffset, notesSize), ...mappings.flatMap(loadSegments)]
  const headers = writeProgramHeaders(segments)
  const machine = image.isa === 'x86-64' ? EM.X86_64 : EM.AARCH64
  const elfHeader = writeElfHeader({ type: ET.CORE, machine }, headersOffset, segments.length)
  writeFully(fd, notes, notesOffset)
  if (recordsOf) {
    const fileSize = headersOffset + headers.length
    const places = { fileSize, notesOffset, headersOffset, headersCount: segments.length }
    writeFully(fd, sealNote({ ...places, notes, headers, elfHeader }), notesOffset + notes.length)
  }
  writeFully(fd, headers, headersOffset)
  fs.fdatasyncSync(fd)
  return elfHeader
}

/** From here on the file is the new core. */
function commit(fd: number, elfHeader: Uint8Array): void {
  writeFully(fd, elfHeader, 0)
  fs.fsyncSync(fd)
}

function writeMemory(fd: number, { memory }: Process, placed: readonly PlacedMapping[]): void {
  for (const { mapping, offset, kept, moved } of placed)
    for (const run of kept ? moved : [{ start: mapping.start, end: mapping.end, offset }])
      for (const extent of memory.within(run.start, run.end))
        writeExtent(fd, extent, run.offset + Number(extent.address - run.start))
}

function slice(source: ByteSource, offset: number, length: number): Extent {
  return { address: 0n, length, content: { kind: 'slice', source, offset } }
}

function noteSegment(offset: number, size: number): ProgramHeader {
  return {
    type: PT.NOTE,
    flags: 0,
    offset,
    virtualAddress: 0n,
    physicalAddress: 0n,
    fileSize: size,
    memorySize: 0,
    alignment: 4,
  }
}

/** One, or more where its bytes lie in several places. */
function loadSegments({ mapping, offset, size, moved }: PlacedMapping): ProgramHeader[] {
  const { start, end } = mapping
  const segment = (from: bigint, to: bigint, place: number): ProgramHeader => ({
    type: PT.LOAD,
    flags: (mapping.read ? PF.R : 0) | (mapping.write ? PF.W : 0) | (mapping.execute ? PF.X : 0),
    offset: place,
    virtualAddress: from,
    physicalAddress: 0n,
    fileSize: size === 0 ? 0 : Number(to - from),
    memorySize: Number(to - from),
    alignment: PAGE_SIZE,
  })
  const segments: ProgramHeader[] = []
  let at = start
  const keptUpTo = (address: bigint) => {
    if (address > at) segments.push(segment(at, address, offset + Number(at - start)))
  }
  for (const run of moved) {
    keptUpTo(run.start)
    segments.push(segment(run.start, run.end, run.offset))
    at = run.end
  }
  keptUpTo(end)
  return segments
}
