/**
 * The address space of a guest. It is flat: a virtual address is the guest physical address, so that a pointer of
 * the guest is an offset into one host mapping; the page tables only say what may be done with each page.
 *
 *   0          nothing: a null pointer, and anything near it, faults
 *   0x10000    the program (where it is linked; static-PIE at 0x400000), its heap (brk) after it
 *     ⋮        mmap, from the stack downwards
 *   M−8 MiB    the stack, a guard page below it
 *   M          the monitor's area (supervisor, but for the system call stub):
 *              +0x0000 PML4   +0x1000 PDPT   +0x2000 GDT   +0x3000 TSS   +0x4000 IDT
 *              +0x5000 256 fault stubs of 8 bytes   +0x6000 system call stub (LSTAR)   +0x7000 ring-0 stack
 *              +0x8000 one page directory a GiB, then one page table a 2 MiB
 *
 * The descriptor and TSS layouts are those of Intel SDM 3A chapters 3 and 8.7; the values were tried on VMX-less
 * nested PVM and on SVM, where the same stubs work though the first enters them at CPL 3 and the second at CPL 0.
 */
import { GDT_DESCRIPTORS, SELECTOR } from '../../isa/x86-64-gdt.js'
import { PAGE_SIZE } from '../../model/memory.js'

/** Addresses below this are never mapped. */
export const LOWEST_ADDRESS = 0x10000
/** Where a static-PIE program is put. */
export const PIE_BASE = 0x400000
export const STACK_SIZE = 8 << 20
/** A memory of WebAssembly, which holds it, has 4 GiB at most: guest memory and monitor area together stay below. */
export const LARGEST_MEMORY = 4000 * (1 << 20)
export const SMALLEST_MEMORY = 12 * (1 << 20)

const GIB = 1 << 30
const BIG_PAGE = 2 << 20

/** Where a program and its stack are put. */
export interface ProgramRoom {
  readonly lowest: number
  /** The stack ends here. */
  readonly top: number
  readonly stackSize: number
}

/** Offsets within the monitor's area. */
export const AREA = {
  pml4: 0x0000,
  pdpt: 0x1000,
  gdt: 0x2000,
  tss: 0x3000,
  idt: 0x4000,
  faultStubs: 0x5000,
  syscallStub: 0x6000,
  ring0Stack: 0x7000,
  directories: 0x8000,
} as const

export const FAULT_STUB_SIZE = 8
/** `out` to this port: a system call. */
export const SYSCALL_PORT = 0x10
/** `out` to this port: a fault; the stub's address tells which. */
export const FAULT_PORT = 0x11

export const TSS_LIMIT = 0x3ff
export const IDT_LIMIT = 0xfff

/** sysret and syscall selectors (AMD APM 2, 6.1.1), flags cleared on entry, and control registers of a guest. */
export const CONTROL = {
  cr0: 0x80050033n, // PG AM WP NE ET MP PE
  cr4: 0x50620n, // PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
  efer: 0xd01n, // SCE LME LMA NXE
  star: 0x001b_0008_0000_0000n,
  sfmask: 0x47700n,
} as const

export interface Layout {
  /** M: bytes of memory the guest may use, a multiple of 2 MiB. */
  readonly memorySize: number
  readonly directoryCount: number
  /** Offset of the first page table within the area. */
  readonly tables: number
  readonly areaSize: number
  /** Bytes of guest physical memory: memorySize + areaSize. */
  readonly totalSize: number
}

/** The layout of a guest with `memorySize` bytes. */
export function layoutFor(memorySize: number): Layout {
  let areaSize = 0
  let directoryCount = 0
  let tables = 0
  // The tables also map themselves, so their number is found by trying until it no longer grows.
  for (let guess = BIG_PAGE; ; guess = areaSize) {
    directoryCount = Math.ceil((memorySize + guess) / GIB)
    tables = AREA.directories + directoryCount * PAGE_SIZE
    areaSize = tables + Math.ceil((memorySize + guess) / BIG_PAGE) * PAGE_SIZE
    if (areaSize <= guess) break
  }
  areaSize = Math.ceil(areaSize / PAGE_SIZE) * PAGE_SIZE
  return { memorySize, directoryCount, tables, areaSize, totalSize: memorySize + areaSize }
}

/** Page table entry bits (Intel SDM 3A, 4.5). The no-execute bit is bit 63: bit 31 of the upper half. */
const PRESENT = 1
const WRITABLE = 2
const USER = 4
const NO_EXECUTE_HIGH = 0x8000_0000

