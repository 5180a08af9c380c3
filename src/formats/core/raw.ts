/**
 * An ELF core as records: headers, standard notes by thread, imago's private notes, segments. Raw form:
 * nothing is interpreted beyond what the notes say; see `read.ts` for the meaning.
 *
 *   ELF header │ PT_LOAD segments, page aligned │ … │ PT_NOTE: standard notes, private notes, seal │ program headers
 */

import { crc32 } from 'node:zlib'
import { type ByteSource, FileSource } from '../../lib/byte-source.js'
import {
  ELF_HEADER_SIZE,
  type ElfHeader,
  EM,
  ET,
  type Note,
  PROGRAM_HEADER_SIZE,
  type ProgramHeader,
  PT,
  readElfHeader,
  readNotes,
  readProgramHeaders,
  SECTION_HEADER_SIZE,
} from '../../lib/elf-header.js'
import { UnreadableError } from '../../lib/errors.js'
import type { IsaName } from '../../model/process.js'
import { LAYOUT_VERSION, NOTE_NAME, recordKindOf } from './note-layout.js'
import { decodeRecords, type NoteRecord, type RecordsByKind } from './private-notes.js'
import { NT } from './standard-notes.js'

export interface ThreadNotes {
  readonly status: Note
  /** The notes that follow the thread's NT_PRSTATUS up to the next one, by type. */
  readonly others: ReadonlyMap<number, Note>
}

export interface RawCore {
  readonly source: ByteSource
  readonly header: ElfHeader
  /** The header as it is in the file. */
  readonly headerBytes: Uint8Array
  readonly isa: IsaName
  readonly segments: readonly ProgramHeader[]
  /** All notes in order, unknown ones too. */
  readonly notes: readonly Note[]
  readonly threads: readonly ThreadNotes[]
  /** imago's own records; empty for a core of the kernel or of gcore. */
  readonly records: RecordsByKind
}

const isaOfMachine = new Map<number, IsaName>([
  [EM.X86_64, 'x86-64'],
  [EM.AARCH64, 'aarch64'],
])

/** @throws UnreadableError when it is no core, is cut short, or its seal is broken. */
export function readRawCore(path: string): RawCore {
  const source = new FileSource(path)
  try {
    return readFrom(source)
  } catch (error) {
    source.close()
    throw error
  }
}

function readFrom(source: FileSource): RawCore {
  const file = source.path
  const header = readElfHeader(source)
  if (header.type !== ET.CORE)
    throw new UnreadableError('an ELF file, but not a core', {
      file,
      found: `e_type ${header.type}`,
      expected: 'e_type 4',
    })
  const isa = isaOfMachine.get(header.machine)
  if (isa === undefined)
    throw new UnreadableError('a core of an ISA that imago does not know', {
      file,
      found: `e_machine ${header.machine}`,
      expected: '62 (x86-64) or 183 (aarch64)',
    })
  const segments = readProgramHeaders(source, header)
  const notes = segments
    .filter(segment => segment.type === PT.NOTE)
    .flatMap(segment => readNotes(source, segment))
  const records = privateRecords(notes, file)
  const seal = records.get('seal')?.[0]
  const headerBytes = source.read(0, ELF_HEADER_SIZE)
  if (records.size > 0) checkSeal(source, header, headerBytes, seal, notes, file)
  return { source, header, headerBytes, isa, segments, notes, threads: threadNotes(notes), records }
}

function threadNotes(notes: readonly Note[]): ThreadNotes[] {
  const threads: Array<{ status: Note; others: Map<number, Note> }> = []
  for (const note of notes) {
    if (note.name === NOTE_NAME) continue
    if (note.type === NT.PRSTATUS) threads.push({ status: note, others: new Map() })
    else threads.at(-1)?.others.set(note.type, note)
  }
  return threads
}

function privateRecords(notes: readonly Note[], file: string): Map<string, NoteRecord[]> {
  const records = new Map<string, NoteRecord[]>()
  for (const note of notes) {
    if (note.name !== NOTE_NAME) continue
    const kind = recordKindOf(note.type)
    if (kind === undefined) continue
    const decoded = decodeRecords(kind, note.descriptor, { file, offset: note.offset })
    records.set(kind.name, [...(records.get(kind.name) ?? []), ...decoded])
  }
  const version = records.get('image')?.[0]?.number('version')
  if (version !== undefined && version > LAYOUT_VERSION.withMovedPages)
    throw new UnreadableError('made by a newer imago', {
      file,
      found: `layout version ${version}`,
      expected: `at most ${LAYOUT_VERSION.withMovedPages}`,
      hint: 'update imago',
    })
  return records
}

/** The seal is written last: an image whose writing was cut short has none, or one that does not fit. */
function checkSeal(
  source: ByteSource,
  header: ElfHeader,
  headerBytes: Uint8Array,
  seal: NoteRecord | undefined,
  notes: readonly Note[],
  file: string,
): void {
  if (seal === undefined)
    throw new UnreadableError('the image has no seal: its writing was never finished', { file })
  const broken = (what: string, found: number | bigint, expected: number | bigint) =>
    new UnreadableError(`the seal of the image is broken: ${what}`, {
      file,
      found,
      expected,
      hint: 'the image was damaged after it was made',
    })
  // What lies behind it is of a rewriting that did not come to its end.
  if (seal.number('fileSize') > source.size)
    throw broken('the size of the file', source.size, seal.big('fileSize'))
  if (seal.number('headersOffset') !== header.programHeaderOffset)
    throw broken('where the program headers are', header.programHeaderOffset, seal.big('headersOffset'))
  if (seal.number('headersCount') !== header.programHeaderCount)
    throw broken('the number of program headers', header.programHeaderCount, seal.big('headersCount'))
  const elf = crc32(headerBytes)
  if (elf !== seal.number('elfChecksum')) throw broken('the ELF header', elf, seal.number('elfChecksum'))
  const extended = header.sectionHeaderCount > 0 ? SECTION_HEADER_SIZE : 0 // with PN_XNUM
  const headers = crc32(
    source.read(header.programHeaderOffset, header.programHeaderCount * PROGRAM_HEADER_SIZE + extended),
  )
  if (headers !== seal.number('headersChecksum'))
    throw broken('the program headers', headers, seal.number('headersChecksum'))
  // The seal is the last note; its own note begins 12 bytes and the padded name before its descriptor.
  const last = notes.at(-1)!
  const notesOffset = seal.number('notesOffset')
  const start = last.offset - 12 - 8
  if (start < notesOffset) throw broken('where the notes are', notesOffset, start)
  const checksum = crc32(source.read(notesOffset, start - notesOffset))
  if (checksum !== seal.number('notesChecksum'))
    throw broken('the notes', checksum, seal.number('notesChecksum'))
}
