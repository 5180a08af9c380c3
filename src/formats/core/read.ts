/**
 * A core → the model of a process. With imago's own notes all that restore needs is there; a core of the
 * kernel or of gcore gives what the standard notes hold: threads, registers, memory, mapped files.
 */

import { FileSource } from '../../lib/byte-source.js'
import { type Note, PF, PT } from '../../lib/elf-header.js'
import { dataRanges } from '../../lib/sparse.js'
import { type Extent, Memory, ZERO } from '../../model/memory.js'
import type {
  AddressSpaceLayout,
  Mapping,
  Process,
  ProcessImage,
  RegisterSet,
  Thread,
} from '../../model/process.js'
import { fileDescription } from './description-records.js'
import { pendingOf, readKernelState } from './kernel-records.js'
import { mappingOfRecord } from './mapping-records.js'
import type { NoteRecord } from './private-notes.js'
import { type RawCore, readRawCore, type ThreadNotes } from './raw.js'
import {
  NT,
  type ProcessInfo,
  readAuxv,
  readFpsimd,
  readMappedFiles,
  readProcessInfo,
  readThreadStatus,
  readXsave,
  type ThreadStatus,
} from './standard-notes.js'
import { readKernelThread } from './thread-records.js'

/** @throws UnreadableError as `readRawCore` does. */
export async function read(path: string): Promise<ProcessImage> {
  return meaningOf(readRawCore(path), path)
}

function meaningOf(raw: RawCore, path: string): ProcessImage {
  const records = (kind: string) => raw.records.get(kind) ?? []
  const info = standardNote(raw, NT.PRPSINFO, readProcessInfo)
  const image = records('image')[0]
  return {
    isa: raw.isa,
    processes: [oneProcess(raw, info)],
    descriptions: new Map(
      records('description').map(record => [record.number('id'), fileDescription(record)]),
    ),
    origin: { format: 'core', path, notes: image ? captureNotes(image) : {}, raw },
  }
}

function captureNotes(image: NoteRecord): Record<string, string> {
  return {
    captured: new Date(Number(image.big('captureTime') / 1_000_000n)).toISOString(),
    kernel: image.text('kernelRelease'),
    by: image.text('tool'),
    pause: `${Number(image.big('pause') / 1000n) / 1000} ms`,
    ...(image.number('generation') > 1 ? { generation: String(image.number('generation')) } : {}),
  }
}

/** A note of the whole process: the kernel writes it after the first thread's status, gcore before. */
function standardNote<T>(raw: RawCore, type: number, decode: (descriptor: Uint8Array) => T): T | undefined {
  const note = raw.notes.find(each => each.type === type && each.name === 'CORE')
  return note && decode(note.descriptor)
}

function oneProcess(raw: RawCore, info: ProcessInfo | undefined): Process {
  const records = (kind: string) => raw.records.get(kind) ?? []
  const own = records('process')[0]
  const threads = raw.threads.map(notes => oneThread(raw, notes, info?.name ?? ''))
  const first = threads[0]
  // A debugger wants the thread first that took the signal; the model, as the kernel, the one that the process began with.
  const leader = threads.findIndex(thread => thread.tid === own?.number('pid'))
  if (leader > 0) threads.unshift(...threads.splice(leader, 1))
  const mappings = own ? records('mapping').map(mappingOfRecord) : mappingsOfSegments(raw)
  return {
    pid: own?.number('pid') ?? info?.pid ?? first?.tid ?? 0,
    parent: own?.number('parent') ?? info?.parent ?? 0,
    processGroup: own?.number('processGroup') ?? info?.processGroup ?? 0,
    session: own?.number('session') ?? info?.session ?? 0,
    name: own?.text('name') ?? info?.name ?? '',
    executable:
      own?.text('executable') ??
      mappings.find(mapping => mapping.kind === 'file' && mapping.execute)?.file?.path,
    state: 'alive',
    threads,
    mappings,
    memory: memoryOf(raw),
    layout: layoutOf(raw, own),
    files: records('descriptor').map(record => ({
      fd: record.number('fd'),
      closeOnExec: (record.number('flags') & 1) !== 0,
      description: record.number('description'),
    })),
    workingDirectory: own?.text('workingDirectory'),
    rootDirectory: own?.text('rootDirectory'),
    umask: own?.number('umask'),
    ...readKernelState(raw.records),
  }
}

function oneThread(raw: RawCore, notes: ThreadNotes, processName: string): Thread {
  const status = readThreadStatus(notes.status.descriptor, raw.isa)
  const own = raw.records.get('thread')?.find(record => record.number('tid') === status.tid)
  const common = {
    tid: status.tid,
    registers: registersOf(raw, notes, status),
    pendingSignals: pendingOf(raw.records, status.tid),
  }
  if (own !== undefined) return { ...common, ...readKernelThread(own) }
  return {
    ...common,
    name: processName,
    signalMask: status.signalMask,
    alternateStack: undefined,
    clearTidAddress: 0n,
    robustList: undefined,
    rseq: undefined,
  }
}