/** The page tables within the monitor's area: an entry a page, as two halves. */
export function pageTables(area: Uint8Array, layout: Layout): Uint32Array {
  return new Uint32Array(area.buffer, area.byteOffset + layout.tables, (layout.areaSize - layout.tables) / 4)
}

function setEntries(tables: Uint32Array, start: number, end: number, low: number, high: number): void {
  for (let page = start / PAGE_SIZE; page < end / PAGE_SIZE; page++) {
    tables[page * 2] = low === 0 ? 0 : page * PAGE_SIZE + low
    tables[page * 2 + 1] = high
  }
}

/** What the program may do with the pages of [start, end): 1 read, 2 write, 4 execute; 0 makes them fault. */
export function protectPages(tables: Uint32Array, start: number, end: number, protection: number): void {
  if ((protection & 7) === 0) setEntries(tables, start, end, 0, 0)
  else
    setEntries(
      tables,
      start,
      end,
      PRESENT | USER | (protection & 2 ? WRITABLE : 0),
      protection & 4 ? 0 : NO_EXECUTE_HIGH,
    )
}

/** Fills the monitor's area of a guest in which nothing is mapped yet. */
export function makeMonitorArea(area: Uint8Array, layout: Layout): void {
  const { memorySize, totalSize } = layout
  writeMonitorArea(area, layout)
  const tables = pageTables(area, layout)
  setEntries(tables, memorySize, totalSize, PRESENT | WRITABLE, NO_EXECUTE_HIGH)
  const stub = memorySize + AREA.faultStubs
  setEntries(tables, stub, stub + PAGE_SIZE, PRESENT, 0)
  // The stub has to be a user page: nested PVM enters it without leaving ring 3.
  const entry = memorySize + AREA.syscallStub
  setEntries(tables, entry, entry + PAGE_SIZE, PRESENT | USER, 0)
}

/** Writes GDT, TSS, IDT, stubs and the upper levels of the page tables into the monitor's area. */
function writeMonitorArea(area: Uint8Array, layout: Layout): void {
  const view = new DataView(area.buffer, area.byteOffset, area.length)
  const base = layout.memorySize
  const put = (offset: number, value: bigint) => view.setBigUint64(offset, value, true)

  for (const [i, descriptor] of GDT_DESCRIPTORS.entries()) put(AREA.gdt + i * 8, descriptor)
  const tss = BigInt(base + AREA.tss)
  put(
    AREA.gdt + SELECTOR.tss,
    BigInt(TSS_LIMIT) | ((tss & 0xffffffn) << 16n) | (0x8bn << 40n) | ((tss >> 24n) << 56n),
  )
  put(AREA.gdt + SELECTOR.tss + 8, tss >> 32n)

  put(AREA.tss + 4, BigInt(base + AREA.ring0Stack + PAGE_SIZE)) // RSP0
  view.setUint16(AREA.tss + 102, 0x68, true) // where the I/O permission bitmap begins
  area.fill(0xff, AREA.tss + 0x68, AREA.tss + TSS_LIMIT + 1)
  area[AREA.tss + 0x68 + SYSCALL_PORT / 8] = 0xff & ~(1 << (SYSCALL_PORT % 8))

  for (let vector = 0; vector < 256; vector++) {
    const stub = AREA.faultStubs + vector * FAULT_STUB_SIZE
    area.set([0xe6, FAULT_PORT, 0xf4], stub) // out 0x11, al; hlt
    const target = base + stub
    const gate = AREA.idt + vector * 16
    view.setUint16(gate, target & 0xffff, true)
    view.setUint16(gate + 2, 0x08, true)
    view.setUint16(gate + 4, 0x8e00, true) // present, DPL 0, interrupt gate, no IST
    view.setUint16(gate + 6, (target >>> 16) & 0xffff, true)
  }
  area.set([0xe6, SYSCALL_PORT, 0x48, 0x0f, 0x07], AREA.syscallStub) // out 0x10, al; sysretq

  const allowAll = 7n // present, writable, user: the page tables below decide
  put(AREA.pml4, BigInt(base + AREA.pdpt) | allowAll)
  for (let i = 0; i < layout.directoryCount; i++)
    put(AREA.pdpt + i * 8, BigInt(base + AREA.directories + i * PAGE_SIZE) | allowAll)
  const tableCount = Math.ceil(layout.totalSize / BIG_PAGE)
  for (let i = 0; i < tableCount; i++)
    put(AREA.directories + i * 8, BigInt(base + layout.tables + i * PAGE_SIZE) | allowAll)
}
