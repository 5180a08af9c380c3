/**
 * The page walk of x86 (Intel SDM 3, chapter 4): what physical address a guest's linear address means. Four and five
 * levels, PAE and the 32-bit tables; large pages. Access rights are not checked: this only looks.
 */
import type { Memory } from '../model/memory.js'

export interface PagingRegisters {
  readonly cr0: bigint
  readonly cr3: bigint
  readonly cr4: bigint
  readonly efer: bigint
}

const PRESENT = 1n
const LARGE = 0x80n
const ADDRESS = 0x000ffffffffff000n

/** The physical address, or undefined where the tables map nothing or are not in memory. */
function physicalAddress(
  memory: Memory,
  { cr0, cr3, cr4, efer }: PagingRegisters,
  linear: bigint,
): bigint | undefined {
  if ((cr0 & 0x80000000n) === 0n) return BigInt.asUintN(32, linear)
  const long = (efer & 0x400n) !== 0n
  const wide = long || (cr4 & 0x20n) !== 0n
  if (!wide) return legacy(memory, cr3, cr4, linear)
  let table = long ? cr3 & ADDRESS : cr3 & 0xffffffe0n
  const levels = long ? ((cr4 & 0x1000n) !== 0n ? 5 : 4) : 3
  for (let level = levels; level >= 1; level--) {
    const shift = BigInt(12 + 9 * (level - 1))
    // PAE's first table has four entries: the two bits above bit 30 of a 32-bit address.
    const index = (linear >> shift) & (level === 3 && !long ? 3n : 0x1ffn)
    const entry = word(memory, table + index * 8n, 8)
    if (entry === undefined || (entry & PRESENT) === 0n) return undefined
    if (level === 1 || (level <= 3 && (entry & LARGE) !== 0n && !(level === 3 && !long))) {
      const offset = (1n << shift) - 1n
      return (entry & ADDRESS & ~offset) | (linear & offset)
    }
    table = entry & ADDRESS
  }
  return undefined
}

function legacy(memory: Memory, cr3: bigint, cr4: bigint, linear: bigint): bigint | undefined {
  const directory = word(memory, (cr3 & 0xfffff000n) + ((linear >> 22n) & 0x3ffn) * 4n, 4)
  if (directory === undefined || (directory & PRESENT) === 0n) return undefined
  if ((directory & LARGE) !== 0n && (cr4 & 0x10n) !== 0n)
    return (directory & 0xffc00000n) | ((directory & 0x1fe000n) << 19n) | (linear & 0x3fffffn)
  const entry = word(memory, (directory & 0xfffff000n) + ((linear >> 12n) & 0x3ffn) * 4n, 4)
  if (entry === undefined || (entry & PRESENT) === 0n) return undefined
  return (entry & 0xfffff000n) | (linear & 0xfffn)
}

function word(memory: Memory, address: bigint, size: 4 | 8): bigint | undefined {
  const bytes = memory.tryRead(address, size)
  if (bytes === undefined) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, size)
  return size === 8 ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true))
}

/** Bytes at a linear address, all within one page; undefined where they are not mapped. */
export function readLinear(
  memory: Memory,
  registers: PagingRegisters,
  linear: bigint,
  length: number,
): Uint8Array | undefined {
  const physical = physicalAddress(memory, registers, linear)
  return physical === undefined ? undefined : memory.tryRead(physical, length)
}
