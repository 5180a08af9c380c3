/**
 * The model of a process → imago's own records, with all that the restorer needs. What the model does not say (a timer's thread, a
 * file's inode, the bytes in a pipe) is taken over from the core that the image was read from, where it was one.
 */
import fs from 'node:fs'
import { crc32 } from 'node:zlib'
import { isas } from '../../isa/isas.js'
import { limitNames } from '../../isa/linux.js'
import { isZero } from '../../lib/bytes.js'
import { EM } from '../../lib/elf-header.js'
import { type Address, type Memory, PAGE_SIZE, readContent } from '../../model/memory.js'
import type { FileDescription, Mapping, Process, ProcessImage, Thread } from '../../model/process.js'
import type { Loss } from '../format.js'
import { constants } from './note-layout.js'
import { makeRecord, type NoteRecord, type RecordValues, recordKindNamed } from './private-notes.js'
import type { RawCore } from './raw.js'
import type { PlacedMapping } from './write.js'

/** Where the content of an open file lies in the new core. */
export interface PlacedContent {
  readonly offset: number
  readonly size: number
}

export interface OwnRecords {
  /** For the new file, once it is known where everything lies. */
  of(
    placed: readonly PlacedMapping[],
    content: ReadonlyMap<number, PlacedContent>,
  ): Map<string, readonly NoteRecord[]>
  readonly losses: readonly Loss[]
}

const bitsOf = <T extends Record<string, readonly [number, string]>>(table: T, names: readonly (keyof T)[]) =>
  names.reduce((bits, name) => bits | table[name]![0], 0)

