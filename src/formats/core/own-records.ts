/**
 * The model of a process → imago's own records, with all that the restorer needs. What the model does not say (a file's inode, the
 * bytes in a pipe) is taken over from the core that the image was read from, where it was one.
 */
import { EM } from '../../lib/elf-header.js'
import { type Address, PAGE_SIZE } from '../../model/memory.js'
import type { FileDescription, Mapping, Process, ProcessImage } from '../../model/process.js'
import type { Loss } from '../format.js'
import { describable, descriptionValues } from './description-records.js'
import { kernelRecords } from './kernel-records.js'
import { checksumOf, mappingValues, modifiedRuns, sameMapping } from './mapping-records.js'
import { LAYOUT_VERSION } from './note-layout.js'
import type { PageChecksum } from './page-checksum.js'
import { changedRuns, type PlacedMapping, placesIn } from './placement.js'
import { makeRecord, type NoteRecord, type RecordsByKind, type RecordValues } from './private-notes.js'
import type { RawCore } from './raw.js'
import { findResumeBlock, RESUME_VERSION } from './resume-block.js'
import { threadValues } from './thread-records.js'

/** Where the content of an open file lies in the new core. */
export interface PlacedContent {
  readonly offset: number
  readonly size: number
}

/** An open file description, and its number in the records: from 1 on, in the order of the descriptors. */
interface NumberedDescription {
  readonly id: number
  readonly number: number
  readonly description: FileDescription
  /** What the old core says of it. */
  readonly base: NoteRecord | undefined
}

/** Makes imago's records of a process; what the core it was read from says and the model does not is kept. */
export class OwnRecords {
  readonly #image: ProcessImage
  readonly #process: Process
  readonly #frames: ReadonlyMap<number, Address>
  /** The core that the image was read from. */
  readonly #raw: RawCore | undefined
  readonly #old: RecordsByKind
  readonly #descriptions: readonly NumberedDescription[]

