/**
 * Address spaces: mm-<pid>.img → mappings and layout; page maps → memory that points into pages-<id>.img.
 *
 * Private pages are in pagemap-<pid>.img. Shared ones (anonymous shared, System V, memfd) are in
 * pagemap-shmem-<shmid>.img, where an address is an offset in the shared object. A run of pages that is "in parent"
 * is taken from the image below (the link `parent`); pages of neither are not in the image: untouched, or of a file.
 */
import path from 'node:path'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import type { MessageOf } from '../../lib/protobuf-schema.js'
import { type Extent, Memory, PAGE_SIZE } from '../../model/memory.js'
import type { AddressSpaceLayout, Mapping, MappingKind } from '../../model/process.js'
import type { CriuDirectory } from './directory.js'
import { PageMapCursor } from './page-map.js'
import { VmaStatus } from './schema/display.js'
import type { mm_entry, vma_entry } from './schema/memory.js'

export type AddressSpace = MessageOf<typeof mm_entry>
export type Vma = MessageOf<typeof vma_entry>

/** mmap(2)'s flags, the same on both ISAs. */
export const MapFlag = { SHARED: 1, PRIVATE: 2, ANONYMOUS: 0x20, GROWSDOWN: 0x100, LOCKED: 0x2000 } as const

/** Bits of `madv` are 1 << MADV_*. */
export const advices: ReadonlyArray<readonly [bit: number, name: string]> = [
  [10, 'dontfork'],
  [12, 'mergeable'],
  [14, 'hugepage'],
  [15, 'nohugepage'],
  [16, 'dontdump'],
  [18, 'wipeonfork'],
]

/** The marks of an address space: where code, data, heap, stack and arguments begin and end. */
export function readLayout(mm: AddressSpace): AddressSpaceLayout {
  const auxv: [bigint, bigint][] = []
  for (let i = 0; i + 1 < mm.mm_saved_auxv.length; i += 2)
    if (mm.mm_saved_auxv[i] !== 0n) auxv.push([mm.mm_saved_auxv[i]!, mm.mm_saved_auxv[i + 1]!])
  return {
    startCode: mm.mm_start_code,
    endCode: mm.mm_end_code,
    startData: mm.mm_start_data,
    endData: mm.mm_end_data,
    startStack: mm.mm_start_stack,
    startBrk: mm.mm_start_brk,
    brk: mm.mm_brk,
    argStart: mm.mm_arg_start,
    argEnd: mm.mm_arg_end,
    envStart: mm.mm_env_start,
    envEnd: mm.mm_env_end,
    auxv,
  }
}

/** @param pathOf the path of a file by its id, and whether it was deleted. */
export function readMapping(
  vma: Vma,
  layout: AddressSpaceLayout,
  pathOf: (id: number) => { path: string; deleted: boolean } | undefined,
): Mapping {
  const kind = mappingKind(vma, layout)
  const hasFile = kind === 'file' || kind === 'memfd' || kind === 'device'
  const file = hasFile ? pathOf(Number(vma.shmid)) : undefined
  const madvise = vma.madv ?? 0n
  return {
    start: vma.start,
    end: vma.end,
    read: (vma.prot & 1) !== 0,
    write: (vma.prot & 2) !== 0,
    execute: (vma.prot & 4) !== 0,
    shared: (vma.flags & MapFlag.SHARED) !== 0,
    kind,
    ...(file && { file: { ...file, offset: vma.pgoff } }),
    growsDown: (vma.flags & MapFlag.GROWSDOWN) !== 0,
    advice: [
      ...advices.filter(([bit]) => (madvise >> BigInt(bit)) & 1n).map(([, name]) => name),
      ...(vma.flags & MapFlag.LOCKED ? ['locked'] : []),
    ],
  }
}

function mappingKind(vma: Vma, layout: AddressSpaceLayout): MappingKind {
  const is = (status: number) => (vma.status & status) !== 0
  if (is(VmaStatus.VMA_AREA_VSYSCALL)) return 'vsyscall'
  if (is(VmaStatus.VMA_AREA_VDSO)) return 'vdso'
  if (is(VmaStatus.VMA_AREA_VVAR)) return 'vvar'
  if (is(VmaStatus.VMA_AREA_SYSVIPC)) return 'sysv'
  if (is(VmaStatus.VMA_AREA_MEMFD)) return 'memfd'
  if (is(VmaStatus.VMA_AREA_SOCKET | VmaStatus.VMA_AREA_AIORING)) return 'device'
  if (is(VmaStatus.VMA_FILE_PRIVATE | VmaStatus.VMA_FILE_SHARED)) return 'file'
  if (is(VmaStatus.VMA_AREA_HEAP)) return 'heap'
  if (is(VmaStatus.VMA_AREA_STACK)) return 'stack'
  if (vma.start < layout.brk && vma.end > layout.startBrk) return 'heap'
  if (vma.start <= layout.startStack && layout.startStack < vma.end) return 'stack'
  return 'anonymous'
}

