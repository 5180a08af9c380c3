/** Address spaces → mm-<pid>.img, pagemap-<pid>.img and pages-<id>.img: the other direction of `read-memory.ts`. */
import fs from 'node:fs'
import path from 'node:path'
import { LossError } from '../../lib/errors.js'
import { type Extent, extentEnd, type Memory, PAGE_SIZE_BIG } from '../../model/memory.js'
import type { Mapping, Process } from '../../model/process.js'
import { writeExtent } from '../extent-file.js'
import type { Entry } from './image-file.js'
import { type AddressSpace, advices, MapFlag, readLayout, type Vma } from './read-memory.js'
import { PageFlag, VmaStatus } from './schema/display.js'
import { pagemap_entry, pagemap_head } from './schema/memory.js'
import type { AddressRange } from './share-pages.js'
import type { FilesToWrite } from './write-files.js'

/** SUID_DUMP_USER: what prctl(PR_GET_DUMPABLE) says of an ordinary process. */
const DUMPABLE = 1

/** The record of a process's address space; what the model does not hold comes from `base`. */
export function writeAddressSpace(
  process: Process,
  base: AddressSpace | undefined,
  files: FilesToWrite,
): AddressSpace {
  const { layout } = process
  const executable = process.executable
  return {
    dumpable: DUMPABLE,
    aios: [],
    ...base,
    mm_start_code: layout.startCode,
    mm_end_code: layout.endCode,
    mm_start_data: layout.startData,
    mm_end_data: layout.endData,
    mm_start_stack: layout.startStack,
    mm_start_brk: layout.startBrk,
    mm_brk: layout.brk,
    mm_arg_start: layout.argStart,
    mm_arg_end: layout.argEnd,
    mm_env_start: layout.envStart,
    mm_env_end: layout.envEnd,
    exe_file_id:
      executable === undefined ? (base?.exe_file_id ?? 0) : files.idOf(executable, base?.exe_file_id),
    mm_saved_auxv: writeAuxv(process, base),
    vmas: process.mappings.map(mapping => writeVma(mapping, base, files)),
  }
}

/** The kernel's vector ends with zeros, of which CRIU keeps some: they stay as long as the pairs do. */
function writeAuxv({ layout }: Process, base: AddressSpace | undefined): readonly bigint[] {
  const before = base === undefined ? [] : readLayout(base).auxv.flat()
  const now = layout.auxv.flat()
  const same = now.length === before.length && now.every((word, i) => word === before[i])
  return same ? base!.mm_saved_auxv : now
}

function writeVma(mapping: Mapping, base: AddressSpace | undefined, files: FilesToWrite): Vma {
  const before =
    base?.vmas.find(vma => vma.start === mapping.start && vma.end === mapping.end) ??
    base?.vmas.find(vma => vma.start === mapping.start)
  const status = statusOf(mapping)
  // The record that was read, if it is still the same sort of mapping: marks that the model does not hold stay.
  const same = before !== undefined && (before.status & status) === status ? before : undefined
  const anonymous = mapping.file === undefined && !(mapping.kind === 'sysv' || mapping.kind === 'device')
  const flags =
    (mapping.shared ? MapFlag.SHARED : MapFlag.PRIVATE) |
    (anonymous ? MapFlag.ANONYMOUS : 0) |
    (mapping.growsDown ? MapFlag.GROWSDOWN : 0) |
    (mapping.advice.includes('locked') ? MapFlag.LOCKED : 0)
  const known = MapFlag.SHARED | MapFlag.PRIVATE | MapFlag.GROWSDOWN | MapFlag.LOCKED
  const madvise = advices.reduce(
    (bits, [bit, name]) => (mapping.advice.includes(name) ? bits | (1n << BigInt(bit)) : bits),
    (same?.madv ?? 0n) & ~advices.reduce((bits, [bit]) => bits | (1n << BigInt(bit)), 0n),
  )
  const file = mapping.file
  return {
    fd: -1n,
    pgoff: 0n,
    shmid: 0n,
    ...same,
    start: mapping.start,
    end: mapping.end,
    prot: (mapping.read ? 1 : 0) | (mapping.write ? 2 : 0) | (mapping.execute ? 4 : 0),
    flags: same === undefined ? flags : (same.flags & ~known) | (flags & known),
    status: same?.status ?? status,
    ...(file && { pgoff: file.offset, shmid: BigInt(files.idOf(file.path, same && Number(same.shmid))) }),
    ...(file && same === undefined && { fdflags: 0 }),
    ...((madvise !== 0n || same?.madv !== undefined) && { madv: madvise }),
  }
}