export function ownRecords(
  image: ProcessImage,
  process: Process,
  frames: ReadonlyMap<number, Address>,
  raw: RawCore | undefined,
): OwnRecords {
  const old = (kind: string) => raw?.records.get(kind) ?? []
  const make = (kind: string, values: RecordValues, base?: NoteRecord) =>
    makeRecord(recordKindNamed(kind), { ...(base && Object.fromEntries(base.values)), ...values })
  const losses: Loss[] = []
  // Descriptions are numbered from 1 on, in the order of the descriptors.
  const ids = new Map<number, number>()
  for (const { description } of process.files) if (!ids.has(description)) ids.set(description, ids.size + 1)
  const byId = new Map(old('description').map(record => [record.number('id'), record]))
  const loss = (field: string, detail: string) =>
    losses.push({ kind: 'dropped', subject: `pid ${process.pid}`, field, detail })

  const descriptions = [...ids].flatMap(([id, number]) => {
    const description = image.descriptions.get(id)
    return description === undefined ? [] : [{ id, number, description, base: byId.get(id) }]
  })
  for (const { description, base } of descriptions)
    if (base === undefined && !describable(description))
      loss('open file', `${description.path ?? description.kind} becomes /dev/null`)

  const sums = new Map<Mapping, { pages: number; checksum: number }>()
  const checksums = (placed: PlacedMapping) => {
    const known = sums.get(placed.mapping) ?? checksumOf(placed.mapping, process.memory, raw)
    sums.set(placed.mapping, known)
    return known
  }

  const of: OwnRecords['of'] = (placed, content) => {
    const kernels = (kind: Mapping['kind']) => process.mappings.filter(mapping => mapping.kind === kind)
    const records = new Map<string, readonly NoteRecord[]>()
    const oldImage = old('image')[0]
    records.set('image', [
      make(
        'image',
        {
          version: 1,
          machine: image.isa === 'x86-64' ? EM.X86_64 : EM.AARCH64,
          pageSize: PAGE_SIZE,
          ...(oldImage ? {} : { generation: 1, tool: `imago, from ${image.origin.format}` }),
        },
        oldImage,
      ),
    ])
    const { auxv: _, ...marks } = process.layout
    records.set('process', [
      make(
        'process',
        {
          ...marks,
          pid: process.pid,
          parent: process.parent,
          processGroup: process.processGroup,
          session: process.session,
          name: process.name,
          executable: process.executable,
          workingDirectory: process.workingDirectory ?? '/',
          rootDirectory: process.rootDirectory ?? '/',
          umask: process.umask ?? 0o022,
          vvarStart: kernels('vvar')[0]?.start ?? 0n,
          vdsoStart: kernels('vdso')[0]?.start ?? 0n,
          vdsoEnd: kernels('vdso')[0]?.end ?? 0n,
          ...(old('process').length > 0 ? {} : { dumpable: 1, timerSlack: 50_000 }),
        },
        old('process')[0],
      ),
    ])
    const oldThreads = new Map(old('thread').map(record => [record.number('tid'), record]))
    records.set(
      'thread',
      process.threads.map(thread =>
        make('thread', threadValues(thread, image, process, frames), oldThreads.get(thread.tid)),
      ),
    )
    const oldMappings = new Map(old('mapping').map(record => [record.big('start'), record]))
    const placeOf = new Map(placed.map(each => [each.mapping, each]))
    records.set(
      'mapping',
      process.mappings.map((mapping, index) => {
        const place = placeOf.get(mapping)
        const base = oldMappings.get(mapping.start)
        const sum = place === undefined || place.size === 0 ? { pages: 0, checksum: 0 } : checksums(place)
        const values = {
          contentOffset: place?.size ? place.offset : 0,
          contentSize: place?.size ?? 0,
          storedPages: sum.pages,
          checksum: sum.checksum,
        }
        const same = base !== undefined && sameMapping(mapping, base)
        return make('mapping', { ...mappingValues(mapping, index, same), ...values }, same ? base : undefined)
      }),
    )
    records.set('modified', modifiedRuns(process, raw))
    records.set(
      'descriptor',
      [...process.files]
        .filter(({ description }) => image.descriptions.has(description))
        .sort((a, b) => a.fd - b.fd)
        .map(({ fd, closeOnExec, description }) =>
          make('descriptor', { fd, flags: closeOnExec ? 1 : 0, description: ids.get(description)! }),
        ),
    )
    records.set(
      'description',
      descriptions.map(({ id, number, description, base }) => {
        const kept = content.get(id)
        return make(
          'description',
          {
            ...(base ? { flags: description.flags } : descriptionValues(description, process, id)),
            id: number,
            contentOffset: kept?.offset ?? 0,
            contentSize: kept?.size ?? 0,
          },
          base,
        )
      }),
    )
    for (const kind of ['lock', 'watch'])
      records.set(
        kind,
        old(kind).flatMap(record => {
          const number = ids.get(record.number('description'))
          return number === undefined ? [] : [make(kind, { description: number }, record)]
        }),
      )
    records.set(
      'action',
      [...process.signalActions].map(([signal, action]) => make('action', { signal, ...action })),
    )
    records.set('pending', [
      ...process.pendingSignals.map(pending => make('pending', { tid: 0, ...pending })),
      ...process.threads.flatMap(({ tid, pendingSignals }) =>
        pendingSignals.map(pending => make('pending', { tid, ...pending })),
      ),
    ])
    records.set(
      'intervalTimer',
      process.intervalTimers.map(({ which, remaining, interval }) =>
        make('intervalTimer', {
          which: ['real', 'virtual', 'profiling'].indexOf(which),
          remaining,
          interval,
        }),
      ),
    )
    const oldTimers = new Map(old('posixTimer').map(record => [record.number('id'), record]))
    records.set(
      'posixTimer',
      process.posixTimers.map(timer => make('posixTimer', { ...timer }, oldTimers.get(timer.id))),
    )
    records.set(
      'limit',
      [...process.limits].map(([name, { soft, hard }]) => {
        const known = limitNames.indexOf(name)
        return make('limit', { resource: known < 0 ? Number(name) : known, soft, hard })
      }),
    )
    records.set('credential', [credentialOf(process, old('credential')[0])])
    records.set('loss', old('loss'))
    return records
  }
  return { of, losses }
}

function threadValues(
  thread: Thread,
  image: ProcessImage,
  process: Process,
  frames: ReadonlyMap<number, Address>,
): RecordValues {
  const isa = isas[image.isa]
  const { general } = thread.registers
  const stack = thread.alternateStack
  return {
    tid: thread.tid,
    frame: frames.get(thread.tid) ?? 0n,
    tls: general.get(isa.threadPointer) ?? 0n,
    tls2: general.get('gs_base') ?? 0n,
    clearTid: thread.clearTidAddress,
    cachedTid: cachedTid(thread, image, process.memory),
    robustHead: thread.robustList?.head ?? 0n,
    robustLength: thread.robustList?.length ?? 0,
    rseqAddress: thread.rseq?.address ?? 0n,
    rseqLength: thread.rseq?.length ?? 0,
    rseqSignature: thread.rseq?.signature ?? 0,
    signalMask: thread.signalMask,
    alternateStack: stack?.address ?? 0n,
    alternateStackSize: stack?.size ?? 0n,
    alternateStackFlags: stack?.flags ?? 2,
    name: thread.name,
  }
}

