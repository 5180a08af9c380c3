/**
 * The shadow-frame pass, after `opt -passes=reg2mem`. Every value that lives across a site goes into a frame on a
 * software stack, whose layout is the same on both ISAs, before the call, and comes back from there after it:
 *
 *   shadow pointer of the thread ─► { i64 site, slots…, locals whose address is taken… }   frame of the innermost function
 *                                   { i64 site, … }                                        frame of its caller …
 *
 *   %frame = shadow pointer - size            ; only on paths that reach a site
 *   store %frame, shadow pointer              ; left there up to the return
 *   store 17, %frame.site                     ; which call this is
 *   store %x, %frame.x                        ; unless the frame holds it already
 *   %r = notail call …                        ; the program may go on here on another machine
 *   stackmap(17)                              ; says where "here" is, and how large the native frame is
 *   %frame' = load shadow pointer
 *   %x' = load %frame'.x
 *
 * A slot is stored at its definitions instead, where that is rarer than at the sites. Locals whose address is taken live
 * in the frame always. So the native stack holds return addresses and dead values only.
 */
import { LossError } from '../lib/errors.js'
import { Flow } from './flow.js'
import { type Block, functionsOf, type IrFunction, type Locations, type Module, replaceLocals } from './ir.js'
import { LOWER, planLowering, RAISE } from './lowering.js'
import { isCold } from './polls.js'

/** First word of the thread-local record of the runtime: the shadow pointer. */
const POINTER = '@__imago_thread'
export const FRAME_SIZES = '__imago_frame_sizes'

export interface SiteInSource {
  readonly id: number
  /** Name of the function, without `@`. */
  readonly function: string
  /** `file.c:12`, where known. */
  readonly source: string | undefined
}

export interface ShadowFrames {
  readonly sites: readonly SiteInSource[]
  /** Names of the migratable functions, in the order of the table of sizes (`__imago_frame_sizes`, u64 each). */
  readonly functions: readonly string[]
}

/** Rewrites the migratable functions in place. @throws LossError for what has no place in a shadow frame. */
export function addShadowFrames(
  module: Module,
  migratable: ReadonlySet<string>,
  isSite: (instruction: string) => boolean,
  locations: Locations,
): ShadowFrames {
  const sites: SiteInSource[] = []
  const functions: string[] = []
  const types: string[] = []
  const sizes: string[] = []
  for (const fn of functionsOf(module)) {
    if (!migratable.has(fn.name)) continue
    const frame = new Frame(fn, functions.length, isSite, locations)
    const source = locations.of(fn.head)
    frame.rewrite(instruction => {
      sites.push({
        id: sites.length + 1,
        function: fn.name,
        source: locations.of(instruction) ?? source,
      })
      return sites.length
    })
    functions.push(fn.name)
    types.push(frame.declaration)
    sizes.push(`i64 ${frame.size}`)
  }
  // The data layout has to stay first; types have to come before the functions.
  module.items[0] = (module.items[0] as string).replace(
    /^target datalayout.*$/m,
    layout => `${layout}\n${types.join('\n')}`,
  )
  module.items.push(
    `${POINTER} = external dso_local thread_local(localexec) global { ptr, ptr, i64, i64 }`,
    'declare void @llvm.experimental.stackmap(i64, i32, ...)',
    'declare ptr @llvm.ptrmask.p0.i64(ptr, i64)',
    `@${FRAME_SIZES} = constant [${sizes.length} x i64] [${sizes.join(', ')}], section ".imago.frames"`,
    `@__imago_frame_count = constant i64 ${sizes.length}`,
  )
  return { sites, functions }
}

interface Local {
  readonly type: string
  readonly align: number
}

interface SlotAccess {
  readonly kind: 'load' | 'store'
  readonly slot: string
  /** What a store stores. */
  readonly value: string
}

