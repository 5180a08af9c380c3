/**
 * Mappings ⇄ the records `mapping` and `modified`. What the model does not say (a file's inode, which pages of it were changed) comes
 * from the core that the image was read from, where the mapping is still the same, else from the file itself.
 */
import fs from 'node:fs'
import { type Address, type Memory, PAGE_SIZE, readContent } from '../../model/memory.js'
import type { Mapping, Process } from '../../model/process.js'
import { constants } from './note-layout.js'
import { PageChecksum } from './page-checksum.js'
import { bitsOf, makeRecord, type NoteRecord, type RecordValues } from './private-notes.js'
import type { RawCore } from './raw.js'
import { statOf } from './stat-of.js'

/** The record's kinds are the model's, but for memory that is shared without having a name. */
function kindInRecord({ kind, shared }: Mapping): keyof typeof constants.mappingKinds {
  if (kind === 'sysv' || (kind === 'anonymous' && shared)) return 'sharedAnonymous'
  return kind === 'device' ? 'anonymous' : kind
}

/** The model's mapping; kinds of a newer writer are `device`: nothing is known of them. */
export function mappingOfRecord(record: NoteRecord): Mapping {
  const protection = record.number('protection')
  const flags = record.flags('flags', constants.mappingFlags)
  const kind = record.constant('kind', constants.mappingKinds)
  const advice = [...record.flags('advice', constants.adviceFlags)].map(name => name.toLowerCase())
  const path = record.text('path')
  return {
    start: record.big('start'),
    end: record.big('end'),
    read: (protection & 1) !== 0,
    write: (protection & 2) !== 0,
    execute: (protection & 4) !== 0,
    shared: flags.has('shared'),
    kind: kind === undefined ? 'device' : kind === 'sharedAnonymous' ? 'anonymous' : kind,
    ...(kind === 'file' || kind === 'memfd'
      ? { file: { path, offset: record.big('pageOffset'), deleted: flags.has('deleted') } }
      : {}),
    growsDown: flags.has('growsDown'),
    advice: flags.has('locked') ? [...advice, 'locked'] : advice,
  }
}

/** Whether the record is of this very mapping, and not of another that lay at its address. */
export function sameMapping(mapping: Mapping, record: NoteRecord): boolean {
  return (
    record.big('end') === mapping.end &&
    record.text('path') === (mapping.file?.path ?? record.text('path')) &&
    (mapping.file === undefined || mapping.file.offset === record.big('pageOffset'))
  )
}

/** The fields of a record. @param known the record that it replaces was of the same mapping: the other fields stay as they are */
export function mappingValues(mapping: Mapping, index: number, known: boolean): RecordValues {
  const { file, shared } = mapping
  const kind = kindInRecord(mapping)
  const values = {
    start: mapping.start,
    end: mapping.end,
    kind: constants.mappingKinds[kind][0],
    protection: (mapping.read ? 1 : 0) | (mapping.write ? 2 : 0) | (mapping.execute ? 4 : 0),
  }
  if (known) return values
  const stat = mapping.kind === 'file' && file ? statOf(file.path) : undefined
  const adviceNames = Object.keys(constants.adviceFlags) as (keyof typeof constants.adviceFlags)[]
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
    advice: bitsOf(
      constants.adviceFlags,
      adviceNames.filter(name => mapping.advice.includes(name.toLowerCase())),
    ),
  }
}

/** Pages of private file mappings that are not the file's: those of the old core where the mapping is the same, else compared. */
export function modifiedRuns(process: Process, raw: RawCore | undefined): NoteRecord[] {
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
          makeRecord('modified', {
            start: run.start > start ? run.start : start,
            end: run.end < end ? run.end : end,
          }),
        )
    return differences(mapping, process.memory).map(run => makeRecord('modified', run))
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

/** Number and CRC-32 of the pages in [start, end) that are not all zeros. */
export function checksumOf(memory: Memory, start: Address, end: Address): PageChecksum {
  const sum = new PageChecksum()
  const block = new Uint8Array(256 * PAGE_SIZE)
  for (const { length, content } of memory.within(start, end)) {
    if (content.kind === 'zero') continue
    for (let done = 0; done < length; done += block.length) {
      const part = block.subarray(0, Math.min(block.length, length - done))
      readContent(content, part, done)
      sum.add(part)
    }
  }
  return sum
}