/** glibc keeps the tid where the kernel clears it, musl in the thread's record (native/preload/threads.c). */
function cachedTid(thread: Thread, image: ProcessImage, memory: Memory): Address {
  const { musl, threadPointer } = isas[image.isa]
  const pointer = thread.registers.general.get(threadPointer) ?? 0n
  const tidOffset = musl.record.find(([name]) => name.startsWith('tid'))![1]
  const candidates = [thread.clearTidAddress, pointer - BigInt(musl.pointerOffset) + BigInt(tidOffset)]
  const holdsTid = (address: Address) => {
    const bytes = address > 0n ? memory.tryRead(address, 4) : undefined
    return bytes !== undefined && Buffer.from(bytes).readUInt32LE() === thread.tid
  }
  return candidates.find(holdsTid) ?? 0n
}

const kindOfMapping: Readonly<Record<Mapping['kind'], keyof typeof constants.mappingKinds>> = {
  anonymous: 'anonymous',
  file: 'file',
  heap: 'heap',
  stack: 'stack',
  vdso: 'vdso',
  vvar: 'vvar',
  vsyscall: 'vsyscall',
  memfd: 'memfd',
  sysv: 'sharedAnonymous',
  device: 'anonymous',
}

/** Whether the record is of this very mapping, and not of another that lay at its address. */
function sameMapping(mapping: Mapping, record: NoteRecord): boolean {
  return (
    record.big('end') === mapping.end &&
    record.text('path') === (mapping.file?.path ?? record.text('path')) &&
    (mapping.file === undefined || mapping.file.offset === record.big('pageOffset'))
  )
}

function mappingValues(mapping: Mapping, index: number, known: boolean): RecordValues {
  const { file, shared } = mapping
  const kind = shared && mapping.kind === 'anonymous' ? 'sharedAnonymous' : kindOfMapping[mapping.kind]
  const values = {
    start: mapping.start,
    end: mapping.end,
    kind: constants.mappingKinds[kind][0],
    protection: (mapping.read ? 1 : 0) | (mapping.write ? 2 : 0) | (mapping.execute ? 4 : 0),
  }
  if (known) return values
  const stat = mapping.kind === 'file' && file ? statOf(file.path) : undefined
  const advice = Object.entries(constants.adviceFlags).filter(([name]) =>
    mapping.advice.includes(name.toLowerCase()),
  )
  return {
    ...values,
    pageOffset: file?.offset ?? 0n,
    path: file?.path,
    // Shared memory without a name is told apart by its inode: none of these is shared with another.
    inode: stat?.ino ?? (kind === 'sharedAnonymous' ? (1n << 62n) + BigInt(index) : 0n),
    device: stat?.dev ?? 0n,
    fileSize: stat?.size ?? 0n,
    fileModified: stat?.mtimeNs ?? 0n,
    flags: bitsOf(constants.mappingFlags, [
      ...(shared ? (['shared'] as const) : []),
      ...(mapping.growsDown ? (['growsDown'] as const) : []),
      ...(file?.deleted ? (['deleted'] as const) : []),
      ...(stat ? (['mayBeReplaced'] as const) : []),
      ...(mapping.advice.includes('locked') ? (['locked'] as const) : []),
    ]),
    advice: advice.reduce((bits, [, [bit]]) => bits | bit, 0),
  }
}

function statOf(path: string): fs.BigIntStats | undefined {
  const stat = fs.statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat?.isFile() ? stat : undefined
}

/** Pages of private file mappings that are not the file's: those of the old core where the mapping is the same, else compared. */
function modifiedRuns(process: Process, raw: RawCore | undefined): NoteRecord[] {
  const kind = recordKindNamed('modified')
  const old = raw?.records.get('modified') ?? []
  const oldMappings = new Map(raw?.records.get('mapping')?.map(record => [record.big('start'), record]))
  return process.mappings.flatMap(mapping => {
    const { start, end, file } = mapping
    if (mapping.kind !== 'file' || mapping.shared || file === undefined) return []
    const base = oldMappings.get(start)
    if (base !== undefined && sameMapping(mapping, base))
      return old
        .map(run => ({ start: run.big('start'), end: run.big('end') }))
        .filter(run => run.start < end && run.end > start) // one run may lie in several mappings of a file
        .map(run =>
          makeRecord(kind, {
            start: run.start > start ? run.start : start,
            end: run.end < end ? run.end : end,
          }),
        )
    return differences(mapping, process.memory).map(run => makeRecord(kind, run))
  })
}

