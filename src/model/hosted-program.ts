/** A program in a machine without a kernel: what a kernel would keep for it, its monitor does. Part of `MachineImage`. */
import type { Address, ByteCount } from './memory.js'

/** An open file with a path. The standard streams are there without being listed. */
export interface HostedFile {
  readonly fd: number
  /** As the program spelt it. */
  readonly name: string
  /** O_* as the program gave them. */
  readonly flags: number
  readonly offset: bigint
  /** Where its first bytes stood in memory when they were written; 0n: unknown. */
  readonly writtenFrom: Address
}

export interface HostedMapping {
  readonly start: Address
  readonly end: Address
  /** 1 read, 2 write, 4 execute. */
  readonly protection: number
  readonly name: string
}

export interface HostedProgram {
  readonly name: string
  /** Bytes of memory that the program may have, from 0 on. */
  readonly memorySize: ByteCount
  readonly mappings: readonly HostedMapping[]
  readonly files: readonly HostedFile[]
  /** What else the image holds of it, in words: a format without a place for these refuses it. */
  readonly more: readonly string[]
}
