/**
 * What lies where in a guest's address space: the ranges that the program, brk, mmap and mprotect made.
 * The truth about pointers of the guest; the page tables are made from it.
 */
import { LOWEST_ADDRESS } from '../../formats/microvm/guest-layout.js'

/** What may be done with a mapping, in the numbering of mmap(2). */
export const Protection = { none: 0, read: 1, write: 2, execute: 4 } as const

export interface Mapping {
  readonly start: number
  /** First address after it. */
  readonly end: number
  /** Bits of `Protection`. */
  readonly protection: number
  /** 'program', '[heap]', '[stack]', '' for anonymous memory, or the path of a mapped file. */
  readonly name: string
}

/** Sorted, never overlapping. Neighbours with the same name and protection are one. */
export class MappingTable {
  #list: Mapping[]

  constructor(list: readonly Mapping[] = []) {
    this.#list = [...list]
  }

  get list(): readonly Mapping[] {
    return this.#list
  }

  /** Index of the first mapping that ends after `address`. */
  #indexAfter(address: number): number {
    let low = 0
    let high = this.#list.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#list[middle]!.end > address) high = middle
      else low = middle + 1
    }
    return low
  }

  /** The mapping that holds `address`. */
  at(address: number): Mapping | undefined {
    const found = this.#list[this.#indexAfter(address)]
    return found !== undefined && found.start <= address ? found : undefined
  }

  /** How many bytes from `address` on, at most `length`, allow all of `protection`. */
  allowed(address: number, length: number, protection: number): number {
    const end = address + length
    let at = address
    for (let i = this.#indexAfter(address); at < end; i++) {
      const mapping = this.#list[i]
      if (mapping === undefined || mapping.start > at || (mapping.protection & protection) !== protection)
        break
      at = mapping.end
    }
    return Math.min(at, end) - address
  }

  /** The parts of mappings within [start, end). */
  within(start: number, end: number): Mapping[] {
    const parts: Mapping[] = []
    for (let i = this.#indexAfter(start); i < this.#list.length; i++) {
      const mapping = this.#list[i]!
      if (mapping.start >= end) break
      parts.push({ ...mapping, start: Math.max(start, mapping.start), end: Math.min(end, mapping.end) })
    }
    return parts
  }

  /** Replaces whatever lies in [start, end) by `parts` (sorted, within the range). */
  replace(start: number, end: number, parts: readonly Mapping[]): void {
    const first = this.#indexAfter(start)
    const kept: Mapping[] = []
    let last = first
    for (; last < this.#list.length && this.#list[last]!.start < end; last++) {
      const mapping = this.#list[last]!
      if (mapping.start < start) kept.push({ ...mapping, end: start })
      if (last === first) kept.push(...parts)
      if (mapping.end > end) kept.push({ ...mapping, start: end })
    }
    if (last === first) kept.push(...parts)
    this.#list.splice(first, last - first, ...kept)
    this.#merge(Math.max(0, first - 1), first + kept.length + 1)
  }

  #merge(from: number, to: number): void {
    for (let i = Math.min(to, this.#list.length - 1); i > from; i--) {
      const before = this.#list[i - 1]!
      const here = this.#list[i]!
      if (before.end === here.start && before.name === here.name && before.protection === here.protection)
        this.#list.splice(i - 1, 2, { ...before, end: here.end })
    }
  }

  /** The highest gap of `length` bytes that ends at or below `ceiling`, keeping a page free on either side. */
  gapBelow(ceiling: number, length: number): number | undefined {
    const guard = 4096
    let top = ceiling
    for (let i = this.#list.length - 1; i >= -1; i--) {
      const mapping = this.#list[i]
      if (mapping !== undefined && mapping.start >= top) continue
      const bottom = mapping === undefined ? LOWEST_ADDRESS : mapping.end
      if (top - bottom >= length + 2 * guard) return top - guard - length
      if (mapping === undefined) return undefined
      top = mapping.start
    }
    return undefined
  }
}
