/**
 * What differs between the two instruction sets for a frozen process, as one record an ISA. Everything that works on
 * both ISAs asks a record for names and numbers and knows no ISA itself.
 */
import type { IsaName, RegisterSet } from '../model/process.js'

export interface Isa {
  readonly name: IsaName
  /** e_machine of its ELF files. */
  readonly elfMachine: number
  /** First address after a program's address space: TASK_SIZE with four-level page tables. */
  readonly userSpaceEnd: bigint
  /** Names of all general registers, in the order in which the kernel dumps them. */
  readonly registers: readonly string[]
  readonly programCounter: string
  readonly stackPointer: string
  readonly framePointer: string
  /** The register (or segment base) that holds the thread pointer. */
  readonly threadPointer: string
  /** open(2) flags whose bits differ between ISAs. */
  readonly openFlags: Readonly<Record<OpenFlagName, number>>
  /** AT_MINSIGSTKSZ of the kernel. */
  readonly minimumSignalStack: bigint
  readonly musl: MuslThreadLayout
  /** All registers of a thread that goes on at `place`, others as a new program finds them. */
  freshRegisters(place: ResumePlace, control: FloatingControl): RegisterSet
  /** Rounding and flush mode of a register set; the defaults when it holds no vector state. */
  floatingControl(registers: RegisterSet): FloatingControl
}

export type OpenFlagName = 'O_DIRECTORY' | 'O_NOFOLLOW' | 'O_DIRECT' | 'O_LARGEFILE'

export interface ResumePlace {
  readonly programCounter: bigint
  readonly stackPointer: bigint
  readonly framePointer: bigint
  readonly threadPointer: bigint
}

/** What of the floating-point control register a program can have changed and both ISAs have. */
export interface FloatingControl {
  readonly rounding: 'nearest' | 'down' | 'up' | 'zero'
  /** Subnormal results become zero. */
  readonly flushToZero: boolean
}

/**
 * musl 1.2's thread record and thread-local storage. The record (`struct pthread`, 200 bytes) has the same fields on both
 * ISAs in another order, and lies at the same address; the thread pointer and the storage lie on different sides of it.
 *
 *   x86-64 (variant II)   [ … storage ][ record ]                   thread pointer = record
 *   aarch64 (variant I)               [ record ][ 16 bytes ][ storage … ]   thread pointer = record + 200
 */
export interface MuslThreadLayout {
  /** Fields of the record by name: [offset, length], in one order for all ISAs. */
  readonly record: ReadonlyArray<readonly [name: string, offset: number, length: number]>
  /** Thread pointer minus the record's address. */
  readonly pointerOffset: number
  /** First byte of the thread-local segment, minus the record's address. */
  storageOffset(segment: { readonly memorySize: number; readonly alignment: number }): number
}

/** `flags` of open(2) in the numbering of `from`, in that of `to`. */
export function translateOpenFlags(flags: number, from: Isa, to: Isa): number {
  let result = flags
  const names = Object.keys(from.openFlags) as OpenFlagName[]
  for (const name of names) result &= ~from.openFlags[name]
  for (const name of names) if (flags & from.openFlags[name]) result |= to.openFlags[name]
  return result
}

/** Flags of open(2) that have the same number on both ISAs, as F_GETFL reports them. */
const commonOpenFlags = new Map<string, number>([
  ['O_APPEND', 0o2000],
  ['O_NONBLOCK', 0o4000],
  ['O_SYNC', 0o4010000],
  ['O_DSYNC', 0o10000],
  ['O_ASYNC', 0o20000],
  ['O_NOATIME', 0o1000000],
  ['O_PATH', 0o10000000],
])

/** `O_WRONLY|O_APPEND`. O_LARGEFILE, which the kernel adds to every file, is left out; bits without a name stay as hex. */
export function openFlagNames(flags: number, isa: Isa): string {
  const names = [['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_ACCMODE'][flags & 3]!]
  let rest = flags & ~3 & ~isa.openFlags.O_LARGEFILE
  for (const [name, bits] of [...commonOpenFlags, ...Object.entries(isa.openFlags)])
    if (name !== 'O_LARGEFILE' && (rest & bits) === bits) {
      names.push(name)
      rest &= ~bits
    }
  return [...names, ...(rest ? [`0x${rest.toString(16)}`] : [])].join('|')
}
