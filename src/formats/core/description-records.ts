/** Open file descriptions ⇄ the record `description`. */
import type { FileDescription, Process } from '../../model/process.js'
import { constants } from './note-layout.js'
import { bitsOf, type NoteRecord, type RecordValues } from './private-notes.js'
import { statOf } from './stat-of.js'

function kindInModel(kind: keyof typeof constants.descriptionKinds | undefined): FileDescription['kind'] {
  if (kind === 'device') return 'character-device'
  if (kind === 'socketPair') return 'unix-socket'
  return kind ?? 'other'
}

/** The model's description; kinds of a newer writer are `other`. */
export function fileDescription(record: NoteRecord): FileDescription {
  const kind = record.constant('kind', constants.descriptionKinds)
  const state = record.flags('state', constants.descriptionFlags)
  return {
    kind: kindInModel(kind),
    path: record.text('path'),
    flags: record.number('flags'),
    offset: record.big('offset'),
    size: record.big('size'),
    mode: record.number('mode'),
    deleted: state.has('deleted'),
    details: {
      ...(state.has('contentKept') ? { content: `${record.big('contentSize')} bytes in the image` } : {}),
      ...(state.has('inherited') ? { restored: "as the restorer's own" } : {}),
      ...(kind === 'socketPair' ? { peer: `socket:[${record.big('a')}]` } : {}),
      ...(kind === 'eventfd' ? { counter: String(record.big('a')) } : {}),
      ...(kind === 'timerfd'
        ? { remaining: `${record.big('c')} ns`, interval: `${record.big('d')} ns` }
        : {}),
    },
  }
}

/** The kinds of which a path says all that the restorer needs, or of which the restorer has its own. */
const DESCRIBABLE = {
  regular: 'regular',
  directory: 'directory',
  fifo: 'fifo',
  terminal: 'terminal',
  'character-device': 'device',
} as const
const isDescribable = (kind: FileDescription['kind']): kind is keyof typeof DESCRIBABLE => kind in DESCRIBABLE

/** Whether a record made from the model alone brings the file back. */
export function describable({ kind }: FileDescription): boolean {
  return isDescribable(kind)
}

/** The fields of a record for a description that no core held before. @param id its number in the model */
export function descriptionValues(description: FileDescription, process: Process, id: number): RecordValues {
  const kind = isDescribable(description.kind) ? DESCRIBABLE[description.kind] : 'other'
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
