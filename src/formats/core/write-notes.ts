/** The notes of a core that is written: the kernel's own kinds, as its cores have them, then imago's, the seal last. */
import { crc32 } from 'node:zlib'
import { ByteWriter } from '../../lib/bytes.js'
import { type Note, writeNotes } from '../../lib/elf-header.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { Process, ProcessImage, Thread } from '../../model/process.js'
import { NOTE_HEADER_SIZE, NOTE_NAME } from './note-layout.js'
import { encodeRecords, makeRecord, type NoteRecord, recordKindNamed } from './private-notes.js'
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

/** All but the seal. */
export function allNotes(
  image: ProcessImage,
  process: Process,
  records: ReadonlyMap<string, readonly NoteRecord[]>,
): Uint8Array {
  const [first, ...others] = process.threads
  const notes: PlainNote[] = [
    ...(first ? threadNotes(image, process, first) : []),
    { name: 'CORE', type: NT.PRPSINFO, descriptor: processInfo(process) },
    { name: 'CORE', type: NT.AUXV, descriptor: writeAuxv(process.layout.auxv) },
    { name: 'CORE', type: NT.FILE, descriptor: mappedFiles(process) },
    ...others.flatMap(thread => threadNotes(image, process, thread)),
  ]
  for (const [name, ofKind] of records) if (ofKind.length > 0) notes.push(privateNote(name, ofKind))
  return writeNotes(notes)
}

function privateNote(name: string, records: readonly NoteRecord[]): PlainNote {
  const kind = recordKindNamed(name)
  return { name: NOTE_NAME, type: kind.noteType, descriptor: encodeRecords(kind, records) }
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

/** What the seal of an image says, and what its checksums are of. */
export interface Sealed {
  readonly fileSize: number
  readonly notesOffset: number
  readonly notes: Uint8Array
  readonly headersOffset: number
  readonly headersCount: number
  /** The program headers, with the section header behind them where there is one. */
  readonly headers: Uint8Array
  readonly elfHeader: Uint8Array
}

export const SEAL_NOTE_SIZE = writeNotes([privateNote('seal', [makeRecord('seal', {})])]).length

/** The note that seals all others and the headers with checksums; it is the last. */
export function sealNote(sealed: Sealed): Uint8Array {
  const kind = recordKindNamed('seal')
  const values = {
    fileSize: sealed.fileSize,
    notesOffset: sealed.notesOffset,
    notesSize: sealed.notes.length + SEAL_NOTE_SIZE,
    headersOffset: sealed.headersOffset,
    headersCount: sealed.headersCount,
    notesChecksum: crc32(sealed.notes),
    headersChecksum: crc32(sealed.headers),
    elfChecksum: crc32(sealed.elfHeader),
  }
  // The last field is a checksum of the record before it; the record ends the descriptor.
  const record = encodeRecords(kind, [makeRecord('seal', values)]).subarray(NOTE_HEADER_SIZE)
  const sealChecksum = crc32(record.subarray(0, record.length - 4))
  return writeNotes([privateNote('seal', [makeRecord('seal', { ...values, sealChecksum })])])
}
