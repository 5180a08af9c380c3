/**
 * Words of an image that point into its own vDSO or vvar. The kernel puts these pages elsewhere, and with other
 * functions, in another machine: a program whose data is carried over without them crashes at its next clock call.
 * The C libraries keep pointers to its functions in their data (musl: one word of .data; glibc: _rtld_global_ro).
 * Words that point elsewhere into it are harmless: the dynamic loader's notes on the vDSO's tables, and the entry of
 * the auxiliary vector at the top of the stack, which nobody reads after the start.
 */
import { BufferSource } from '../lib/byte-source.js'
import { hex } from '../lib/bytes.js'
import { ElfFile } from '../lib/elf.js'
import { ImagoError } from '../lib/errors.js'
import { type Address, extentEnd, type Memory, PAGE_SIZE, readContent } from './memory.js'
import type { Mapping, Process } from './process.js'

export interface VdsoPointer {
  /** Address of the word. */
  readonly address: Address
  /** What it holds. */
  readonly value: Address
  readonly target: 'vdso' | 'vvar'
  /** The vDSO's function there, if it is in one: `__vdso_clock_gettime`, `getcpu+0x10`. Only these are ever called. */
  readonly function: string | undefined
  readonly mapping: Mapping
}

const CHUNK = 1 << 20

/**
 * All such words, in order, but those within vDSO and vvar themselves. Reads every page once, a megabyte at a time.
 * @param owner whose vDSO and vvar are meant: another image's, for pages that came from there.
 */
export function* vdsoPointers(process: Process, owner = process): Generator<VdsoPointer> {
  const targets = owner.mappings.filter(({ kind }) => kind === 'vdso' || kind === 'vvar')
  if (targets.length === 0) return
  const low = targets.reduce((least, { start }) => (start < least ? start : least), targets[0]!.start)
  const high = targets.reduce((most, { end }) => (end > most ? end : most), 0n)
  const functions = vdsoFunctions(
    owner.memory,
    targets.find(({ kind }) => kind === 'vdso'),
  )
  for (const mapping of process.mappings) {
    if (['vdso', 'vvar', 'vsyscall'].includes(mapping.kind)) continue
    for (const { address, value } of wordsBetween(process.memory, mapping, low, high)) {
      const target = targets.find(({ start, end }) => start <= value && value < end)
      if (target === undefined) continue
      const called = target.kind === 'vdso' ? functions(value - target.start) : undefined
      yield { address, value, target: target.kind as VdsoPointer['target'], function: called, mapping }
    }
  }
}

/** Aligned words of a mapping with low ≤ value < high. */
function* wordsBetween(
  memory: Memory,
  mapping: Mapping,
  low: bigint,
  high: bigint,
): Generator<{ address: Address; value: bigint }> {
  const highHalf = Number(low >> 32n)
  const lastHighHalf = Number((high - 1n) >> 32n)
  const buffer = new ArrayBuffer(CHUNK)
  const halves = new Uint32Array(buffer)
  const words = new BigUint64Array(buffer)
  for (const extent of memory.within(mapping.start, mapping.end)) {
    if (extent.content.kind === 'zero') continue
    for (let at = 0; at < extent.length; at += CHUNK) {
      const length = Math.min(CHUNK, extent.length - at)
      readContent(extent.content, new Uint8Array(buffer, 0, length), at)
      // Half a word tells nearly all of them apart without making a bigint.
      for (let i = 0; i < length >>> 3; i++) {
        const half = halves[2 * i + 1]!
        if (half < highHalf || half > lastHighHalf) continue
        const value = words[i]!
        if (value >= low && value < high) yield { address: extent.address + BigInt(at + i * 8), value }
      }
    }
    if (extentEnd(extent) >= mapping.end) return
  }
}

/** Names of the vDSO's functions by their offset in it; the image holds its bytes. */
function vdsoFunctions(memory: Memory, vdso: Mapping | undefined): (offset: bigint) => string | undefined {
  const bytes = vdso && memory.tryRead(vdso.start, Math.min(Number(vdso.end - vdso.start), 64 * PAGE_SIZE))
  if (!bytes) return () => undefined
  try {
    const { symbols } = new ElfFile(new BufferSource(bytes))
    return offset => {
      const hit = symbols.at(offset)
      if (hit?.kind !== 'function') return undefined
      return offset === hit.address ? hit.name : `${hit.name}+${hex(offset - hit.address)}`
    }
  } catch (error) {
    if (error instanceof ImagoError) return () => undefined
    throw error
  }
}
