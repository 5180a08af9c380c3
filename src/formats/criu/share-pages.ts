/**
 * Pages that a new image takes over from the one it was read from, without a copy: what did not change becomes "in parent",
 * and the parent is a folder in the new image with the page maps and links to the pages files of the old one.
 *
 *   new/  pagemap-7.img    pages 0–9 present, 10–99 in parent, …
 *         pages-1.img      what changed
 *         parent/          pagemap-7.img, pages-1.img ── the same file as ──► old/pages-1.img
 *         parent/parent/   … as far as the old image has parents
 *
 * CRIU opens `parent` as a folder, link or not (criu/image.c, open_parent). The new image stays whole when the old one is
 * removed; both are spoiled when somebody changes a pages file in place, as criu's dedup does.
 */
import fs from 'node:fs'
import path from 'node:path'
import { FileSource } from '../../lib/byte-source.js'
import { copyRange } from '../../lib/sparse.js'
import { type Address, type Extent, extentEnd, Memory, PAGE_SIZE_BIG } from '../../model/memory.js'
import type { CriuDirectory } from './directory.js'
import { PageMapCursor } from './page-map.js'

/** Below this many bytes a copy costs nothing that anybody would see, and the image is one flat folder. */
const WORTH_SHARING = 16 * 1024 * 1024

export interface AddressRange {
  readonly start: Address
  readonly end: Address
}

/** Runs of whole pages that are in `base` at the same address, from the same place; none when they are few. */
export function pagesToShare(memory: Memory, base: Memory): AddressRange[] {
  const runs: { start: Address; end: Address }[] = []
  let bytes = 0n
  for (const extent of memory.extents)
    for (const before of base.within(extent.address, extentEnd(extent))) {
      if (!samePlace(extent, before)) continue
      const start = (before.address + PAGE_SIZE_BIG - 1n) & ~(PAGE_SIZE_BIG - 1n)
      const end = extentEnd(before) & ~(PAGE_SIZE_BIG - 1n)
      if (start >= end) continue
      bytes += end - start
      const last = runs.at(-1)
      if (last?.end === start) last.end = end
      else runs.push({ start, end })
    }
  return bytes < WORTH_SHARING ? [] : runs
}

/** `inner` lies within `outer`: do its bytes come from there? */
function samePlace(outer: Extent, inner: Extent): boolean {
  const [a, b] = [outer.content, inner.content]
  return (
    a.kind === 'slice' &&
    b.kind === 'slice' &&
    a.offset + Number(inner.address - outer.address) === b.offset &&
    (a.source === b.source ||
      (a.source instanceof FileSource && b.source instanceof FileSource && a.source.path === b.source.path))
  )
}

/** `memory` without `runs`, which are sorted. */
export function without(memory: Memory, runs: readonly AddressRange[]): Memory {
  if (runs.length === 0) return memory
  const rest: Extent[] = []
  let at = 0n
  for (const { start, end } of runs) {
    rest.push(...memory.within(at, start))
    at = end
  }
  const last = memory.extents.at(-1)
  if (last !== undefined) rest.push(...memory.within(at, extentEnd(last)))
  return Memory.from(rest)
}

/** Makes `folder` an image that holds the page map `name` of `directory`, its pages, and what is below. */
export function linkPages(directory: CriuDirectory, name: string, folder: string): void {
  if (!directory.has(name)) return
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  const bytes = directory.bytes(name)
  fs.writeFileSync(path.join(folder, name), bytes, { mode: 0o600 })
  const cursor = new PageMapCursor(bytes, path.join(directory.path, name))
  const pages = `pages-${cursor.pagesId}.img`
  const target = path.join(folder, pages)
  if (directory.has(pages) && !fs.existsSync(target)) takeOver(path.join(directory.path, pages), target)
  let below = false
  while (!below && cursor.next()) below = cursor.place === 'parent'
  if (below) linkPages(directory.parent!, name, path.join(folder, 'parent'))
}

/** Makes `target` a file with the content of `source`: where it is large, by sharing its blocks or the file itself. */
export function takeOver(source: string, target: string): void {
  const from = new FileSource(source)
  try {
    if (from.size >= WORTH_SHARING && shareFile(source, target)) return
    const fd = fs.openSync(target, 'wx', 0o600)
    try {
      copyRange(from.fd, 0, fd, 0, from.size)
      fs.ftruncateSync(fd, from.size)
    } finally {
      fs.closeSync(fd)
    }
  } finally {
    from.close()
  }
}

function shareFile(source: string, target: string): boolean {
  const ways = [
    () => fs.copyFileSync(source, target, fs.constants.COPYFILE_FICLONE_FORCE),
    () => fs.linkSync(fs.realpathSync(source), target),
  ]
  return ways.some(way => {
    try {
      way()
      return true
    } catch {
      return false // another file system, or not our file
    }
  })
}
