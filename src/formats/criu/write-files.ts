/**
 * Open files → files.img, the other direction of `read-files.ts`. Records of the image that was read stay as they
 * are but for what the model changed; files that only the model knows become new records.
 */
import type { MessageOf } from '../../lib/protobuf-schema.js'
import type { FileDescription, ProcessImage } from '../../model/process.js'
import type { Loss } from '../format.js'
import type { CriuDirectory } from './directory.js'
import type { Entry } from './image-file.js'
import { CriuFiles } from './read-files.js'
import { fd_types } from './schema/enums.js'
import { file_entry } from './schema/files.js'

export type FileEntry = MessageOf<typeof file_entry>

const noOwner = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 }
const REG = fd_types.numbers.get('REG')!
/** Kinds that are opened again by their path. */
const byPath: ReadonlySet<FileDescription['kind']> = new Set([
  'regular',
  'directory',
  'character-device',
  'block-device',
])

/** The open files of a new directory: the records of the old one, and new ones for what is new. */
export class FilesToWrite {
  readonly #base: CriuFiles | undefined
  readonly #entries = new Map<number, FileEntry>()
  readonly losses: Loss[] = []

  constructor(image: ProcessImage, base: CriuDirectory | undefined) {
    this.#base = base && new CriuFiles(base)
    for (const entry of this.#base?.entries ?? []) this.#entries.set(entry.id, entry)
    for (const [id, description] of image.descriptions) this.#describe(id, description)
  }

  #describe(id: number, description: FileDescription): void {
    const entry = this.#entries.get(id)
    if (entry !== undefined) {
      this.#entries.set(id, changedEntry(entry, description, this.#base!.describe(id)))
      return
    }
    if (!byPath.has(description.kind) || description.path === undefined || description.deleted) {
      this.losses.push({
        kind: 'dropped',
        subject: description.path ?? description.kind,
        field: 'open file',
        detail: `${description.kind}${description.deleted ? ', deleted' : ''}: only files with a path can be opened again`,
      })
      return
    }
    this.#entries.set(id, {
      type: REG,
      id,
      reg: {
        id,
        flags: description.flags,
        pos: description.offset,
        fown: noOwner,
        name: description.path,
        ...(description.kind === 'regular' && description.size !== undefined && { size: description.size }),
        ...(description.mode !== undefined && { mode: description.mode }),
        build_id: [],
      },
    })
  }

  has(id: number): boolean {
    return this.#entries.has(id)
  }

  /** The number of its kind (`fd_types`). */
  typeOf(id: number): number {
    return this.#entries.get(id)?.type ?? REG
  }

  /** The id of a file that is opened by its path: mappings, executables, folders. */
  idOf(path: string, preferred?: number): number {
    if (preferred !== undefined && this.#pathOf(preferred) === path) return preferred
    for (const [id, entry] of this.#entries)
      if (entry.reg?.name === path && (entry.reg.flags & 3) === 0) return id
    const id = Math.max(0, ...this.#entries.keys()) + 1
    this.#entries.set(id, {
      type: REG,
      id,
      reg: { id, flags: 0, pos: 0n, fown: noOwner, name: path, build_id: [] },
    })
    return id
  }

  #pathOf(id: number): string | undefined {
    return this.#base?.path(id)?.path ?? this.#entries.get(id)?.reg?.name
  }

  /** The entries of files.img. */
  get entries(): Entry[] {
    return [...this.#entries.values()].map(message => ({ type: file_entry, message }))
  }
}

/** `entry` with what differs between the description that was read and the one to write. */
function changedEntry(entry: FileEntry, now: FileDescription, before: FileDescription): FileEntry {
  const changes: Record<string, unknown> = {}
  if (now.flags !== before.flags) changes.flags = now.flags
  if (now.offset !== before.offset) changes.pos = now.offset
  if (entry.reg !== undefined) {
    if (now.path !== before.path) changes.name = now.path
    if (now.size !== before.size) changes.size = now.size
    if (now.mode !== before.mode) changes.mode = now.mode
  }
  if (Object.keys(changes).length === 0) return entry
  const field = Object.keys(entry).find(name => name !== 'type' && name !== 'id') as keyof FileEntry
  const record = entry[field] as Record<string, unknown>
  // Kinds without flags or an offset of their own keep what they have.
  const fitting = Object.entries(changes).filter(([name]) => name in record || entry.reg !== undefined)
  return fitting.length === 0 ? entry : { ...entry, [field]: { ...record, ...Object.fromEntries(fitting) } }
}
