/** System calls that change the address space: brk, mmap, munmap, mprotect, mremap, madvise. */

import { LOWEST_ADDRESS } from '../../../formats/microvm/guest-layout.js'
import { alignUp } from '../../../lib/bytes.js'
import { PAGE_SIZE } from '../../../model/memory.js'
import type { Guest } from '../guest.js'
import { hostCall, NR } from '../libc.js'
import { Protection } from '../mappings.js'
import { type Arguments, E, int, row, type SystemCall, size } from './table.js'

const MAP = { SHARED: 1, TYPE: 3, FIXED: 0x10, ANONYMOUS: 0x20, FIXED_NOREPLACE: 0x100000 } as const
const MREMAP = { MAYMOVE: 1, FIXED: 2 } as const
const MADV_DONTNEED = 4
const WRITE_EXECUTE = Protection.write | Protection.execute

/** [start, end) when it is page-aligned, not empty and within the guest's memory. */
function range(guest: Guest, address: bigint, length: bigint): [number, number] | undefined {
  const start = size(address)
  const end = start + alignUp(size(length), PAGE_SIZE)
  if (start % PAGE_SIZE !== 0 || end <= start || end > guest.memory.memorySize) return undefined
  return [start, end]
}

/** True when something is mapped throughout. */
const isMapped = ({ memory }: Guest, [start, end]: [number, number]): boolean =>
  memory.mappings.allowed(start, end - start, 0) === end - start

function brk(guest: Guest, a: Arguments): number {
  const { memory, process } = guest
  const wanted = size(a[0])
  const oldEnd = alignUp(process.brk, PAGE_SIZE)
  const newEnd = alignUp(wanted, PAGE_SIZE)
  if (wanted < process.brkStart || newEnd > memory.memorySize) return process.brk
  if (newEnd > oldEnd) {
    // A guard page stays between the heap and what follows.
    if (memory.mappings.within(oldEnd, newEnd + PAGE_SIZE).length > 0) return process.brk
    memory.map(oldEnd, newEnd, Protection.read | Protection.write, '[heap]')
  } else if (newEnd < oldEnd) memory.unmap(newEnd, oldEnd)
  process.brk = wanted
  return wanted
}

function mmap(guest: Guest, a: Arguments): number {
  const { memory } = guest
  const [hint, length, protectionWord, flagsWord, fd, offsetWord] = a
  const protection = int(protectionWord) & 7
  const flags = int(flagsWord)
  const bytes = alignUp(size(length), PAGE_SIZE)
  if (length === 0n || (flags & MAP.TYPE) === 0) return -E.EINVAL
  if (bytes > memory.memorySize) return -E.ENOMEM
  if ((protection & WRITE_EXECUTE) === WRITE_EXECUTE) return -E.EACCES
  const offset = size(offsetWord)
  const file = (flags & MAP.ANONYMOUS) !== 0 ? undefined : guest.files.get(int(fd))
  if ((flags & MAP.ANONYMOUS) === 0) {
    if (file === undefined) return -E.EBADF
    if (offset % PAGE_SIZE !== 0) return -E.EINVAL
    if (file.kind !== 'regular') return -E.ENODEV
    // Writes would have to reach the file: that is not offered.
    if ((flags & MAP.TYPE) !== 2 && (protection & Protection.write) !== 0) return -E.ENODEV
  }
  let start: number | undefined
  if ((flags & (MAP.FIXED | MAP.FIXED_NOREPLACE)) !== 0) {
    start = size(hint)
    if (start % PAGE_SIZE !== 0) return -E.EINVAL
    if (start < LOWEST_ADDRESS) return -E.EPERM
    if (start + bytes > memory.memorySize) return -E.ENOMEM
    if ((flags & MAP.FIXED_NOREPLACE) !== 0 && memory.mappings.within(start, start + bytes).length > 0)
      return -E.EEXIST
  } else start = memory.mappings.gapBelow(memory.memorySize, bytes)
  if (start === undefined) return -E.ENOMEM
  if (file === undefined) memory.map(start, start + bytes, protection, '')
  else {
    memory.map(start, start + bytes, protection, file.path)
    // The monitor reads into the pages directly: the guest's permission does not bind it.
    let done = 0
    while (done < bytes) {
      const count = hostCall(
        NR.pread64,
        file.hostFd,
        memory.base + BigInt(start + done),
        bytes - done,
        offset + done,
      )
      if (count <= 0) break
      done += count
    }
    memory.noteDirty(start, start + done)
  }
  return start
}

