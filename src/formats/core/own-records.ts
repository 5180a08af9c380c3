/**
 * The model of a process → imago's own records, with all that the restorer needs. What the model does not say (a timer's thread, a
 * file's inode, the bytes in a pipe) is taken over from the core that the image was read from, where it was one.
 */
import { isas } from '../../isa/isas.js'
import { limitNames } from '../../isa/linux.js'
import { EM } from '../../lib/elf-header.js'
import { type Address, type Memory, PAGE_SIZE } from '../../model/memory.js'
import type { Mapping, Process, ProcessImage, Thread } from '../../model/process.js'
import type { Loss } from '../format.js'
import { describable, descriptionValues } from './description-records.js'
import { checksumOf, mappingValues, modifiedRuns, sameMapping } from './mapping-records.js'
import { LAYOUT_VERSION } from './note-layout.js'
import type { PageChecksum } from './page-checksum.js'
import { changedRuns, type PlacedMapping, placesIn } from './placement.js'
import { makeRecord, type NoteRecord, type RecordValues, recordKindNamed } from './private-notes.js'
import type { RawCore } from './raw.js'
import { findResumeBlock, RESUME_VERSION } from './resume-block.js'

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

  const { memory } = process
  const oldPlaces = raw && placesIn(raw)
  const checked = ({ pages, checksum }: PageChecksum) => ({ storedPages: pages, checksum })
  /** Of bytes that the old core has, too, they are not computed anew. */
  const checksums = ({ mapping, size, kept }: PlacedMapping) => {
    if (size === 0) return {}
    const old = oldPlaces?.get(mapping.start)
    const same = kept ?? (old && changedRuns(mapping, memory, old, raw!)?.length === 0 ? old : undefined)
    return same
      ? { storedPages: same.number('storedPages'), checksum: same.number('checksum') }
      : checked(checksumOf(memory, mapping.start, mapping.end))
  }

  const of: OwnRecords['of'] = (placed, content) => {
    const kernels = (kind: Mapping['kind']) => process.mappings.filter(mapping => mapping.kind === kind)
    const records = new Map<string, readonly NoteRecord[]>()
    const oldImage = old('image')[0]
    const resumeBlock = oldImage === undefined ? findResumeBlock(process) : undefined
    records.set('image', [
      make(
        'image',
        {
          version: placed.some(({ moved }) => moved.length > 0)
            ? LAYOUT_VERSION.withMovedPages
            : LAYOUT_VERSION.plain,
          machine: image.isa === 'x86-64' ? EM.X86_64 : EM.AARCH64,
          pageSize: PAGE_SIZE,
          ...(oldImage ? {} : { generation: 1, tool: `imago, from ${image.origin.format}` }),
          ...(resumeBlock === undefined ? {} : { resumeBlock, resumeVersion: RESUME_VERSION }),
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
        const values = {
          contentOffset: place?.size ? place.offset : 0,
          contentSize: place?.size ?? 0,
          storedPages: 0,
          checksum: 0,
          ...(place && checksums(place)),
        }
        const same = base !== undefined && sameMapping(mapping, base)
        return make('mapping', { ...mappingValues(mapping, index, same), ...values }, same ? base : undefined)
      }),
    )
    records.set('modified', modifiedRuns(process, raw))
    records.set(
      'moved',
      placed.flatMap(({ moved }) =>
        moved.map(({ start, end, offset }) =>
          make('moved', { start, end, contentOffset: offset, ...checked(checksumOf(memory, start, end)) }),
        ),
      ),
    )
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