/** A place where the function may be left. */
interface SiteState {
  readonly live: readonly string[]
  /** Slots the frame holds already. */
  readonly inFrame: ReadonlySet<string>
  /** The shadow pointer is at this function's frame already. */
  readonly lowered: boolean
}

const SLOT_NAME = /\.reg2mem\d*"?$/

class Frame {
  readonly #fn: IrFunction
  readonly #isSite: (instruction: string) => boolean
  readonly #flow: Flow
  readonly #frequency: ReadonlyMap<string, number>
  /** Type of each slot that reg2mem made, and each other local. */
  readonly #slots = new Map<string, string>()
  readonly #locals = new Map<string, Local>()
  readonly #fields = new Map<string, number>()
  readonly #type: string
  readonly #eager = new Set<string>()
  readonly #sites: ReadonlyMap<string, SiteState>
  readonly #loweredAt: ReadonlyMap<string, boolean>
  /** The frame's address is computed at the entry; otherwise at the sites. */
  readonly #baseAtEntry: boolean
  #names = 0
  readonly declaration: string

  constructor(fn: IrFunction, index: number, isSite: (instruction: string) => boolean, locations: Locations) {
    this.#fn = fn
    this.#isSite = isSite
    this.#type = `%imago.frame.${index}`
    this.#collectAllocas(locations)
    this.#loweredAt = planLowering(fn, isSite)
    this.#flow = new Flow(fn)
    this.#frequency = this.#flow.frequencies(isCold)
    const live = this.#liveAtSites()
    this.#sites = this.#statesAtSites(live)
    this.#chooseEager()
    this.#baseAtEntry = this.#locals.size > 0 || this.#eager.size > 0
    this.declaration = `${this.#type} = type { ${this.#layOut(live).join(', ')} }`
  }

  get size(): string {
    return `ptrtoint (ptr getelementptr (${this.#type}, ptr null, i32 1) to i64)`
  }