function differences({ start, end, file }: Mapping, memory: Memory): { start: Address; end: Address }[] {
  const runs: { start: Address; end: Address }[] = []
  if (!fs.existsSync(file!.path)) return runs
  const fd = fs.openSync(file!.path, 'r')
  try {
    const ofFile = new Uint8Array(PAGE_SIZE)
    for (let at = start; at < end; at += BigInt(PAGE_SIZE)) {
      const page = memory.tryRead(at, PAGE_SIZE)
      if (page === undefined) continue
      ofFile.fill(0)
      fs.readSync(fd, ofFile, 0, PAGE_SIZE, Number(file!.offset + (at - start)))
      if (Buffer.compare(page, ofFile) === 0) continue
      const last = runs.at(-1)
      if (last?.end === at) last.end += BigInt(PAGE_SIZE)
      else runs.push({ start: at, end: at + BigInt(PAGE_SIZE) })
    }
  } finally {
    fs.closeSync(fd)
  }
  return runs
}

/** Number and CRC-32 of the pages that are not all zeros; those of the old core where it has the same bytes. */
function checksumOf(
  mapping: Mapping,
  memory: Memory,
  raw: RawCore | undefined,
): { pages: number; checksum: number } {
  const { start, end } = mapping
  const base = raw?.records.get('mapping')?.find(record => record.big('start') === start)
  const extents = [...memory.within(start, end)]
  if (base !== undefined && base.big('end') === end && base.big('contentSize') === end - start) {
    const from = base.number('contentOffset')
    const unchanged = extents.every(
      ({ address, content }) =>
        content.kind === 'zero' ||
        (content.kind === 'slice' &&
          content.source === raw!.source &&
          content.offset === from + Number(address - start)),
    )
    if (unchanged && memory.covers(start, end))
      return { pages: base.number('storedPages'), checksum: base.number('checksum') }
  }
  let pages = 0
  let checksum = 0
  const block = new Uint8Array(256 * PAGE_SIZE)
  for (const { length, content } of extents) {
    if (content.kind === 'zero') continue
    for (let done = 0; done < length; done += block.length) {
      const part = block.subarray(0, Math.min(block.length, length - done))
      readContent(content, part, done)
      for (let at = 0; at < part.length; at += PAGE_SIZE) {
        const page = part.subarray(at, at + PAGE_SIZE)
        if (isZero(page)) continue
        pages++
        checksum = crc32(page, checksum)
      }
    }
  }
  return { pages, checksum }
}

const kindOfDescription: Partial<Record<FileDescription['kind'], keyof typeof constants.descriptionKinds>> = {
  regular: 'regular',
  directory: 'directory',
  pipe: 'pipe',
  fifo: 'fifo',
  terminal: 'terminal',
  'character-device': 'device',
  epoll: 'other',
}

/** Whether a path says all that the restorer needs, or the restorer has its own. */
function describable({ kind }: FileDescription): boolean {
  return ['regular', 'directory', 'fifo', 'terminal', 'character-device'].includes(kind)
}

function descriptionValues(description: FileDescription, process: Process, id: number): RecordValues {
  const kind = describable(description) ? kindOfDescription[description.kind]! : 'other'
  const stat = description.path ? statOf(description.path) : undefined
  const standard = process.files.some(({ fd, description: of }) => of === id && fd < 3)
  const inherited = standard && (kind === 'terminal' || kind === 'other')
  return {
    kind: constants.descriptionKinds[kind][0],
    flags: description.flags,
    mode: description.mode ?? (stat ? Number(stat.mode) : 0),
    offset: description.offset,
    size: description.size ?? stat?.size ?? 0n,
    device: stat?.dev ?? 0n,
    inode: stat?.ino ?? 0n,
    modified: stat?.mtimeNs ?? 0n,
    path: description.path,
    state: bitsOf(constants.descriptionFlags, [
      ...(description.deleted ? (['deleted'] as const) : []),
      ...(inherited ? (['inherited'] as const) : []),
    ]),
  }
}

function credentialOf(process: Process, base: NoteRecord | undefined): NoteRecord {
  const kind = recordKindNamed('credential')
  if (base !== undefined) return base
  const credentials = process.credentials
  const groups = new Uint8Array(4 * (credentials?.groups.length ?? 0))
  const view = new DataView(groups.buffer)
  for (const [i, group] of (credentials?.groups ?? []).entries()) view.setUint32(4 * i, group, true)
  return makeRecord(kind, {
    uid: credentials?.uid,
    effectiveUid: credentials?.effectiveUid,
    savedUid: credentials?.effectiveUid,
    fileSystemUid: credentials?.effectiveUid,
    gid: credentials?.gid,
    effectiveGid: credentials?.effectiveGid,
    savedGid: credentials?.effectiveGid,
    fileSystemGid: credentials?.effectiveGid,
    capabilities: credentials?.capabilities?.effective,
    groups,
  })
}