function mprotect(guest: Guest, a: Arguments): number {
  const { memory } = guest
  const protection = int(a[2]) & 7
  if (a[1] === 0n) return 0
  const place = range(guest, a[0], a[1])
  if (place === undefined) return size(a[0]) % PAGE_SIZE !== 0 ? -E.EINVAL : -E.ENOMEM
  if (!isMapped(guest, place)) return -E.ENOMEM
  if ((protection & WRITE_EXECUTE) === WRITE_EXECUTE) return -E.EACCES
  memory.protect(place[0], place[1], protection)
  return 0
}

function mremap(guest: Guest, a: Arguments): number {
  const { memory } = guest
  const old = range(guest, a[0], a[1])
  const flags = int(a[3])
  if (old === undefined || a[2] === 0n || (flags & MREMAP.FIXED) !== 0) return -E.EINVAL
  const [start, end] = old
  const newLength = alignUp(size(a[2]), PAGE_SIZE)
  if (newLength > memory.memorySize) return -E.ENOMEM
  const mapping = memory.mappings.at(start)
  if (mapping === undefined || mapping.end < end) return -E.EFAULT
  const { protection, name } = mapping
  if (start + newLength <= end) {
    if (start + newLength < end) memory.unmap(start + newLength, end)
    return start
  }
  const grown = start + newLength
  if (grown + PAGE_SIZE <= memory.memorySize && memory.mappings.within(end, grown + PAGE_SIZE).length === 0) {
    memory.map(end, grown, protection, name)
    return start
  }
  if ((flags & MREMAP.MAYMOVE) === 0) return -E.ENOMEM
  const target = memory.mappings.gapBelow(memory.memorySize, newLength)
  if (target === undefined) return -E.ENOMEM
  memory.map(target, target + newLength, protection, name)
  memory.bytes.copyWithin(target, start, end)
  memory.noteDirty(target, target + (end - start))
  memory.unmap(start, end)
  return target
}

function madvise(guest: Guest, a: Arguments): number {
  const place = range(guest, a[0], a[1])
  if (place === undefined) return a[1] === 0n ? 0 : -E.EINVAL
  const parts = int(a[2]) === MADV_DONTNEED ? guest.memory.mappings.within(...place) : []
  for (const part of parts) {
    // A private file mapping would show the file again; here its pages simply stay.
    if (part.name !== '' && !part.name.startsWith('[')) continue
    guest.memory.discard(part.start, part.end)
    guest.memory.noteDirty(part.start, part.end)
  }
  return isMapped(guest, place) ? 0 : -E.ENOMEM
}

export const memoryCalls: readonly SystemCall[] = [
  row(9, 'mmap', 'annnnn', mmap),
  row(10, 'mprotect', 'ann', mprotect),
  row(11, 'munmap', 'an', (guest, a) => {
    const place = range(guest, a[0], a[1])
    if (place === undefined) return -E.EINVAL
    guest.memory.unmap(...place)
    return 0
  }),
  row(12, 'brk', 'a', brk),
  row(25, 'mremap', 'annna', mremap),
  // Mappings of files are private: there is nothing to write back.
  row(26, 'msync', 'ann', (guest, a) => (range(guest, a[0], a[1]) === undefined ? -E.ENOMEM : 0)),
  row(28, 'madvise', 'ann', madvise),
]