function registersOf(raw: RawCore, notes: ThreadNotes, status: ThreadStatus): RegisterSet {
  if (raw.isa === 'aarch64') {
    const general = new Map(status.registers)
    const tls = notes.others.get(NT.ARM_TLS)
    if (tls && tls.descriptor.length >= 8) general.set('tpidr_el0', wordAt(tls, 0))
    const vector = notes.others.get(NT.FPREGSET)
    return { general, vector: vector && readFpsimd(vector.descriptor) }
  }
  const xsave = notes.others.get(NT.X86_XSTATE)
  const fxsave = notes.others.get(NT.FPREGSET)
  if (xsave) return { general: status.registers, vector: readXsave(xsave.descriptor) }
  if (fxsave && fxsave.descriptor.length >= 512)
    return {
      general: status.registers,
      vector: { isa: 'x86-64', fxsave: fxsave.descriptor.subarray(0, 512), inUse: 3n, components: new Map() },
    }
  return { general: status.registers, vector: undefined }
}

function wordAt(note: Note, offset: number): bigint {
  return new DataView(note.descriptor.buffer, note.descriptor.byteOffset).getBigUint64(offset, true)
}

/** Of a core without records: its PT_LOAD segments, named by NT_FILE, and the code that gcore leaves out. */
function mappingsOfSegments(raw: RawCore): Mapping[] {
  const files = standardNote(raw, NT.FILE, readMappedFiles) ?? []
  const stack =
    raw.threads[0] &&
    readThreadStatus(raw.threads[0].status.descriptor, raw.isa).registers.get(
      raw.isa === 'x86-64' ? 'rsp' : 'sp',
    )
  const common = { shared: false, growsDown: false, advice: [] }
  const loaded = raw.segments
    .filter(segment => segment.type === PT.LOAD && segment.memorySize > 0)
    .map((segment): Mapping => {
      const start = segment.virtualAddress
      const end = start + BigInt(segment.memorySize)
      const file = files.find(each => each.start <= start && start < each.end)
      const holdsStack = stack !== undefined && start <= stack && stack < end
      return {
        ...common,
        start,
        end,
        read: (segment.flags & PF.R) !== 0,
        write: (segment.flags & PF.W) !== 0,
        execute: (segment.flags & PF.X) !== 0,
        kind: file ? 'file' : holdsStack ? 'stack' : 'anonymous',
        ...(file
          ? { file: { path: file.path, offset: file.offset + (start - file.start), deleted: false } }
          : {}),
      }
    })
  const leftOut = files
    .filter(file => !loaded.some(mapping => mapping.start < file.end && file.start < mapping.end))
    .map(({ start, end, path, offset }): Mapping => {
      const file = { path, offset, deleted: false }
      return { ...common, start, end, read: true, write: false, execute: true, kind: 'file', file }
    })
  return [...loaded, ...leftOut].sort((a, b) => (a.start < b.start ? -1 : 1))
}

/** What the segments hold; holes of the file are zeros, without being read. */
function memoryOf(raw: RawCore): Memory {
  const extents: Extent[] = []
  for (const segment of raw.segments) {
    if (segment.type !== PT.LOAD || segment.fileSize === 0) continue
    const end =
      segment.offset +
      Math.min(segment.fileSize, segment.memorySize, Math.max(0, raw.source.size - segment.offset))
    const place = (offset: number) => segment.virtualAddress + BigInt(offset - segment.offset)
    let at = segment.offset
    const zerosUpTo = (offset: number) => {
      if (offset > at) extents.push({ address: place(at), length: offset - at, content: ZERO })
    }
    const ranges =
      raw.source instanceof FileSource
        ? dataRanges(raw.source.fd, at, end)
        : [{ offset: at, length: end - at }]
    for (const { offset, length } of ranges) {
      zerosUpTo(offset)
      extents.push({ address: place(offset), length, content: { kind: 'slice', source: raw.source, offset } })
      at = offset + length
    }
    zerosUpTo(end)
  }
  return Memory.from(extents)
}

function layoutOf(raw: RawCore, own: NoteRecord | undefined): AddressSpaceLayout {
  const names = [
    'startCode',
    'endCode',
    'startData',
    'endData',
    'startStack',
    'startBrk',
    'brk',
    'argStart',
    'argEnd',
    'envStart',
    'envEnd',
  ] as const
  const marks = Object.fromEntries(names.map(name => [name, own?.big(name) ?? 0n])) as Record<
    (typeof names)[number],
    bigint
  >
  return { ...marks, auxv: standardNote(raw, NT.AUXV, readAuxv) ?? [] }
}
