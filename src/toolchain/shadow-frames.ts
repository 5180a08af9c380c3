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
 * What a frame holds, and when, `frame-plan.ts` decides; locals whose address is taken live in it always. So the native
 * stack holds return addresses and dead values only.
 */
import { FramePlan } from './frame-plan.js'
import {
  type Block,
  declare,
  functionsOf,
  type IrFunction,
  type Locations,
  type Module,
  replaceLocals,
} from './ir.js'
import { LOWER, RAISE } from './lowering.js'
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
  const siteSizes = ['i64 0']
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
      siteSizes.push(`i64 ${frame.size}`)
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
  declare(
    module,
    'declare void @llvm.experimental.stackmap(i64, i32, ...)',
    'declare ptr @llvm.ptrmask.p0.i64(ptr, i64)',
  )
  module.items.push(
    `${POINTER} = external dso_local thread_local(localexec) global { ptr, ptr, i64, i64 }`,
    `@${FRAME_SIZES} = constant [${sizes.length} x i64] [${sizes.join(', ')}], section ".imago.frames"`,
    `@__imago_site_sizes = constant [${siteSizes.length} x i64] [${siteSizes.join(', ')}]`,
    `@__imago_frame_count = constant i64 ${sizes.length}`,
  )
  return { sites, functions }
}

class Frame {
  readonly #fn: IrFunction
  readonly #isSite: (instruction: string) => boolean
  readonly #plan: FramePlan
  readonly #fields = new Map<string, number>()
  readonly #type: string
  #names = 0
  readonly declaration: string

  constructor(fn: IrFunction, index: number, isSite: (instruction: string) => boolean, locations: Locations) {
    this.#fn = fn
    this.#isSite = isSite
    this.#type = `%imago.frame.${index}`
    this.#plan = new FramePlan(fn, isSite, locations)
    this.declaration = `${this.#type} = type { ${this.#layOut().join(', ')} }`
  }

  get size(): string {
    return `ptrtoint (ptr getelementptr (${this.#type}, ptr null, i32 1) to i64)`
  }

  /** Types of the fields; [0 x i128] aligns what follows, or the end, to 16. */
  #layOut(): string[] {
    const fields = ['i64']
    for (const slot of this.#plan.kept) {
      this.#fields.set(slot, fields.length)
      fields.push(this.#plan.slots.get(slot)!)
    }
    for (const [name, local] of this.#plan.locals) {
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
        if ((local && this.#plan.locals.has(local[1]!)) || original.includes('@llvm.lifetime.')) continue
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
        if (/^\s+ret\b/.test(instruction) && this.#plan.isLoweredAtEnd(block.label)) this.#raise(out)
        out.push(instruction)
        const access = this.#plan.access(instruction)
        if (access?.kind === 'store' && this.#plan.eager.has(access.slot))
          this.#storeField(access.slot, access.value, out)
      }
      block.instructions = out
    }
    for (const block of this.#fn.blocks)
      block.instructions.sort((a, b) => Number(/ = alloca /.test(b)) - Number(/ = alloca /.test(a)))
  }

  #entry(): string[] {
    const out = ['  %imago.base = alloca ptr']
    if (this.#plan.fromEntry) this.#lower(out)
    return out
  }

  #lower(out: string[]): void {
    const [top, size, base] = [this.#fresh(), this.#fresh(), this.#fresh()]
    out.push(
      `  ${top} = load ptr, ptr ${POINTER}`,
      `  ${size} = sub i64 0, ${this.size}`,
      `  ${base} = getelementptr inbounds i8, ptr ${top}, i64 ${size}`,
      `  store ptr ${base}, ptr %imago.base`,
      `  store ptr ${base}, ptr ${POINTER}`,
    )
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
    const type = this.#plan.slots.get(slot)!
    out.push(`  store ${type} ${value}, ptr ${this.#field(slot, out)}${aligned(type)}`)
  }

  #replaceLocals(instruction: string, out: string[]): string {
    if (this.#plan.locals.size === 0) return instruction
    const addresses = new Map<string, string>()
    return replaceLocals(instruction, name => {
      const local = this.#plan.locals.get(name)
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
    const site = this.#plan.sites.get(block.label)!
    const lowered = this.#plan.isLoweredAtStart(block.label)
    if (!lowered) this.#lower(out)
    out.push(`  store i64 ${id}, ptr ${this.#fieldAt(0, out)}`)
    for (const slot of site.live) {
      if (this.#plan.eager.has(slot) || site.inFrame.has(slot)) continue
      const value = this.#fresh()
      out.push(`  ${value} = load ${this.#plan.slots.get(slot)}, ptr ${slot}`)
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
      const type = this.#plan.slots.get(slot)!
      const field = this.#field(slot, out)
      const value = this.#fresh()
      out.push(
        `  ${value} = load ${type}, ptr ${field}${aligned(type)}`,
        `  store ${type} ${value}, ptr ${slot}`,
      )
    }
    if (isCold(block.label) && !lowered) this.#raise(out)
  }
}

/** Vectors are aligned to 8 in a frame, not to their size. */
const aligned = (type: string) => (type.startsWith('<') ? ', align 8' : '')
