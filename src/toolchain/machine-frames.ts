/**
 * What the emitted code of one binary says about sites and native frames: where each site returns to, how large a frame
 * is, and where its frame record lies.
 *
 *   .llvm_stackmaps, version 3: { u8 version, u8, u16, u32 functions, u32 constants, u32 records }
 *     functions × { u64 address, u64 stack size, u64 records }    constants × u64
 *     records × { u64 id, u32 offset in the function, u16, u16 locations, …, u16, u16 live outs, … }, each to 8 bytes
 */
import { ByteReader } from '../lib/bytes.js'
import type { ElfFile } from '../lib/elf.js'
import { UnreadableError } from '../lib/errors.js'
import type { IsaName } from '../model/process.js'
import type { FrameLayout } from './program.js'

export interface StackmapRecord {
  readonly site: number
  readonly function: bigint
  /** Where the stackmap stands: at or after the return address of the site's call. */
  readonly address: bigint
}

export interface Stackmaps {
  readonly frames: ReadonlyMap<bigint, number>
  readonly records: readonly StackmapRecord[]
}

/** The records of `.llvm_stackmaps`. @throws UnreadableError */
export function readStackmaps(elf: ElfFile): Stackmaps {
  const section = elf.section('.llvm_stackmaps')
  if (section === undefined || section.size === 0)
    throw new UnreadableError('no stackmaps', { file: elf.source.path })
  const reader = new ByteReader(elf.source.read(section.offset, section.size), {
    base: section.offset,
    file: elf.source.path,
  })
  const version = reader.u8()
  reader.skip(3)
  const [functions, constants, count] = [reader.u32(), reader.u32(), reader.u32()]
  if (version !== 3)
    throw new UnreadableError('stackmaps of another version', { found: version, expected: 3 })
  const frames = new Map<bigint, number>()
  const owners: Array<{ address: bigint; records: number }> = []
  for (let i = 0; i < functions; i++) {
    const address = reader.u64()
    frames.set(address, Number(reader.u64()))
    owners.push({ address, records: Number(reader.u64()) })
  }
  reader.skip(8 * constants)
  const records: StackmapRecord[] = []
  let read = 0
  const align = (from: number) => reader.skip((8 - ((read - from) % 8)) % 8)
  for (const owner of owners)
    for (let i = 0; i < owner.records; i++) {
      const site = Number(reader.u64())
      const offset = reader.u32()
      reader.skip(2)
      const locations = reader.u16()
      reader.skip(12 * locations)
      read = 16 + 12 * locations
      align(0)
      reader.skip(2)
      const liveOuts = reader.u16()
      reader.skip(4 * liveOuts)
      read = 4 + 4 * liveOuts
      align(0)
      records.push({ site, function: owner.address, address: owner.address + BigInt(offset) })
    }
  if (records.length !== count)
    throw new UnreadableError('damaged stackmaps', { found: records.length, expected: count })
  return { frames, records }
}

/** Reads code by virtual address. */
export class Code {
  readonly #elf: ElfFile

  constructor(elf: ElfFile) {
    this.#elf = elf
  }

  word(address: bigint): number {
    const segment = this.#elf.segments.find(
      each =>
        each.type === 1 &&
        address >= each.virtualAddress &&
        address + 4n <= each.virtualAddress + BigInt(each.fileSize),
    )
    if (segment === undefined)
      throw new UnreadableError('no code there', { file: this.#elf.source.path, address })
    const bytes = this.#elf.source.read(segment.offset + Number(address - segment.virtualAddress), 4)
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
  }
}

/** aarch64: `bl` and `blr` (Arm ARM, C6.2): the return address of the last call before `address`. */
export function lastCallOfArm(code: Code, address: bigint, start: bigint): bigint {
  for (let at = address - 4n; at >= start; at -= 4n) {
    const word = code.word(at)
    if (word >>> 26 === 0b100101 || (word & 0xfffffc1f) >>> 0 === 0xd63f0000) return at + 4n
  }
  throw new UnreadableError('a stackmap without a call before it', { address })
}

/** The last of `returns` (sorted) that is at or before `address`. */
export function lastAtOrBefore(returns: readonly bigint[], address: bigint): bigint | undefined {
  let [low, high] = [0, returns.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (returns[middle]! <= address) low = middle + 1
    else high = middle
  }
  return returns[low - 1]
}

/** Return addresses of all calls in a listing of llvm-objdump (`-d --no-show-raw-insn`), in order. */
export function returnAddressesOf(listing: string): bigint[] {
  const result: bigint[] = []
  let afterCall = false
  for (const line of listing.split('\n')) {
    const match = /^\s*([0-9a-f]+):\s+(\S+)/.exec(line)
    if (match === null) continue
    if (afterCall) result.push(BigInt(`0x${match[1]}`))
    afterCall = match[2] === 'callq' || match[2] === 'call'
  }
  return result
}

/** Stores that move the stack pointer down (`[sp, #-n]!`; Arm ARM C6.2, C7.2): signed immediate, in units of `scale`. */
const PRE_INDEXED = [
  { mask: 0xffc003e0, value: 0xa98003e0, shift: 15, bits: 7, scale: 8 }, // stp x, x
  { mask: 0xffc003e0, value: 0x6d8003e0, shift: 15, bits: 7, scale: 8 }, // stp d, d
  { mask: 0xffc003e0, value: 0xad8003e0, shift: 15, bits: 7, scale: 16 }, // stp q, q
  { mask: 0xffe00fe0, value: 0xf8000fe0, shift: 12, bits: 9, scale: 1 }, // str x
  { mask: 0xffe00fe0, value: 0xfc000fe0, shift: 12, bits: 9, scale: 1 }, // str d
  { mask: 0xffe00fe0, value: 0x3c800fe0, shift: 12, bits: 9, scale: 1 }, // str q
]

/**
 * The frame record of an aarch64 function, from its prologue: what the stack pointer has gone down by when
 * `add x29, sp, #k` sets the frame pointer, less k.
 */
function armRecord(code: Code, start: bigint, limit: bigint): number {
  let down = 0
  for (let at = start; at < limit; at += 4n) {
    const word = code.word(at)
    const push = PRE_INDEXED.find(each => (word & each.mask) >>> 0 === each.value)
    if (push) {
      const raw = (word >>> push.shift) & ((1 << push.bits) - 1)
      down -= (raw >>> (push.bits - 1) ? raw - (1 << push.bits) : raw) * push.scale
    }
    // sub sp, sp, #imm12 {, lsl #12}
    else if ((word & 0xff8003ff) >>> 0 === 0xd10003ff)
      down += ((word >>> 10) & 0xfff) << ((word >>> 22) & 1 ? 12 : 0)
    // add x29, sp, #imm12
    else if ((word & 0xffc003ff) >>> 0 === 0x910003fd) return down - ((word >>> 10) & 0xfff)
  }
  throw new UnreadableError('a function without a frame pointer', { address: start })
}

/** x86-64: `push rbp; mov rbp, rsp` right below the return address; the stackmap does not count the latter. */
export function frameLayout(
  isa: IsaName,
  stackSize: number,
  code: Code,
  start: bigint,
  limit: bigint,
): FrameLayout {
  return isa === 'x86-64'
    ? { size: stackSize + 8, record: 16 }
    : { size: stackSize, record: armRecord(code, start, limit) }
}