/** The pages of one page map. Addresses are virtual, or offsets for shared memory. None when there is no such file. */
export function readPageMap(directory: CriuDirectory, name: string, depth = 0): Memory {
  if (!directory.has(name)) return Memory.empty
  const file = path.join(directory.path, name)
  const cursor = new PageMapCursor(directory.bytes(name), file)
  const pagesName = `pages-${cursor.pagesId}.img`
  const extents: Extent[] = []
  let inParent: { start: bigint; end: bigint }[] | undefined
  let offset = 0
  let pagesSize: number | undefined
  while (cursor.next()) {
    const { place, pages } = cursor
    if (place === 'absent' || pages === 0) continue
    const address = cursor.address
    const length = pages * PAGE_SIZE
    if (
      (cursor.addressLow & (PAGE_SIZE - 1)) !== 0 ||
      !Number.isSafeInteger(length) ||
      address + BigInt(length) > limits.userAddressEnd
    )
      throw new UnreadableError('a page map entry outside of what an address space can be', {
        file,
        address,
        found: `${pages} pages`,
      })
    if (place === 'parent') {
      inParent ??= []
      inParent.push({ start: address, end: address + BigInt(length) })
      continue
    }
    const source = directory.source(pagesName)
    pagesSize ??= source.size
    if (offset + length > pagesSize)
      throw new UnreadableError('truncated: the page map tells of more pages than there are', {
        file: source.path,
        address,
        found: `${pagesSize} bytes`,
        expected: `at least ${offset + length} bytes`,
      })
    extents.push({ address, length, content: { kind: 'slice', source, offset } })
    offset += length
    if (extents.length > limits.memoryRanges)
      throw new UnreadableError('too many entries in a page map', {
        file,
        expected: `${limits.memoryRanges}`,
      })
  }
  if (inParent !== undefined) extents.push(...pagesOfParent(directory, name, inParent, depth))
  return Memory.from(extents)
}

/** Images below images: CRIU itself has no limit; a link that leads in a circle must not hang us. */
const MAX_PARENTS = 1000

function pagesOfParent(
  directory: CriuDirectory,
  name: string,
  ranges: ReadonlyArray<{ start: bigint; end: bigint }>,
  depth: number,
): Extent[] {
  const parent = depth < MAX_PARENTS ? directory.parent : undefined
  if (parent === undefined)
    throw new UnreadableError('pages that are in a parent image, and no parent image', {
      file: path.join(directory.path, name),
      address: ranges[0]!.start,
      hint: `put the image that it was made on at ${path.join(directory.path, 'parent')}`,
    })
  const memory = readPageMap(parent, name, depth + 1)
  const found: Extent[] = []
  for (const { start, end } of ranges) {
    if (!memory.covers(start, end))
      throw new UnreadableError('the parent image lacks pages that this one takes from it', {
        file: path.join(parent.path, name),
        address: start,
      })
    found.push(...memory.within(start, end))
  }
  return found
}

/**
 * All memory of a process.
 * @param shmidOf the shared object behind a mapping, when it has one.
 */
export function readMemory(
  directory: CriuDirectory,
  pid: number,
  vmas: readonly Vma[],
  shmidOf: (vma: Vma) => bigint | undefined,
  shared: (shmid: bigint) => Memory,
): Memory {
  const own = readPageMap(directory, `pagemap-${pid}.img`)
  const extents: Extent[] = []
  for (const vma of vmas) {
    const shmid = shmidOf(vma)
    if (shmid === undefined) continue
    const shift = vma.start - vma.pgoff
    for (const extent of shared(shmid).within(vma.pgoff, vma.pgoff + (vma.end - vma.start)))
      extents.push({ ...extent, address: extent.address + shift })
  }
  return extents.length === 0 ? own : own.overlay(extents)
}

/** The shared object of a mapping whose pages are not the process's own. */
export function sharedObject(
  vma: Vma,
  memfdShmid: (fileId: number) => bigint | undefined,
): bigint | undefined {
  if (vma.status & VmaStatus.VMA_AREA_MEMFD)
    return vma.flags & MapFlag.SHARED ? memfdShmid(Number(vma.shmid)) : undefined
  return vma.status & (VmaStatus.VMA_ANON_SHARED | VmaStatus.VMA_AREA_SYSVIPC) ? vma.shmid : undefined
}
