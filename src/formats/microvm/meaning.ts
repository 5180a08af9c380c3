/** What readers of a microvm image rely on, beyond its layout: everything lies where it may, nothing overlaps. */
import { R } from '../../isa/x86-64-kvm.js'
import { KEPT_FLAGS } from '../../isa/x86-64-program.js'
import { UnreadableError } from '../../lib/errors.js'
import { PAGE_SIZE_BIG } from '../../model/memory.js'
import { fileKinds, lockKinds, type MicroVmRecord } from './record.js'

type Fail = (what: string, found?: bigint | number) => never

/** Descriptors and timers are numbered below this. */
const HIGHEST_NUMBER = 4096
/** With bit 1 of RFLAGS, which is always set. */
const PROGRAM_FLAGS = KEPT_FLAGS | 2n
/** XCR0: x87 and SSE are always there; AVX and AVX-512 may be. Source: Intel SDM, volume 1, 13.3. */
const X87_AND_SSE = 3n
const KNOWN_COMPONENTS = 0xe7n
const MXCSR = 24
const XSTATE_BV = 512
const [RESERVED_IN_HEADER, END_OF_HEADER] = [520, 576]

const isPageAligned = (value: bigint) => value % PAGE_SIZE_BIG === 0n
const isSignal = (signal: number) => signal >= 1 && signal <= 64

/** @throws UnreadableError */
export function checkMeaning(record: MicroVmRecord, file: string | undefined): void {
  const fail: Fail = (what, found) => {
    throw new UnreadableError(what, { file, found })
  }
  checkMemory(record, fail)
  checkFiles(record, fail)
  checkCpu(record, fail)
  checkSignals(record, fail)
}

function checkMemory(
  { mappings, extents, process, usableBytes, memoryBytes }: MicroVmRecord,
  fail: Fail,
): void {
  let last = 0n
  for (const { start, end, protection } of mappings) {
    const lies = start >= last && end > start && end <= usableBytes
    if (!lies || !isPageAligned(start | end) || protection > 7) fail('an impossible mapping', start)
    last = end
  }
  last = 0n
  for (const { address, length } of extents) {
    const lies = address >= last && length > 0n && address + length <= memoryBytes
    if (!lies || !isPageAligned(address | length)) fail('an impossible extent of memory', address)
    last = address + length
  }
  if (process.brkStart > process.brk || process.brk > usableBytes) fail('an impossible heap', process.brk)
}

function checkFiles({ files, descriptors, locks }: MicroVmRecord, fail: Fail): void {
  for (const { kind } of files) if (kind >= fileKinds.length) fail('an open file of unknown kind', kind)
  const known = new Set<number>()
  for (const { fd, file, closeOnExec } of descriptors) {
    if (file >= files.length || fd > HIGHEST_NUMBER || known.has(fd) || closeOnExec > 1)
      fail('an impossible descriptor', fd)
    known.add(fd)
  }
  for (const { file, kind, exclusive, start, length } of locks ?? []) {
    const open = files[file]
    if (open === undefined || fileKinds[open.kind] !== 'regular') fail('a lock of what is no open file', file)
    if (kind >= lockKinds.length || exclusive > 1 || start + length >= 1n << 63n)
      fail('an impossible lock', start)
  }
}

function checkCpu({ cpu, usableBytes }: MicroVmRecord, fail: Fail): void {
  const { registers, xcr0, xsave } = cpu
  const view = new DataView(xsave.buffer, xsave.byteOffset)
  const mxcsr = view.getUint32(MXCSR, true)
  const inUse = view.getBigUint64(XSTATE_BV, true)
  if ((mxcsr & ~0xffff) !== 0) fail('impossible MXCSR', mxcsr)
  if ((xcr0 & X87_AND_SSE) !== X87_AND_SSE || (xcr0 & ~KNOWN_COMPONENTS) !== 0n) fail('impossible XCR0', xcr0)
  if ((inUse & ~xcr0) !== 0n || xsave.subarray(RESERVED_IN_HEADER, END_OF_HEADER).some(byte => byte !== 0))
    fail('an XSAVE header that XCR0 does not allow', inUse)
  if (registers[R.rip]! >= usableBytes) fail('rip lies outside of memory', registers[R.rip]!)
  if ((registers[R.rflags]! & ~PROGRAM_FLAGS) !== 0n) fail('impossible flags', registers[R.rflags]!)
}

function checkSignals({ signals, pending, timers }: MicroVmRecord, fail: Fail): void {
  for (const { signal } of [...signals, ...(pending ?? [])])
    if (!isSignal(signal)) fail('an impossible signal', signal)
  const known = new Set<number>()
  for (const { id, signal } of timers ?? []) {
    if (id > HIGHEST_NUMBER || known.has(id) || (signal !== 0 && !isSignal(signal)))
      fail('an impossible timer', id)
    known.add(id)
  }
}
