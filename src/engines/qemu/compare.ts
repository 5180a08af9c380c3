/**
 * Whether two machines execute the same instructions: both are stepped, and their registers compared after each.
 * A side is a machine at a gdb stub, or the text of a gem5 trace (gem5-trace.ts).
 */
import { type GdbClient, gdbRegisters } from './gdb.js'

/** Values by the names of `gdbRegisters`; a trace knows some of them only. */
export type KnownRegisters = ReadonlyMap<string, bigint>

/** A machine that can be stepped. */
export interface Side {
  /** How messages call it. */
  readonly name: string
  /** Registers as they are now, or undefined when it has no more instructions. */
  registers(): Promise<KnownRegisters | undefined>
  step(): Promise<void>
}

export function stubSide(name: string, gdb: GdbClient): Side {
  return { name, registers: () => gdb.registers(), step: () => gdb.step() }
}

export interface Difference {
  readonly register: string
  readonly first: bigint
  readonly second: bigint
}

export interface Comparison {
  /** Instructions after which both were still equal. */
  readonly steps: number
  /** Where the instruction lies after which they differ, or at which both stand at the end. */
  readonly rip: bigint | undefined
  /** Empty when they never differed. */
  readonly differences: readonly Difference[]
  /** The side that ended before the wanted number of steps, if one did. */
  readonly ended: string | undefined
}

/** RFLAGS bits that need not agree: RF (16), which stubs and simulators keep differently. */
const IGNORED_FLAGS = 1n << 16n

/** Steps both sides until they differ, one ends, or `steps` instructions were executed. */
export async function compareRuns(
  first: Side,
  second: Side,
  steps: number,
  onProgress?: (fraction: number) => void,
): Promise<Comparison> {
  let rip: bigint | undefined
  for (let step = 0; ; step++) {
    const [a, b] = await Promise.all([first.registers(), second.registers()])
    if (a === undefined || b === undefined)
      return { steps: step, rip, differences: [], ended: a === undefined ? first.name : second.name }
    const differences = compareRegisters(a, b)
    // The culprit is the instruction that was executed, not the one that comes next.
    if (differences.length > 0) return { steps: step, rip, differences, ended: undefined }
    rip = a.get('rip') ?? b.get('rip')
    if (step === steps) return { steps: step, rip, differences: [], ended: undefined }
    onProgress?.(step / steps)
    await Promise.all([first.step(), second.step()])
  }
}

/** The registers that both sides know and that differ. */
function compareRegisters(a: KnownRegisters, b: KnownRegisters): Difference[] {
  const differences: Difference[] = []
  for (const register of gdbRegisters) {
    const first = a.get(register)
    const second = b.get(register)
    if (first === undefined || second === undefined) continue
    const ignored = register === 'eflags' ? IGNORED_FLAGS : 0n
    if ((first & ~ignored) !== (second & ~ignored)) differences.push({ register, first, second })
  }
  return differences
}