function statusOf(mapping: Mapping): number {
  const kind = {
    vsyscall: VmaStatus.VMA_AREA_VSYSCALL,
    vdso: VmaStatus.VMA_AREA_VDSO,
    vvar: VmaStatus.VMA_AREA_VVAR,
    sysv: VmaStatus.VMA_AREA_SYSVIPC,
    memfd: VmaStatus.VMA_AREA_MEMFD,
    heap: 0,
    stack: 0,
    device: 0,
    file: 0,
    anonymous: 0,
  }[mapping.kind]
  const regular = mapping.kind === 'vsyscall' ? 0 : VmaStatus.VMA_AREA_REGULAR
  const backing =
    mapping.kind === 'file'
      ? mapping.shared
        ? VmaStatus.VMA_FILE_SHARED
        : VmaStatus.VMA_FILE_PRIVATE
      : mapping.kind === 'memfd' || mapping.kind === 'device'
        ? 0
        : mapping.shared
          ? VmaStatus.VMA_ANON_SHARED
          : VmaStatus.VMA_ANON_PRIVATE
  return regular | backing | kind
}

/** Runs of whole pages with the extents in them. */
function* pageRuns(memory: Memory): Generator<{ start: bigint; end: bigint; extents: Extent[] }> {
  let run: { start: bigint; end: bigint; extents: Extent[] } | undefined
  for (const extent of memory.extents) {
    const start = extent.address & ~(PAGE_SIZE_BIG - 1n)
    const end = (extentEnd(extent) + PAGE_SIZE_BIG - 1n) & ~(PAGE_SIZE_BIG - 1n)
    if (run !== undefined && start <= run.end) {
      run.extents.push(extent)
      if (end > run.end) run.end = end
    } else {
      if (run !== undefined) yield run
      run = { start, end, extents: [extent] }
    }
  }
  if (run !== undefined) yield run
}

/** The largest count of pages in the field that all CRIUs read. */
const MOST_PAGES = 0xffff_ffff

/**
 * Writes the pages file `pages-<pagesId>.img` into `folder`; returns the entries of its page map.
 * @param inParent sorted runs of pages that are in the parent image, and not in `memory`
 */
export function writePages(
  folder: string,
  pagesId: number,
  memory: Memory,
  inParent: readonly AddressRange[] = [],
): Entry[] {
  const entries: Entry[] = [{ type: pagemap_head, message: { pages_id: pagesId } }]
  const add = ({ start, end }: AddressRange, flags: number) => {
    const pages = Number((end - start) / PAGE_SIZE_BIG)
    if (pages > MOST_PAGES)
      throw new LossError('more pages in a row than a page map entry can hold', { address: start })
    entries.push({ type: pagemap_entry, message: { vaddr: start, compat_nr_pages: pages, flags } })
  }
  const fd = fs.openSync(path.join(folder, `pages-${pagesId}.img`), 'wx', 0o600)
  try {
    let offset = 0
    let next = 0
    for (const run of pageRuns(memory)) {
      while (next < inParent.length && inParent[next]!.start < run.start)
        add(inParent[next++]!, PageFlag.PE_PARENT)
      for (const extent of run.extents) writeExtent(fd, extent, offset + Number(extent.address - run.start))
      add(run, PageFlag.PE_PRESENT)
      offset += Number(run.end - run.start)
    }
    for (const run of inParent.slice(next)) add(run, PageFlag.PE_PARENT)
    fs.ftruncateSync(fd, offset)
  } finally {
    fs.closeSync(fd)
  }
  return entries
}

/** The memory that is in the process's own page map: all but mappings of shared objects. */
export function privateMemory({ memory, mappings }: Process): Memory {
  return mappings
    .filter(mapping => mapping.shared && mapping.kind !== 'file')
    .reduce((rest, mapping) => rest.without(mapping.start, mapping.end), memory)
}
