/**
 * Where the bytes of each mapping lie in a core that is being written: one after the other in a new file; in a core that is
 * rewritten in place, where they are, with what changed behind the end of the old image.
 *
 *   mapping     [ a  a  a  b  b  a  a  a ]        a: as the old image has them, b: changed
 *   file        … [ a a a x x a a a ] … old notes │ [ b b ] new notes …
 *                   contentOffset                   record `moved`
 */
import { FileSource } from '../../lib/byte-source.js'
import { alignDownBig, alignUp, alignUpBig } from '../../lib/bytes.js'
import { dataRanges } from '../../lib/sparse.js'
import { type Address, extentEnd, type Memory, PAGE_SIZE, PAGE_SIZE_BIG } from '../../model/memory.js'
import type { Mapping, Process } from '../../model/process.js'
import type { NoteRecord } from './private-notes.js'
import type { RawCore } from './raw.js'

export interface PageRun {
  readonly start: Address
  /** First address after it. */
  readonly end: Address
}

/** Pages of a mapping whose bytes lie at `offset`, and not where the mapping has its others. */
export interface MovedRun extends PageRun {
  readonly offset: number
}

/** A mapping and where its bytes are in the file. */
export interface PlacedMapping {
  readonly mapping: Mapping
  readonly offset: number
  /** 0 when the image holds nothing of it. */
  readonly size: number
  /** The old image's record, when its bytes stay where they are: number and checksum of its pages stay, too. */
  readonly kept?: NoteRecord
  /** In the order of their addresses; none but where `kept` is. */
  readonly moved: readonly MovedRun[]
}

export interface Placement {
  readonly mappings: readonly PlacedMapping[]
  /** Behind the last new byte. */
  readonly end: number
}

/** Smaller mappings are written anew when they change. */
const WORTH_KEEPING = 256
/** Changed runs that are closer to each other become one. */
const APART = 16n * PAGE_SIZE_BIG

/** @param base the core whose file goes on being used; undefined for a new file. `from` is where new bytes may begin. */
export function placeMappings(process: Process, from: number, base?: RawCore): Placement {
  let end = alignUp(from, PAGE_SIZE)
  const take = (size: number) => {
    const offset = end
    end += alignUp(size, PAGE_SIZE)
    return offset
  }
  const places = base && placesIn(base)
  const mappings = process.mappings
    .filter(({ kind }) => kind !== 'vsyscall' && kind !== 'vvar')
    .map((mapping): PlacedMapping => {
      const old = places?.get(mapping.start)
      const kept = old && keptPlace(mapping, process.memory, old, base!)
      if (kept !== undefined) {
        const moved = kept.changed.map(run => ({ ...run, offset: take(Number(run.end - run.start)) }))
        return {
          mapping,
          offset: kept.record.number('contentOffset'),
          size: kept.record.number('contentSize'),
          kept: kept.record,
          moved,
        }
      }
      const holdsSome = !process.memory.within(mapping.start, mapping.end).next().done
      const size = holdsSome ? Number(mapping.end - mapping.start) : 0
      return { mapping, offset: take(size), size, moved: [] }
    })
  return { mappings, end }
}

/** Whether the mapping can stay at its place in `base`, and what of it changed. */
function keptPlace(mapping: Mapping, memory: Memory, record: NoteRecord, base: RawCore) {
  const changed = changedRuns(mapping, memory, record, base)
  if (changed === undefined) return undefined
  if (changed.length === 0) return { record, changed }
  const divisible =
    !mapping.shared && !mapping.growsDown && (mapping.kind === 'anonymous' || mapping.kind === 'heap')
  return divisible && record.number('storedPages') > WORTH_KEEPING ? { record, changed } : undefined
}

/** The records of the mappings whose bytes `core` has, by address. */
export function placesIn(core: RawCore): Map<Address, NoteRecord> {
  const records = core.records.get('mapping') ?? []
  return new Map(
    records.filter(record => record.big('contentSize') > 0n).map(record => [record.big('start'), record]),
  )
}

/**
 * Runs of pages of `mapping` that are not what `core` has at the place of `record`; undefined when that is the place of other addresses.
 * What memory does not hold, a core has as zeros.
 */
export function changedRuns(
  mapping: Mapping,
  memory: Memory,
  record: NoteRecord,
  core: RawCore,
): readonly PageRun[] | undefined {
  const { start, end } = mapping
  if (record.big('end') !== end || record.big('contentSize') !== end - start) return undefined
  const offset = record.number('contentOffset')
  const place = (address: Address) => offset + Number(address - start)
  const runs: { start: Address; end: Address }[] = []
  const add = (from: Address, to: Address) => {
    const [first, last] = [alignDownBig(from, PAGE_SIZE_BIG), alignUpBig(to, PAGE_SIZE_BIG)]
    const before = runs.at(-1)
    if (before !== undefined && first - before.end < APART) before.end = last
    else runs.push({ start: first, end: last })
  }
  const addZeros = (from: Address, to: Address) => {
    if (from >= to) return
    if (!(core.source instanceof FileSource)) return add(from, to)
    for (const data of dataRanges(core.source.fd, place(from), place(to))) {
      const at = start + BigInt(data.offset - offset)
      add(at, at + BigInt(data.length))
    }
  }
  let at = start
  for (const extent of memory.within(start, end)) {
    const { address, content } = extent
    addZeros(at, address)
    at = extentEnd(extent)
    if (content.kind === 'zero') addZeros(address, at)
    else if (content.kind === 'bytes' || content.source !== core.source || content.offset !== place(address))
      add(address, at)
  }
  addZeros(at, end)
  return runs
}
