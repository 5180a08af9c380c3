/**
 * The memory of a guest: one private mapping of this process, seen flat (formats/microvm/guest-layout.ts), with the page tables
 * kept in step with the table of mappings. Every pointer of the guest passes through `readable` or `writable`.
 */

import {
  type Layout,
  layoutFor,
  makeMonitorArea,
  pageTables,
  protectPages,
} from '../../formats/microvm/guest-layout.js'
import { HostError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import {
  allocateShared,
  hostCall,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  mapMemory,
  NR,
  PROT_READ,
  PROT_WRITE,
  type SharedMemory,
} from './libc.js'
import { type Mapping, MappingTable, Protection } from './mappings.js'

const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
const READ_WRITE = PROT_READ | PROT_WRITE

/** A guest gave a bad address: EFAULT to it. */
export class BadAddress extends Error {}

/** Told when protection changes or pages go, for engines that keep a map of their own. */
export type MappingListener = (start: number, end: number) => void

export class GuestMemory {
  readonly layout: Layout
  /** Address of guest address 0 in this process. */
  readonly base: bigint
  /** All of guest physical memory. Another thread may look at its buffer, too. */
  readonly bytes: Buffer<SharedArrayBuffer>
  readonly view: DataView
  readonly mappings: MappingTable
  /** Called after mappings of a range changed. */
  onChange: MappingListener | undefined
  /** One bit a page that the monitor itself wrote, shared with the main thread; noted while its first word is not 0. */
  dirty: Int32Array | undefined
  readonly #tables: Uint32Array

  private constructor(layout: Layout, { buffer, address }: SharedMemory, mappings: readonly Mapping[]) {
    this.layout = layout
    this.base = address
    this.bytes = Buffer.from(buffer, 0, layout.totalSize)
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length)
    this.mappings = new MappingTable(mappings)
    this.#tables = pageTables(this.bytes.subarray(layout.memorySize), layout)
  }

  /** Fresh memory: zeros, nothing mapped but the monitor's area. */
  static create(memorySize: number): GuestMemory {
    const layout = layoutFor(memorySize)
    const memory = new GuestMemory(layout, allocateShared(layout.totalSize), [])
    makeMonitorArea(memory.bytes.subarray(memorySize), layout)
    return memory
  }

  /** Memory whose content is `fd` from `offset` on, mapped privately: nothing is read before it is touched. */
  static fromFile(memorySize: number, fd: number, offset: number, mappings: readonly Mapping[]): GuestMemory {
    const layout = layoutFor(memorySize)
    const host = allocateShared(layout.totalSize)
    mapMemory(host.address, layout.totalSize, READ_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, offset)
    return new GuestMemory(layout, host, mappings)
  }

  get memorySize(): number {
    return this.layout.memorySize
  }

  /** Gives the pages back. The addresses stay as long as somebody has `bytes`: a late look finds zeros. */
  release(): void {
    this.discard(0, this.layout.totalSize)
  }

  // ---- pointers of the guest -----------------------------------------------------------------

  /** Checks that the guest may read `length` bytes at `address`. @throws BadAddress */
  readable(address: bigint, length: number): number {
    return this.#check(address, length, Protection.read)
  }

  /** The same for writing by the monitor on the guest's behalf; notes the pages as dirty. */
  writable(address: bigint, length: number): number {
    const at = this.#check(address, length, Protection.write)
    this.noteDirty(at, at + length)
    return at
  }

  #check(address: bigint, length: number, protection: number): number {
    if (address >= BigInt(this.memorySize) || length < 0 || !Number.isSafeInteger(length))
      throw new BadAddress()
    const at = Number(address)
    if (length > 0 && this.mappings.allowed(at, length, protection) < length) throw new BadAddress()
    return at
  }

  /** A NUL-terminated string of at most `limit` bytes. @throws BadAddress; undefined when it is longer. */
  string(address: bigint, limit = 4096): string | undefined {
    if (address >= BigInt(this.memorySize)) throw new BadAddress()
    const at = Number(address)
    const there = this.mappings.allowed(at, limit, Protection.read)
    const end = this.bytes.subarray(at, at + there).indexOf(0)
    if (end < 0) {
      if (there < limit) throw new BadAddress()
      return undefined
    }
    return this.bytes.toString('latin1', at, at + end)
  }

  u64(address: bigint): bigint {
    return this.view.getBigUint64(this.readable(address, 8), true)
  }

  setU64(address: bigint, value: bigint): void {
    this.view.setBigUint64(this.writable(address, 8), value, true)
  }

  /** KVM's own log holds what the guest writes; this adds what the monitor writes on its behalf. */
  noteDirty(start: number, end: number): void {
    const { dirty } = this
    if (dirty === undefined || dirty[0] === 0) return
    for (let page = Math.floor(start / PAGE_SIZE); page * PAGE_SIZE < end; page++)
      Atomics.or(dirty, 1 + (page >>> 5), 1 << (page & 31))
  }

  // ---- mappings ------------------------------------------------------------------------------

  /** Maps [start, end): fresh zero pages, whatever was there is gone. */
  map(start: number, end: number, protection: number, name: string): void {
    this.unmap(start, end)
    this.mappings.replace(start, end, [{ start, end, protection, name }])
    this.#setProtection(start, end, protection)
  }

  /** Unmaps what is mapped of [start, end). Its pages go back to the host and read as zeros when mapped again. */
  unmap(start: number, end: number): void {
    for (const part of this.mappings.within(start, end)) {
      this.#setProtection(part.start, part.end, Protection.none)
      this.discard(part.start, part.end)
      this.noteDirty(part.start, part.end)
    }
    this.mappings.replace(start, end, [])
    this.onChange?.(start, end)
  }

  /** Changes the protection of [start, end), which must be mapped throughout. */
  protect(start: number, end: number, protection: number): void {
    const parts = this.mappings.within(start, end)
    this.mappings.replace(
      start,
      end,
      parts.map(part => ({ ...part, protection })),
    )
    this.#setProtection(start, end, protection)
    this.forgetTranslations(start, end)
  }

  /** Zero pages in place of what is there. Also makes KVM forget its translations of the range. */
  discard(start: number, end: number): void {
    mapMemory(this.base + BigInt(start), end - start, READ_WRITE, ANONYMOUS | MAP_FIXED)
  }

  /**
   * Makes KVM drop every translation it holds of the range, so that the next access walks the page tables anew.
   * A host's write to a guest page table is seen by no TLB and no shadow page table; a change of the host's own
   * mapping of the pages is (the kernel's MMU notifiers), so the protection is taken away and given back.
   */
  forgetTranslations(start: number, end: number): void {
    const at = this.base + BigInt(start)
    hostCall(NR.mprotect, at, end - start, PROT_READ)
    if (hostCall(NR.mprotect, at, end - start, READ_WRITE) < 0)
      throw new HostError('mprotect of guest memory failed')
  }

  #setProtection(start: number, end: number, protection: number): void {
    protectPages(this.#tables, start, end, protection)
    const tables = this.memorySize + this.layout.tables
    this.noteDirty(tables + (start / PAGE_SIZE) * 8, tables + (end / PAGE_SIZE) * 8)
    this.onChange?.(start, end)
  }
}
