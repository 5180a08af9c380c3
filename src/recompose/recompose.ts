/**
 * A new process image out of several: what a recipe says, region by region, laid over the base image. Pure: memory is
 * pointed to, so that nothing is copied before the result is written.
 *
 *   base      .text ─ .data ─ .bss ─ heap ─ vdso ─ stack        rules are applied from the last to the first,
 *   + rules   zero    copy A  copy A  keep   keep   copy A      so that a page belongs to the first that names it
 *             patch ▲
 *
 * Mappings follow: a heap or stack that receives more than it holds grows, and brk with it; a vDSO that is replaced
 * takes its auxiliary vector entry along.
 */
import { isas } from '../isa/isas.js'
import { AT } from '../isa/linux.js'
import { hex } from '../lib/bytes.js'
import { LossError, UnreadableError } from '../lib/errors.js'
import { type Address, type Extent, extentEnd, type Memory, PAGE_SIZE_BIG, ZERO } from '../model/memory.js'
import type { Mapping, Process, ProcessImage } from '../model/process.js'
import { type VdsoPointer, vdsoPointers } from '../model/vdso-pointers.js'
import type { Recipe, RegionRule } from './recipe.js'
import { findRanges, type Ingredient, type Range, rangeText } from './regions.js'

/** What is being made. */
interface Draft {
  memory: Memory
  mappings: readonly Mapping[]
  layout: Process['layout']
}

/** @param ingredients the recipe's images by name. @throws LossError, UnreadableError */
export function recompose(
  recipe: Recipe,
  base: ProcessImage,
  ingredients: ReadonlyMap<string, Ingredient>,
): ProcessImage {
  const own = ingredients.get(recipe.base)!
  const draft: Draft = { ...own.process }
  for (const rule of [...recipe.regions].reverse()) applyRule(draft, rule, own, ingredients)
  checkAddresses(draft, own)
  const process = renamed(
    { ...own.process, ...draft, threads: threadsOf(recipe, own, ingredients) },
    recipe.files,
  )
  return {
    ...base,
    processes: base.processes.map(each => (each.pid === process.pid ? process : each)),
    descriptions: new Map(
      [...base.descriptions].map(([id, each]) => [
        id,
        each.path !== undefined && recipe.files.has(each.path)
          ? { ...each, path: recipe.files.get(each.path)! }
          : each,
      ]),
    ),
  }
}

/** Words of the result that still point at functions of the vDSO of another image: they crash when called. */
export function strayPointers(
  recipe: Recipe,
  result: Process,
  ingredients: ReadonlyMap<string, Ingredient>,
): Array<VdsoPointer & { readonly image: string }> {
  const used = new Set(
    recipe.regions.flatMap(({ action }) =>
      'image' in action && action.image !== recipe.base ? [action.image] : [],
    ),
  )
  const found: Array<VdsoPointer & { image: string }> = []
  for (const image of used)
    for (const pointer of vdsoPointers(result, ingredients.get(image)!.process)) {
      // An address may be in both vDSOs: then nobody can tell.
      const here = result.mappings.find(({ start, end }) => start <= pointer.value && pointer.value < end)
      if (pointer.function !== undefined && here?.kind !== 'vdso') found.push({ ...pointer, image })
    }
  return found
}

function applyRule(
  draft: Draft,
  rule: RegionRule,
  own: Ingredient,
  ingredients: ReadonlyMap<string, Ingredient>,
): void {
  const { action } = rule
  const targets = findRanges(rule.where, own, rule.place)
  switch (action.kind) {
    case 'zero':
      for (const { start, end } of targets)
        replace(
          draft,
          start,
          end,
          [...own.process.memory.within(start, end)].map(extent => ({ ...extent, content: ZERO })),
        )
      break
    case 'keep':
      for (const { start, end } of targets) replace(draft, start, end, own.process.memory.within(start, end))
      break
    case 'drop':
      for (const target of targets) drop(draft, target)
      break
    case 'template':
      template(draft, rule, targets, own, ingredients.get(action.image)!)
      break
    case 'copy': {
      const from = ingredients.get(action.image)!
      const sources = findRanges(action.source ?? rule.where, from, rule.place)
      if (sources.length !== targets.length)
        throw new UnreadableError(`the recipe's ${rule.place} copies regions that do not match`, {
          found: `${sources.length} in ${from.name} (${sources.map(rangeText).join(' ')})`,
          expected: `${targets.length} as in ${own.name} (${targets.map(rangeText).join(' ')})`,
        })
      for (const [i, target] of targets.entries()) copy(draft, rule, target, from, sources[i]!)
    }
  }
  applyPatches(draft, rule, targets, ingredients)
}

