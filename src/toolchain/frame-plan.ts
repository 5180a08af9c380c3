/**
 * What the shadow frame of a function holds, and since when: the slots that live across its sites, and the locals whose
 * address is taken. Read from the function as `opt -passes=reg2mem` left it; `shadow-frames.ts` makes the code.
 *
 * A slot is stored at the sites where it is alive, unless the frame holds it already; or at its definitions instead
 * (`eager`), where these run less often.
 *
 * A frame is safe from others only while the shadow pointer is lowered to it. What the program calls may call it back (qsort,
 * for one), so a frame that holds something before the first site is lowered to from the function's entry on.
 */
import { LossError } from '../lib/errors.js'
import { Flow } from './flow.js'
import type { IrFunction, Locations } from './ir.js'
import { Lowering } from './lowering.js'
import { isCold } from './polls.js'

export interface Local {
  readonly type: string
  readonly align: number
}

export interface SlotAccess {
  readonly kind: 'load' | 'store'
  readonly slot: string
  /** What a store stores. */
  readonly value: string
}

/** A place where the function may be left. */
export interface SiteState {
  readonly live: readonly string[]
  /** Slots the frame holds already. */
  readonly inFrame: ReadonlySet<string>
}

const SLOT_NAME = /\.reg2mem\d*"?$/

export class FramePlan {
  /** Type of each slot that reg2mem made, and each other local. */
  readonly slots = new Map<string, string>()
  readonly locals = new Map<string, Local>()
  /** By the label of the block: a block holds at most one site, as `prepare` split them. */
  readonly sites: ReadonlyMap<string, SiteState>
  readonly eager: ReadonlySet<string>
  /** The frame holds something from the function's entry on; otherwise its address is computed at the sites. */
  readonly fromEntry: boolean
  readonly #isSite: (instruction: string) => boolean
  readonly #flow: Flow
  readonly #lowering: Lowering

  /** @throws LossError for an array of variable length. */
  constructor(fn: IrFunction, isSite: (instruction: string) => boolean, locations: Locations) {
    this.#isSite = isSite
    this.#collectAllocas(fn, locations)
    this.#flow = new Flow(fn)
    this.#lowering = new Lowering(this.#flow, isSite)
    this.sites = this.#statesAtSites(this.#liveAtSites())
    this.eager = this.#chooseEager()
    this.fromEntry = this.locals.size > 0 || this.eager.size > 0
    if (!this.fromEntry) this.#lowering.mark(fn)
  }

  /** Slots that live across some site. */
  get kept(): ReadonlySet<string> {
    return new Set([...this.sites.values()].flatMap(site => site.live))
  }

  /** Whether the shadow pointer is at this function's frame when the block's own instructions begin. */
  isLoweredAtStart(label: string): boolean {
    return this.fromEntry || this.#lowering.atStart(label)
  }

  isLoweredAtEnd(label: string): boolean {
    return this.fromEntry || this.#lowering.atEnd(label)
  }

  access(instruction: string): SlotAccess | undefined {
    if (!instruction.includes('.reg2mem')) return undefined
    const load = /^\s+%(?:"[^"]+"|[-\w.$]+) = load .*, ptr (%(?:"[^"]+"|[-\w.$]+))(?:,|$)/.exec(instruction)
    if (load && this.slots.has(load[1]!)) return { kind: 'load', slot: load[1]!, value: '' }
    const store = /^\s+store (.*), ptr (%(?:"[^"]+"|[-\w.$]+))(?:,|$)/.exec(instruction)
    if (store && this.slots.has(store[2]!)) {
      const slot = store[2]!
      return { kind: 'store', slot, value: store[1]!.slice(this.slots.get(slot)!.length).trim() }
    }
    return undefined
  }

  #collectAllocas(fn: IrFunction, locations: Locations): void {
    for (const block of fn.blocks)
      for (const instruction of block.instructions) {
        const match = /^\s+(%(?:"[^"]+"|[-\w.$]+)) = alloca (.*)$/.exec(instruction)
        if (match === null) continue
        const rest = match[2]!
        if (/, i(32|64) %/.test(rest) || block !== fn.blocks[0])
          throw new LossError(
            `${fn.name.replace('__imago_user_', '')}: an array of variable length (or alloca()) cannot be in a function that may migrate`,
            {
              file: locations.of(instruction) ?? locations.of(fn.head),
              hint: 'use malloc, or choose other functions with --migrate-at',
            },
          )
        const type = rest.replace(/, align \d+.*$/, '').replace(/, !.*$/, '')
        if (SLOT_NAME.test(match[1]!)) this.slots.set(match[1]!, type)
        else this.locals.set(match[1]!, { type, align: Number(/, align (\d+)/.exec(rest)?.[1] ?? 16) })
      }
  }

  #liveAtSites(): Map<string, string[]> {
    const walk = (label: string, live: Set<string>, atSite?: (live: Set<string>) => void) => {
      const { instructions } = this.#flow.blocks.get(label)!
      for (let i = instructions.length - 1; i >= 0; i--) {
        if (this.#isSite(instructions[i]!)) atSite?.(live)
        const access = this.access(instructions[i]!)
        if (access?.kind === 'load') live.add(access.slot)
        else if (access?.kind === 'store') live.delete(access.slot)
      }
      return live
    }
    const atEnd = this.#flow.liveAtEnd(walk)
    const result = new Map<string, string[]>()
    for (const label of this.#flow.order)
      walk(label, new Set(atEnd.get(label)), live => result.set(label, [...live].sort()))
    return result
  }

  #statesAtSites(live: ReadonlyMap<string, readonly string[]>): Map<string, SiteState> {
    const walkFrame = (label: string, at: ReadonlySet<string>, atSite?: (held: Set<string>) => void) => {
      // A frame that the shadow pointer has left holds nothing for certain.
      let held = new Set(this.#lowering.atStart(label) ? at : [])
      for (const instruction of this.#flow.blocks.get(label)!.instructions) {
        const access = this.access(instruction)
        if (access?.kind === 'store') held.delete(access.slot)
        if (this.#isSite(instruction)) {
          atSite?.(held)
          held = new Set(live.get(label))
        }
      }
      return held
    }
    const held = this.#flow.forward<ReadonlySet<string>>(
      new Set(),
      (a, b) => new Set([...a].filter(each => b.has(each))),
      (a, b) => a.size === b.size && [...a].every(each => b.has(each)),
      walkFrame,
    )
    const result = new Map<string, SiteState>()
    for (const [label, slots] of live)
      walkFrame(label, held.get(label) ?? new Set(), inFrame => result.set(label, { live: slots, inFrame }))
    return result
  }

  /** Slots whose definitions run less often than the sites that would have to store them. */
  #chooseEager(): Set<string> {
    const frequency = this.#flow.frequencies(isCold)
    const add = (costs: Map<string, number>, slot: string, label: string) =>
      costs.set(slot, (costs.get(slot) ?? 0) + frequency.get(label)!)
    const atSites = new Map<string, number>()
    for (const [label, site] of this.sites)
      for (const slot of site.live) if (!site.inFrame.has(slot)) add(atSites, slot, label)
    const atDefinitions = new Map<string, number>()
    for (const { label, instructions } of this.#flow.blocks.values())
      for (const instruction of instructions) {
        const access = this.access(instruction)
        if (access?.kind === 'store') add(atDefinitions, access.slot, label)
      }
    return new Set(
      [...atSites].filter(([slot, cost]) => (atDefinitions.get(slot) ?? 0) < cost).map(([slot]) => slot),
    )
  }
}