  /** @param frames addresses of the threads' signal frames, by tid. */
  constructor(
    image: ProcessImage,
    process: Process,
    frames: ReadonlyMap<number, Address>,
    raw: RawCore | undefined,
  ) {
    this.#image = image
    this.#process = process
    this.#frames = frames
    this.#raw = raw
    this.#old = raw?.records ?? new Map()
    const bases = byNumber(this.#old, 'description', 'id')
    const ids = [...new Set(process.files.map(file => file.description))]
    this.#descriptions = ids.flatMap((id, index) => {
      const description = image.descriptions.get(id)
      return description === undefined ? [] : [{ id, number: index + 1, description, base: bases.get(id) }]
    })
  }

  /** Open files that no record can bring back. */
  get losses(): readonly Loss[] {
    return this.#descriptions
      .filter(({ description, base }) => base === undefined && !describable(description))
      .map(({ description: { path, kind } }) => ({
        kind: 'dropped',
        subject: `pid ${this.#process.pid}`,
        field: 'open file',
        detail: `${path ?? kind} becomes /dev/null`,
      }))
  }

  /** For the new file, once it is known where everything lies. */
  of(placed: readonly PlacedMapping[], content: ReadonlyMap<number, PlacedContent>): RecordsByKind {
    return new Map<string, readonly NoteRecord[]>([
      ['image', [this.#imageRecord(placed.some(({ moved }) => moved.length > 0))]],
      ['process', [this.#processRecord()]],
      ['thread', this.#threads()],
      ['mapping', this.#mappings(placed)],
      ['modified', modifiedRuns(this.#process, this.#raw)],
      ['moved', this.#movedPages(placed)],
      ['descriptor', this.#descriptors()],
      ['description', this.#describedFiles(content)],
      ['lock', this.#ofDescriptions('lock')],
      ['watch', this.#ofDescriptions('watch')],
      ...kernelRecords(this.#process, this.#old),
      ['loss', this.#old.get('loss') ?? []],
    ])
  }

  #imageRecord(hasMovedPages: boolean): NoteRecord {
    const old = this.#old.get('image')?.[0]
    const resumeBlock = old === undefined ? findResumeBlock(this.#process) : undefined
    return makeRecord(
      'image',
      {
        version: hasMovedPages ? LAYOUT_VERSION.withMovedPages : LAYOUT_VERSION.plain,
        machine: this.#image.isa === 'x86-64' ? EM.X86_64 : EM.AARCH64,
        pageSize: PAGE_SIZE,
        ...(old ? {} : { generation: 1, tool: `imago, from ${this.#image.origin.format}` }),
        ...(resumeBlock === undefined ? {} : { resumeBlock, resumeVersion: RESUME_VERSION }),
      },
      old,
    )
  }

  #processRecord(): NoteRecord {
    const process = this.#process
    const old = this.#old.get('process')?.[0]
    const first = (kind: Mapping['kind']) => process.mappings.find(mapping => mapping.kind === kind)
    const { auxv: _, ...marks } = process.layout
    return makeRecord(
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
        vvarStart: first('vvar')?.start ?? 0n,
        vdsoStart: first('vdso')?.start ?? 0n,
        vdsoEnd: first('vdso')?.end ?? 0n,
        ...(old ? {} : { dumpable: 1, timerSlack: 50_000 }),
      },
      old,
    )
  }

  #threads(): NoteRecord[] {
    const { threads, memory } = this.#process
    const old = byNumber(this.#old, 'thread', 'tid')
    return threads.map(thread => {
      const frame = this.#frames.get(thread.tid) ?? 0n
      return makeRecord('thread', threadValues(thread, frame, this.#image.isa, memory), old.get(thread.tid))
    })
  }

  #mappings(placed: readonly PlacedMapping[]): NoteRecord[] {
    const old = new Map(this.#old.get('mapping')?.map(record => [record.big('start'), record]))
    const oldPlaces = this.#raw && placesIn(this.#raw)
    const places = new Map(placed.map(place => [place.mapping, place]))
    return this.#process.mappings.map((mapping, index) => {
      const place = places.get(mapping)
      const base = old.get(mapping.start)
      const same = base !== undefined && sameMapping(mapping, base)
      const values = {
        ...mappingValues(mapping, index, same),
        contentOffset: place?.size ? place.offset : 0,
        contentSize: place?.size ?? 0,
        ...(place?.size ? this.#checksum(place, oldPlaces?.get(mapping.start)) : NOTHING_STORED),
      }
      return makeRecord('mapping', values, same ? base : undefined)
    })
  }

  /** Of bytes that the old core has at `oldPlace`, too, it is not computed anew. */
  #checksum({ mapping, kept }: PlacedMapping, oldPlace: NoteRecord | undefined): RecordValues {
    const { memory } = this.#process
    const isUnchanged = (record: NoteRecord) => changedRuns(mapping, memory, record, this.#raw!)?.length === 0
    const same = kept ?? (oldPlace && isUnchanged(oldPlace) ? oldPlace : undefined)
    return same
      ? { storedPages: same.number('storedPages'), checksum: same.number('checksum') }
      : stored(checksumOf(memory, mapping.start, mapping.end))
  }

  #movedPages(placed: readonly PlacedMapping[]): NoteRecord[] {
    const { memory } = this.#process
    return placed
      .flatMap(({ moved }) => moved)
      .map(({ start, end, offset }) =>
        makeRecord('moved', { start, end, contentOffset: offset, ...stored(checksumOf(memory, start, end)) }),
      )
  }

  #descriptors(): NoteRecord[] {
    const numbers = new Map(this.#descriptions.map(({ id, number }) => [id, number]))
    return [...this.#process.files]
      .filter(({ description }) => numbers.has(description))
      .sort((a, b) => a.fd - b.fd)
      .map(({ fd, closeOnExec, description }) =>
        makeRecord('descriptor', {
          fd,
          flags: closeOnExec ? 1 : 0,
          description: numbers.get(description),
        }),
      )
  }

  #describedFiles(content: ReadonlyMap<number, PlacedContent>): NoteRecord[] {
    return this.#descriptions.map(({ id, number, description, base }) => {
      const kept = content.get(id)
      const values = base ? { flags: description.flags } : descriptionValues(description, this.#process, id)
      return makeRecord(
        'description',
        { ...values, id: number, contentOffset: kept?.offset ?? 0, contentSize: kept?.size ?? 0 },
        base,
      )
    })
  }

  /** Old records that belong to a description, with its new number. */
  #ofDescriptions(kind: 'lock' | 'watch'): NoteRecord[] {
    const numbers = new Map(this.#descriptions.map(({ id, number }) => [id, number]))
    return (this.#old.get(kind) ?? []).flatMap(record => {
      const number = numbers.get(record.number('description'))
      return number === undefined ? [] : [makeRecord(kind, { description: number }, record)]
    })
  }
}

const NOTHING_STORED: RecordValues = { storedPages: 0, checksum: 0 }

function stored({ pages, checksum }: PageChecksum): RecordValues {
  return { storedPages: pages, checksum }
}

function byNumber(records: RecordsByKind, kind: string, field: string): Map<number, NoteRecord> {
  return new Map(records.get(kind)?.map(record => [record.number(field), record]))
}