function replace(draft: Draft, start: Address, end: Address, extents: Iterable<Extent>): void {
  draft.memory = draft.memory.without(start, end).overlay([...extents])
}

/** Pages of a region leave the image; a vDSO or vvar leaves the address space too. */
function drop(draft: Draft, { start, end, kind }: Range): void {
  draft.memory = draft.memory.without(start, end)
  if (kind !== 'vdso' && kind !== 'vvar' && kind !== 'vsyscall') return
  draft.mappings = draft.mappings.filter(each => each.start < start || each.end > end)
  if (kind === 'vdso') setAuxiliary(draft, AT.SYSINFO_EHDR, undefined)
}

function setAuxiliary(draft: Draft, type: bigint, value: bigint | undefined): void {
  const rest = draft.layout.auxv.filter(([each]) => each !== type)
  draft.layout = { ...draft.layout, auxv: value === undefined ? rest : [[type, value], ...rest] }
}

/** Mappings and pages as another image has them, at its addresses. */
function template(
  draft: Draft,
  rule: RegionRule,
  targets: readonly Range[],
  own: Ingredient,
  from: Ingredient,
): void {
  const sources = findRanges(rule.where, from, rule.place)
  for (const target of targets) {
    if (from !== own && target.kind !== undefined)
      draft.mappings = draft.mappings.filter(each => each.start < target.start || each.end > target.end)
    draft.memory = draft.memory.without(target.start, target.end)
  }
  for (const { start, end, kind } of sources) {
    if (from !== own && kind !== undefined) {
      const mappings = from.process.mappings.filter(
        each => each.kind === kind && each.start >= start && each.end <= end,
      )
      const taken = draft.mappings.find(each => each.start < end && each.end > start)
      if (taken !== undefined)
        throw new LossError(
          `the recipe's ${rule.place} puts the ${kind} of ${from.name} where ${own.name} has its ${taken.kind}`,
          {
            address: start,
          },
        )
      draft.mappings = [...draft.mappings, ...mappings].sort((a, b) => (a.start < b.start ? -1 : 1))
      if (kind === 'vdso') setAuxiliary(draft, AT.SYSINFO_EHDR, start)
    }
    replace(draft, start, end, from.process.memory.within(start, end))
  }
}

/** Pages of another image in place of those of a region; stacks are laid end to end, all else start to start. */
function copy(draft: Draft, rule: RegionRule, target: Range, from: Ingredient, source: Range): void {
  const shift = target.kind === 'stack' ? target.end - source.end : target.start - source.start
  const extents = [...from.process.memory.within(source.start, source.end)].map(extent => ({
    ...extent,
    address: extent.address + shift,
  }))
  const low = extents[0]?.address ?? target.start
  const high = extents.length > 0 ? extentEnd(extents.at(-1)!) : target.end
  if (low < target.start || high > target.end) grow(draft, rule, target, low, high)
  replace(draft, low < target.start ? low : target.start, high > target.end ? high : target.end, extents)
}

