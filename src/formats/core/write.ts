/**
 * The model of a process → a core that gdb opens. Memory goes from where it lies to the new file by ranges;
 * zeros become holes.
 *
 *   ELF header │ program headers │ notes │ page border │ segments in the order of the mappings │ content of open files
 *
 * With imago's own notes and the registers in signal frames, so that it can be restored. Only an image that came from a core of the
 * kernel or of gcore stays without: what they would say is not in it.
 */
import fs from 'node:fs'
import { crc32 } from 'node:zlib'
import { writeFileAtomically, writeFully } from '../../lib/atomic-file.js'
import type { ByteSource } from '../../lib/byte-source.js'
import { alignUp, ByteWriter } from '../../lib/bytes.js'
import {
  EM,
  ET,
  elfHeadersSize,
  type Note,
  PF,
  type ProgramHeader,
  PT,
  writeElfHeaders,
  writeNotes,
} from '../../lib/elf-header.js'
import { LossError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { Mapping, Process, ProcessImage, Thread } from '../../model/process.js'
import { writeExtent } from '../extent-file.js'
import type { Loss, WriteOptions } from '../format.js'
import { NOTE_NAME } from './note-layout.js'
import { ownRecords, type PlacedContent } from './own-records.js'
import { encodeRecords, makeRecord, type NoteRecord, recordKindNamed } from './private-notes.js'
import type { RawCore } from './raw.js'
import { sleeping } from './sleeping.js'
import {
  NT,
  writeAuxv,
  writeFpsimd,
  writeMappedFiles,
  writeProcessInfo,
  writeThreadStatus,
  writeXsave,
} from './standard-notes.js'

type PlainNote = Omit<Note, 'offset'>

/** A mapping and where its bytes go in the new file. */
export interface PlacedMapping {
  readonly mapping: Mapping
  readonly offset: number
  /** 0 when the image holds nothing of it. */
  readonly size: number
}

/** imago's own records for the new file, once it is known where everything lies; the seal is added after them. */
export type RecordsOf = (
  placed: readonly PlacedMapping[],
  content: ReadonlyMap<number, PlacedContent>,
) => ReadonlyMap<string, readonly NoteRecord[]>

/** Bytes of an open file that a core keeps, and where they come from. */
interface KeptContent {
  readonly id: number
  readonly source: ByteSource
  readonly offset: number
  readonly size: number
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
  const raw = image.origin.format === 'core' ? (image.origin.raw as RawCore | undefined) : undefined
  if (raw !== undefined && raw.records.size === 0) {
    writeCore(path, image, process)
    return losses(image, process)
  }
  const asleep = sleeping(process, image.isa, raw?.isa === image.isa ? raw : undefined)
  try {
    const own = ownRecords(image, asleep.process, asleep.frames, raw)
    writeCore(path, image, asleep.process, own.of, keptContent(raw))
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
export function writeCore(
  path: string,
  image: ProcessImage,
  process: Process,
  recordsOf?: RecordsOf,
  content: readonly KeptContent[] = [],
): void {
  const held = process.mappings.filter(mapping => mapping.kind !== 'vsyscall' && mapping.kind !== 'vvar')
  // The size of the notes does not depend on the offsets in them, so a first pass with offset 0 tells it.
  const draft = placeMappings(process, held, 0)
  const notesOffset = elfHeadersSize(held.length + 1)
  const draftNotes = allNotes(image, process, draft, placeContent(content, 0), recordsOf)
  const notesSize = draftNotes.length + (recordsOf ? SEAL_NOTE_SIZE : 0)
  const placed = placeMappings(process, held, alignUp(notesOffset + notesSize, PAGE_SIZE))
  const last = placed.at(-1)
  const memoryEnd = last ? last.offset + last.size : alignUp(notesOffset + notesSize, PAGE_SIZE)
  const places = placeContent(content, alignUp(memoryEnd, PAGE_SIZE))
  const fileSize = Math.max(memoryEnd, ...[...places.values()].map(({ offset, size }) => offset + size))
  const segments = [noteSegment(notesOffset, notesSize), ...placed.map(loadSegment)]
  const headers = writeElfHeaders(
    { type: ET.CORE, machine: image.isa === 'x86-64' ? EM.X86_64 : EM.AARCH64 },
    segments,
  )
  const notes = allNotes(image, process, placed, places, recordsOf)
  writeFileAtomically(path, fd => {
    fs.ftruncateSync(fd, fileSize)
    for (const { mapping, offset } of placed)
      for (const extent of process.memory.within(mapping.start, mapping.end))
        writeExtent(fd, extent, offset + Number(extent.address - mapping.start))
    for (const { id, source, offset, size } of content)
      writeExtent(
        fd,
        { address: 0n, length: size, content: { kind: 'slice', source, offset } },
        places.get(id)!.offset,
      )
    writeFully(fd, headers, 0)
    writeFully(fd, notes, notesOffset)
    if (recordsOf)
      writeFully(
        fd,
        sealNote(fileSize, notesOffset, notesSize, headers, notes, segments.length),
        notesOffset + notes.length,
      )
  })
}

function placeMappings(process: Process, mappings: readonly Mapping[], from: number): PlacedMapping[] {
  let at = from
  return mappings.map(mapping => {
    const holdsSome = !process.memory.within(mapping.start, mapping.end).next().done
    const size = holdsSome ? Number(mapping.end - mapping.start) : 0
    const placed = { mapping, offset: at, size }
    at += alignUp(size, PAGE_SIZE)
    return placed
  })
}

function placeContent(content: readonly KeptContent[], from: number): Map<number, PlacedContent> {
  let at = from
  return new Map(
    content.map(({ id, size }) => {
      const place = { offset: at, size }
      at += alignUp(size, PAGE_SIZE)
      return [id, place]
    }),
  )
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

function loadSegment({ mapping, offset, size }: PlacedMapping): ProgramHeader {
  const flags = (mapping.read ? PF.R : 0) | (mapping.write ? PF.W : 0) | (mapping.execute ? PF.X : 0)
  const memorySize = Number(mapping.end - mapping.start)
  return {
    type: PT.LOAD,
    flags,
    offset,
    virtualAddress: mapping.start,
    physicalAddress: 0n,
    fileSize: size,
    memorySize,
    alignment: PAGE_SIZE,
  }
}

function allNotes(
  image: ProcessImage,
  process: Process,
  placed: readonly PlacedMapping[],
  content: ReadonlyMap<number, PlacedContent>,
  recordsOf: RecordsOf | undefined,
): Uint8Array {
  const [first, ...others] = process.threads
  const notes: PlainNote[] = [
    ...(first ? threadNotes(image, process, first) : []),
    { name: 'CORE', type: NT.PRPSINFO, descriptor: processInfo(process) },
    { name: 'CORE', type: NT.AUXV, descriptor: writeAuxv(process.layout.auxv) },
    { name: 'CORE', type: NT.FILE, descriptor: mappedFiles(process) },
    ...others.flatMap(thread => threadNotes(image, process, thread)),
  ]
  for (const [name, records] of recordsOf?.(placed, content) ?? []) {
    const kind = recordKindNamed(name)
    if (records.length > 0)
      notes.push({ name: NOTE_NAME, type: kind.noteType, descriptor: encodeRecords(kind, records) })
  }
  return writeNotes(notes)
}

function threadNotes(image: ProcessImage, process: Process, thread: Thread): PlainNote[] {
  const { vector, general } = thread.registers
  const status = writeThreadStatus(
    {
      signal: 0,
      pendingSignals: 0n,
      signalMask: thread.signalMask,
      tid: thread.tid,
      parent: process.parent,
      processGroup: process.processGroup,
      session: process.session,
      times: [],
      registers: general,
    },
    image.isa,
  )
  const notes: PlainNote[] = [{ name: 'CORE', type: NT.PRSTATUS, descriptor: status }]
  if (vector?.isa === 'x86-64') {
    notes.push({ name: 'CORE', type: NT.FPREGSET, descriptor: vector.fxsave.subarray(0, 512) })
    notes.push({ name: 'LINUX', type: NT.X86_XSTATE, descriptor: writeXsave(vector) })
  }
  if (vector?.isa === 'aarch64')
    notes.push({ name: 'CORE', type: NT.FPREGSET, descriptor: writeFpsimd(vector) })
  const tls = general.get('tpidr_el0')
  if (tls !== undefined)
    notes.push({ name: 'LINUX', type: NT.ARM_TLS, descriptor: new ByteWriter(8).u64(tls).finish() })
  return notes
}

function processInfo(process: Process): Uint8Array {
  const { pid, parent, processGroup, session, name, credentials } = process
  const state = process.state === 'stopped' ? 'T' : 'R'
  return writeProcessInfo({
    state,
    nice: 0,
    uid: credentials?.uid ?? 0,
    gid: credentials?.gid ?? 0,
    pid,
    parent,
    processGroup,
    session,
    name,
    arguments: argumentsOf(process),
  })
}

/** The command line, from the memory of the process itself where the image holds it. */
function argumentsOf(process: Process): string {
  const { argStart, argEnd } = process.layout
  const length = Math.min(Number(argEnd - argStart), 80)
  const bytes = length > 0 ? process.memory.tryRead(argStart, length) : undefined
  return bytes ? Buffer.from(bytes).toString('utf8').replaceAll('\0', ' ').trim() : process.name
}

function mappedFiles(process: Process): Uint8Array {
  return writeMappedFiles(
    process.mappings.flatMap(({ start, end, file }) =>
      file && file.offset % BigInt(PAGE_SIZE) === 0n
        ? [{ start, end, offset: file.offset, path: file.path }]
        : [],
    ),
  )
}

const seal = recordKindNamed('seal')
const SEAL_NOTE_SIZE = writeNotes([
  { name: NOTE_NAME, type: seal.noteType, descriptor: encodeRecords(seal, [makeRecord(seal, {})]) },
]).length

function sealNote(
  fileSize: number,
  notesOffset: number,
  notesSize: number,
  headers: Uint8Array,
  notes: Uint8Array,
  segmentCount: number,
): Uint8Array {
  const values = {
    fileSize,
    notesOffset,
    notesSize,
    headersOffset: 64,
    headersCount: segmentCount,
    notesChecksum: crc32(notes),
    headersChecksum: crc32(headers.subarray(64)),
    elfChecksum: crc32(headers.subarray(0, 64)),
  }
  const unsealed = encodeRecords(seal, [makeRecord(seal, values)])
  // The last field is a checksum of the record before it; the record ends the descriptor.
  const record = unsealed.subarray(16)
  const sealChecksum = crc32(record.subarray(0, record.length - 4))
  return writeNotes([
    {
      name: NOTE_NAME,
      type: seal.noteType,
      descriptor: encodeRecords(seal, [makeRecord(seal, { ...values, sealChecksum })]),
    },
  ])
}