  #collectAllocas(locations: Locations): void {
    for (const block of this.#fn.blocks)
      for (const instruction of block.instructions) {
        const match = /^\s+(%(?:"[^"]+"|[-\w.$]+)) = alloca (.*)$/.exec(instruction)
        if (match === null) continue
        const rest = match[2]!
        if (/, i(32|64) %/.test(rest) || block !== this.#fn.blocks[0])
          throw new LossError(
            `${this.#fn.name.replace('__imago_user_', '')}: an array of variable length (or alloca()) cannot be in a function that may migrate`,
            {
              file: locations.of(instruction) ?? locations.of(this.#fn.head),
              hint: 'use malloc, or choose other functions with --migrate-at',
            },
          )
        const type = rest.replace(/, align \d+.*$/, '').replace(/, !.*$/, '')
        if (SLOT_NAME.test(match[1]!)) this.#slots.set(match[1]!, type)
        else this.#locals.set(match[1]!, { type, align: Number(/, align (\d+)/.exec(rest)?.[1] ?? 16) })
      }
  }

  #access(instruction: string): SlotAccess | undefined {
    if (!instruction.includes('.reg2mem')) return undefined
    const load = /^\s+%(?:"[^"]+"|[-\w.$]+) = load .*, ptr (%(?:"[^"]+"|[-\w.$]+))(?:,|$)/.exec(instruction)
    if (load && this.#slots.has(load[1]!)) return { kind: 'load', slot: load[1]!, value: '' }
    const store = /^\s+store (.*), ptr (%(?:"[^"]+"|[-\w.$]+))(?:,|$)/.exec(instruction)
    if (store && this.#slots.has(store[2]!)) {
      const slot = store[2]!
      return { kind: 'store', slot, value: store[1]!.slice(this.#slots.get(slot)!.length).trim() }
    }
    return undefined
  }

  /** A block holds at most one site, as `prepare` split them; so a site is named by its block. */
  #liveAtSites(): Map<string, string[]> {
    const walk = (label: string, live: Set<string>, atSite?: (live: Set<string>) => void) => {
      const { instructions } = this.#flow.blocks.get(label)!
      for (let i = instructions.length - 1; i >= 0; i--) {
        if (this.#isSite(instructions[i]!)) atSite?.(live)
        const access = this.#access(instructions[i]!)
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
      let held = new Set(at)
      for (const instruction of this.#flow.blocks.get(label)!.instructions) {
        const access = this.#access(instruction)
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
      walkFrame(label, held.get(label) ?? new Set(), inFrame =>
        result.set(label, { live: slots, inFrame, lowered: this.#loweredAt.get(label)! }),
      )
    return result
  }

  /** Slots whose definitions run less often than the sites that would have to store them. */
  #chooseEager(): void {
    const atSites = new Map<string, number>()
    for (const [label, site] of this.#sites)
      for (const slot of site.live)
        if (!site.inFrame.has(slot)) atSites.set(slot, (atSites.get(slot) ?? 0) + this.#frequency.get(label)!)
    const atDefinitions = new Map<string, number>()
    for (const block of this.#fn.blocks)
      for (const instruction of block.instructions) {
        const access = this.#access(instruction)
        if (access?.kind === 'store')
          atDefinitions.set(
            access.slot,
            (atDefinitions.get(access.slot) ?? 0) + this.#frequency.get(block.label)!,
          )
      }
    for (const [slot, cost] of atSites) if ((atDefinitions.get(slot) ?? 0) < cost) this.#eager.add(slot)
  }

  /** Types of the fields; [0 x i128] aligns what follows, or the end, to 16. */
  #layOut(live: ReadonlyMap<string, readonly string[]>): string[] {
    const fields = ['i64']
    for (const slot of new Set([...live.values()].flat())) {
      this.#fields.set(slot, fields.length)
      fields.push(this.#slots.get(slot)!)
    }
    for (const [name, local] of this.#locals) {
      if (local.align >= 16) fields.push('[0 x i128]')
      this.#fields.set(name, fields.length)
      fields.push(local.type)
      // A local that wants more than the frame's 16 is moved up within its field.
      if (local.align > 16) fields.push(`[${local.align} x i8]`)
    }
    return [...fields, '[0 x i128]']
  }

  #fresh(): string {
    return `%imago.${this.#names++}`
  }

  /** @param nextSite gives the site of a call its number. */
  rewrite(nextSite: (instruction: string) => number): void {
    for (const [i, block] of this.#fn.blocks.entries()) {
      const out: string[] = i === 0 ? this.#entry() : []
      for (const original of block.instructions) {
        const local = /^\s+(%(?:"[^"]+"|[-\w.$]+)) = alloca /.exec(original)
        if ((local && this.#locals.has(local[1]!)) || original.includes('@llvm.lifetime.')) continue
        const instruction = this.#replaceLocals(original, out)
        if (this.#isSite(instruction)) {
          this.#site(block, instruction, nextSite(instruction), out)
          continue
        }
        if (original === LOWER) {
          this.#lower(out)
          continue
        }
        if (original === RAISE) {
          this.#raise(out)
          continue
        }
        if (/^\s+ret\b/.test(instruction) && this.#loweredAtEnd(block)) this.#raise(out)
        out.push(instruction)
        const access = this.#access(instruction)
        if (access?.kind === 'store' && this.#eager.has(access.slot))
          this.#storeField(access.slot, access.value, out)
      }
      block.instructions = out
    }
    for (const block of this.#fn.blocks)
      block.instructions.sort((a, b) => Number(/ = alloca /.test(b)) - Number(/ = alloca /.test(a)))
  }

  #loweredAtEnd(block: Block): boolean {
    return (this.#sites.has(block.label) && !isCold(block.label)) || this.#loweredAt.get(block.label)!
  }

  #entry(): string[] {
    const out = ['  %imago.base = alloca ptr']
    if (this.#baseAtEntry) this.#computeBase(out)
    return out
  }

  #computeBase(out: string[]): void {
    const [top, size, base] = [this.#fresh(), this.#fresh(), this.#fresh()]
    out.push(
      `  ${top} = load ptr, ptr ${POINTER}`,
      `  ${size} = sub i64 0, ${this.size}`,
      `  ${base} = getelementptr inbounds i8, ptr ${top}, i64 ${size}`,
      `  store ptr ${base}, ptr %imago.base`,
    )
  }

  #lower(out: string[]): void {
    if (!this.#baseAtEntry) this.#computeBase(out)
    const base = this.#fresh()
    out.push(`  ${base} = load ptr, ptr %imago.base`, `  store ptr ${base}, ptr ${POINTER}`)
  }

  #raise(out: string[]): void {
    const [base, top] = [this.#fresh(), this.#fresh()]
    out.push(
      `  ${base} = load ptr, ptr %imago.base`,
      `  ${top} = getelementptr inbounds i8, ptr ${base}, i64 ${this.size}`,
      `  store ptr ${top}, ptr ${POINTER}`,
    )
  }

  #field(name: string, out: string[]): string {
    return this.#fieldAt(this.#fields.get(name)!, out)
  }

  #fieldAt(index: number, out: string[]): string {
    const [base, field] = [this.#fresh(), this.#fresh()]
    out.push(
      `  ${base} = load ptr, ptr %imago.base`,
      `  ${field} = getelementptr inbounds ${this.#type}, ptr ${base}, i32 0, i32 ${index}`,
    )
    return field
  }

  #storeField(slot: string, value: string, out: string[]): void {
    const type = this.#slots.get(slot)!
    out.push(`  store ${type} ${value}, ptr ${this.#field(slot, out)}${aligned(type)}`)
  }

  #replaceLocals(instruction: string, out: string[]): string {
    if (this.#locals.size === 0) return instruction
    const addresses = new Map<string, string>()
    return replaceLocals(instruction, name => {
      const local = this.#locals.get(name)
      if (local === undefined) return undefined
      let address = addresses.get(name)
      if (address === undefined) {
        address = this.#field(name, out)
        if (local.align > 16) {
          const [up, masked] = [this.#fresh(), this.#fresh()]
          out.push(
            `  ${up} = getelementptr inbounds i8, ptr ${address}, i64 ${local.align - 1}`,
            `  ${masked} = call ptr @llvm.ptrmask.p0.i64(ptr ${up}, i64 -${local.align})`,
          )
          address = masked
        }
        addresses.set(name, address)
      }
      return address
    })
  }

  #site(block: Block, instruction: string, id: number, out: string[]): void {
    const site = this.#sites.get(block.label)!
    if (!site.lowered) this.#lower(out)
    out.push(`  store i64 ${id}, ptr ${this.#fieldAt(0, out)}`)
    for (const slot of site.live) {
      if (this.#eager.has(slot) || site.inFrame.has(slot)) continue
      const value = this.#fresh()
      out.push(`  ${value} = load ${this.#slots.get(slot)}, ptr ${slot}`)
      this.#storeField(slot, value, out)
    }
    const base = this.#fresh()
    out.push(
      instruction,
      `  call void (i64, i32, ...) @llvm.experimental.stackmap(i64 ${id}, i32 0)`,
      `  ${base} = load ptr, ptr ${POINTER}`,
      `  store ptr ${base}, ptr %imago.base`,
    )
    for (const slot of site.live) {
      const type = this.#slots.get(slot)!
      const field = this.#field(slot, out)
      const value = this.#fresh()
      out.push(
        `  ${value} = load ${type}, ptr ${field}${aligned(type)}`,
        `  store ${type} ${value}, ptr ${slot}`,
      )
    }
    if (isCold(block.label) && !site.lowered) this.#raise(out)
  }
}

/** Vectors are aligned to 8 in a frame, not to their size. */
const aligned = (type: string) => (type.startsWith('<') ? ', align 8' : '')