/** A heap grows upwards and a stack downwards, as far as nothing is in the way. */
function grow(draft: Draft, rule: RegionRule, target: Range, low: Address, high: Address): void {
  const { kind } = target
  const fits = kind === 'heap' ? low >= target.start : kind === 'stack' ? high <= target.end : false
  const start = low < target.start ? low : target.start
  const end = high > target.end ? high : target.end
  const way = draft.mappings.find(
    each => each.start < end && each.end > start && !(each.start >= target.start && each.end <= target.end),
  )
  if (!fits || way !== undefined)
    throw new LossError(`the recipe's ${rule.place} copies more than there is room for`, {
      address: target.start,
      found: `${hex(high - low)} bytes${way === undefined ? '' : `, and ${way.kind} is in the way at ${hex(way.start)}`}`,
      expected: `at most ${hex(target.end - target.start)} bytes`,
    })
  draft.mappings = draft.mappings.map(each =>
    kind === 'heap' && each.end === target.end
      ? { ...each, end }
      : kind === 'stack' && each.start === target.start
        ? { ...each, start }
        : each,
  )
  if (kind === 'heap' && draft.layout.brk < end) draft.layout = { ...draft.layout, brk: end }
}

function applyPatches(
  draft: Draft,
  rule: RegionRule,
  targets: readonly Range[],
  ingredients: ReadonlyMap<string, Ingredient>,
): void {
  for (const { offset, content } of rule.patches) {
    const start = targets[0]?.start
    if (start === undefined)
      throw new UnreadableError(`the recipe's ${rule.place} patches a region that is not there`)
    let bytes: Uint8Array
    if (content.kind === 'bytes') bytes = content.bytes
    else {
      const from = ingredients.get(content.image)!
      const place = findRanges(rule.where, from, rule.place)[0]!.start + BigInt(offset)
      bytes = from.process.memory.read(place, content.length)
    }
    const address = start + BigInt(offset)
    const page = address & ~(PAGE_SIZE_BIG - 1n)
    const last = (address + BigInt(bytes.length) - 1n) | (PAGE_SIZE_BIG - 1n)
    // A page that is not in the image would become zeros around the patch.
    if (!draft.memory.covers(page, last + 1n))
      throw new LossError(`the recipe's ${rule.place} patches a page that the image does not hold`, {
        address,
        hint: 'copy or take the page from an image that holds it first',
      })
    draft.memory = draft.memory.patch(address, bytes)
  }
}

function checkAddresses({ mappings }: Draft, { isa, name }: Ingredient): void {
  const end = isas[isa].userSpaceEnd
  const above = mappings.find(each => each.end > end && each.kind !== 'vsyscall')
  if (above !== undefined)
    throw new LossError(`a mapping lies above the address space of ${isa}`, {
      address: above.start,
      expected: `below ${hex(end)}`,
      hint: `copy its pages into a region of ${name} instead of taking it as a template`,
    })
}

function threadsOf(
  recipe: Recipe,
  own: Ingredient,
  ingredients: ReadonlyMap<string, Ingredient>,
): Process['threads'] {
  const { threads } = own.process
  const { registers } = recipe
  if (registers === undefined) return threads
  if (typeof registers !== 'string')
    return threads.map((thread, i) => {
      if (i > 0) return thread
      const general = new Map(thread.registers.general)
      for (const [name, value] of registers) {
        if (!general.has(name))
          throw new UnreadableError(`the recipe's registers.${name} is no register of ${own.isa}`, {
            expected: [...general.keys()].join(' '),
          })
        general.set(name, value)
      }
      return { ...thread, registers: { ...thread.registers, general } }
    })
  const from = ingredients.get(registers)!
  if (from.isa !== own.isa)
    throw new LossError(`registers of ${from.isa} mean nothing on ${own.isa}`, {
      hint: "'imago retarget' translates a whole process",
    })
  if (from.process.threads.length !== threads.length)
    throw new LossError(`image ${from.name} has another number of threads`, {
      found: from.process.threads.length,
      expected: threads.length,
    })
  return threads.map((thread, i) => ({ ...from.process.threads[i]!, tid: thread.tid }))
}

function renamed(process: Process, files: ReadonlyMap<string, string>): Process {
  const name = <T extends string | undefined>(path: T) =>
    (path === undefined ? path : (files.get(path) ?? path)) as T
  return {
    ...process,
    executable: name(process.executable),
    workingDirectory: name(process.workingDirectory),
    mappings: process.mappings.map(each =>
      each.file && files.has(each.file.path)
        ? { ...each, file: { ...each.file, path: name(each.file.path) } }
        : each,
    ),
  }
}
