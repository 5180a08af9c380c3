/**
 * What lies in the pages of an image: runs of pages that stand behind each other in the image's file, with their
 * address, their mapping, and the part of a program they hold.
 *
 *   pages-1.img:  0        1        2 …… 134     135 …
 *                 .text    .data    .bss         stack
 *
 * Pure: cost follows mappings, sections and extents; no page is read.
 */
import path from 'node:path'
import { alignDownBig, alignUpBig } from '../lib/bytes.js'
import type { LoadedFiles } from './loaded-files.js'
import {
  type Address,
  type Extent,
  extentEnd,
  PAGE_SIZE,
  PAGE_SIZE_BIG,
  type PageCount,
  sliceExtent,
} from './memory.js'
import type { Mapping, Process } from './process.js'

export interface PageRun {
  /** The file that holds the pages; undefined for pages known to be zero or patched. */
  readonly file: string | undefined
  /** Index of the first page in that file, counted from 0; a fraction where the file is not made of whole pages. */
  readonly first: PageCount
  readonly count: PageCount
  readonly address: Address
  readonly mapping: Mapping | undefined
  /** Sections that these pages hold (`.data`, `.bss`), or the kind of mapping (`heap`, `stack`, `vdso`). */
  readonly contents: readonly string[]
  /** The executable or library whose sections these are. */
  readonly owner: string | undefined
}

/** The breakdown of one process, in the order of the image's files. */
export function pageBreakdown(process: Process, loaded: LoadedFiles): PageRun[] {
  const runs: PageRun[] = []
  const byEnd = new Map(process.mappings.map(mapping => [mapping.end, mapping]))
  for (const piece of pieces(process)) {
    // Cut where the contents change: at the pages where sections begin or end.
    for (const [start, end] of cuts(piece, loaded)) {
      const { content } = piece.extent
      const skipped = Number(start - piece.extent.address)
      runs.push({
        file: content.kind === 'slice' ? content.source.path : undefined,
        first: content.kind === 'slice' ? (content.offset + skipped) / PAGE_SIZE : 0,
        count: Number(end - start) / PAGE_SIZE,
        address: start,
        mapping: piece.mapping,
        ...contentsOf(piece.mapping, byEnd, loaded, start, end),
      })
    }
  }
  return runs.reduce(joinEqual, []).sort(byPlace)
}

/** The extents, cut at the borders of mappings. */
function* pieces(process: Process): Generator<{ mapping: Mapping | undefined; extent: Extent }> {
  let next = 0
  for (const extent of process.memory.extents) {
    let at = extent.address
    const end = extentEnd(extent)
    while (at < end) {
      while (next < process.mappings.length && process.mappings[next]!.end <= at) next++
      const mapping = process.mappings[next]
      const inside = mapping !== undefined && mapping.start <= at
      const border = mapping === undefined ? end : inside ? mapping.end : mapping.start
      const stop = border < end ? border : end
      yield { mapping: inside ? mapping : undefined, extent: sliceExtent(extent, at, stop) }
      at = stop
    }
  }
}

function* cuts({ extent }: { extent: Extent }, loaded: LoadedFiles): Generator<[Address, Address]> {
  const end = extentEnd(extent)
  const borders = new Set<Address>()
  const file = loaded.at(extent.address)
  if (file !== undefined)
    for (const section of loaded.sections(extent.address, end)) {
      const start = section.address + file.bias
      const after = start + BigInt(section.size)
      // A page that two sections share stands alone between them.
      for (const border of [start, after]) {
        borders.add(alignDownBig(border, PAGE_SIZE_BIG))
        borders.add(alignUpBig(border, PAGE_SIZE_BIG))
      }
    }
  let from = extent.address
  for (const border of [...borders].sort((a, b) => (a < b ? -1 : 1)))
    if (border > from && border < end) {
      yield [from, border]
      from = border
    }
  yield [from, end]
}

function contentsOf(
  mapping: Mapping | undefined,
  byEnd: ReadonlyMap<Address, Mapping>,
  loaded: LoadedFiles,
  start: Address,
  end: Address,
): Pick<PageRun, 'contents' | 'owner'> {
  const special = mapping && !['file', 'anonymous'].includes(mapping.kind)
  if (special) return { contents: [mapping.kind], owner: undefined }
  const file = loaded.at(start)
  if (file !== undefined) {
    const sections = loaded.sections(start, end).map(section => section.name)
    if (sections.length > 0) return { contents: sections, owner: file.path }
    if (mapping?.kind === 'file') return { contents: ['headers or padding'], owner: file.path }
  }
  if (mapping?.kind === 'file')
    return { contents: [mapping.execute ? 'code' : 'data'], owner: mapping.file?.path }
  // Without the file's own sections: what follows an executable's last mapping is its .bss.
  const before = mapping && byEnd.get(mapping.start)
  const known = loaded.files.some(each => each.path === before?.file?.path)
  if (before?.kind === 'file' && before.write && !before.shared && !known)
    return { contents: ['bss'], owner: before.file?.path }
  return { contents: [mapping?.kind ?? 'no mapping'], owner: undefined }
}

/** Neighbours in memory and in the file with the same contents are one run. */
function joinEqual(runs: PageRun[], run: PageRun): PageRun[] {
  const last = runs.at(-1)
  if (
    last !== undefined &&
    last.file === run.file &&
    last.mapping === run.mapping &&
    last.owner === run.owner &&
    last.contents.join() === run.contents.join() &&
    last.address + BigInt(last.count) * PAGE_SIZE_BIG === run.address &&
    (run.file === undefined || last.first + last.count === run.first)
  )
    runs[runs.length - 1] = { ...last, count: last.count + run.count }
  else runs.push(run)
  return runs
}

function byPlace(a: PageRun, b: PageRun): number {
  if (a.file !== b.file) return (a.file ?? '\uffff') < (b.file ?? '\uffff') ? -1 : 1
  return a.first - b.first || (a.address < b.address ? -1 : 1)
}

/** `.data`, `.data of libc.so.6`: sections joined, libraries named. */
export function contentsText(run: PageRun, executable: string | undefined): string {
  const what = run.contents.join(' ')
  return run.owner === undefined || run.owner === executable ? what : `${what} of ${path.basename(run.owner)}`
}
