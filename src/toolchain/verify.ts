/**
 * The gate: in the very code that is emitted, nothing may be alive across a site but what the shadow frame holds. Checked
 * twice, on what `llc` prints while it makes the object: before register allocation no virtual register, and before the
 * frame is laid out (after allocation) no physical register, no spill slot and no argument on the caller's stack.
 */
import { LossError } from '../lib/errors.js'
import type { IsaName } from '../model/process.js'
import { type MachineBlock, type MachineFunction, machineFunctions } from './mir.js'
import type { SiteInSource } from './shadow-frames.js'

/** The passes before which llc prints. */
export const CHECKED_PASSES = ['greedy', 'prologepilog'] as const

export interface Leak {
  readonly pass: string
  readonly function: string
  readonly site: number
  /** Registers and slots alive across the site. */
  readonly values: readonly string[]
}

export interface Verdict {
  /** Sites seen in each checked pass. */
  readonly seen: Readonly<Record<string, ReadonlySet<number>>>
  readonly leaks: readonly Leak[]
}

/** @param dump what llc printed after each of the passes. */
export function verifyDump(dump: string): Verdict {
  const seen: Record<string, Set<number>> = Object.fromEntries(CHECKED_PASSES.map(pass => [pass, new Set()]))
  const leaks: Leak[] = []
  for (const fn of machineFunctions(dump)) {
    for (const { site, values } of liveAcrossSites(fn)) {
      seen[fn.pass]?.add(site)
      if (values.length > 0) leaks.push({ pass: fn.pass, function: fn.name, site, values })
    }
  }
  return { seen, leaks }
}

/** For each stackmap: what is alive after the last call before it and was not made by that call. */
function liveAcrossSites(fn: MachineFunction): Array<{ site: number; values: string[] }> {
  const atStart = new Map<number, Set<string>>()
  const back = (block: MachineBlock, visit?: (index: number, live: ReadonlySet<string>) => void) => {
    const live = new Set<string>()
    for (const to of block.successors) for (const each of atStart.get(to) ?? []) live.add(each)
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      visit?.(i, live)
      const instruction = block.instructions[i]!
      for (const each of instruction.defines) live.delete(each)
      for (const each of instruction.uses) live.add(each)
    }
    return live
  }
  for (let changed = true; changed; ) {
    changed = false
    for (const block of [...fn.blocks].reverse()) {
      const live = back(block)
      if (live.size === atStart.get(block.number)?.size) continue
      atStart.set(block.number, live)
      changed = true
    }
  }
  const found: Array<{ site: number; values: string[] }> = []
  for (const block of fn.blocks) {
    const siteOfCall = new Map<number, number>()
    for (const [i, instruction] of block.instructions.entries()) {
      if (instruction.stackmap === undefined) continue
      const call = block.instructions.slice(0, i).findLastIndex(each => each.isCall)
      // A stackmap whose call is in another block would make the return address a guess.
      if (call < 0) found.push({ site: instruction.stackmap, values: ['(no call before the stackmap)'] })
      else siteOfCall.set(call, instruction.stackmap)
    }
    if (siteOfCall.size === 0) continue
    back(block, (i, live) => {
      const site = siteOfCall.get(i)
      if (site === undefined) return
      const made = new Set(block.instructions[i]!.defines)
      found.push({ site, values: [...live].filter(each => !made.has(each)).sort() })
    })
  }
  return found
}

/** @throws LossError when anything leaks, or when a check did not see the sites the other saw. */
export function requireNoLeak(verdict: Verdict, isa: IsaName, sites: readonly SiteInSource[]): void {
  const { seen, leaks } = verdict
  if (leaks.length > 0) {
    const lines = leaks.slice(0, 10).map(leak => {
      const site = sites[leak.site - 1]
      const name = leak.function.replace('__imago_user_', '')
      return `${site?.source ?? '(no line known)'}: ${name}: ${leak.values.join(', ')} before ${leak.pass}`
    })
    throw new LossError(
      `the ${isa} code would lose a value at ${leaks.length} migration point${leaks.length > 1 ? 's' : ''}:\n  ${lines.join('\n  ')}`,
      { hint: 'this is a limit of imago cc: please report the function' },
    )
  }
  const counts = CHECKED_PASSES.map(pass => seen[pass]!.size)
  if (counts.some(count => count !== counts[0]))
    throw new LossError(`the ${isa} code was not checked as a whole`, { found: counts.join(' and ') })
}
