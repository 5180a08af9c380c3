/**
 * Where the regions of a recipe are in a process: by the name of a section or of a kind of mapping, by page numbers
 * as `imago pages` shows them, or by address. All ranges lie on page borders.
 */

import { alignDownBig, alignUpBig, hex } from '../lib/bytes.js'
import { UnreadableError } from '../lib/errors.js'
import type { LoadedFiles } from '../model/loaded-files.js'
import { type Address, PAGE_SIZE_BIG } from '../model/memory.js'
import { pageBreakdown } from '../model/page-breakdown.js'
import type { IsaName, Mapping, MappingKind, Process } from '../model/process.js'
import type { Selector } from './recipe.js'

/** One image of a recipe, opened. */
export interface Ingredient {
  readonly name: string
  readonly isa: IsaName
  readonly process: Process
  readonly loaded: LoadedFiles
}

export interface Range {
  readonly start: Address
  readonly end: Address
  /** The kind, for a range that is a whole mapping of that kind: such a range can grow, move and be replaced. */
  readonly kind?: MappingKind
}

const kinds: ReadonlySet<string> = new Set([
  'heap',
  'stack',
  'vdso',
  'vvar',
  'vsyscall',
] satisfies MappingKind[])

/** @throws UnreadableError when a named section is not there, or no page has such a number. */
export function findRanges(where: Selector, ingredient: Ingredient, place: string): Range[] {
  switch (where.by) {
    case 'address':
      return [where]
    case 'pages':
      return rangesOfPages(where.first, where.last, ingredient, place)
    case 'name':
      return where.names.flatMap(name => rangesNamed(name, ingredient, place))
  }
}

/** None for a kind of mapping that the process does not have. */
function rangesNamed(name: string, ingredient: Ingredient, place: string): Range[] {
  const { process, loaded } = ingredient
  if (kinds.has(name))
    return joined(process.mappings.filter(mapping => mapping.kind === name)).map(range => ({
      ...range,
      kind: name as MappingKind,
    }))
  const executable = loaded.files.find(file => file.path === process.executable)
  const section = executable?.elf.section(name)
  if (executable !== undefined && section !== undefined) {
    const start = section.address + executable.bias
    return [
      {
        start: alignDownBig(start, PAGE_SIZE_BIG),
        end: alignUpBig(start + BigInt(section.size), PAGE_SIZE_BIG),
      },
    ]
  }
  const range = executable === undefined ? withoutBinary(name, process) : undefined
  if (range === undefined)
    throw new UnreadableError(
      `the recipe's ${place} names '${name}', which image ${ingredient.name} does not have`,
      {
        expected:
          executable === undefined
            ? `.text, .data, .bss, ${[...kinds].join(', ')} (other sections need the binary)`
            : `${executable.elf.sections
                .map(each => each.name)
                .filter(Boolean)
                .join(' ')}, ${[...kinds].join(' ')}`,
        hint: executable === undefined ? `images: { ${ingredient.name}: { path: …, binary: … } }` : undefined,
      },
    )
  return [range]
}

/** What the mappings of the executable say when its sections are not at hand. */
function withoutBinary(name: string, process: Process): Range | undefined {
  const own = process.mappings.filter(each => each.kind === 'file' && each.file?.path === process.executable)
  const writable = own.filter(each => each.write).at(-1)
  switch (name) {
    case '.text':
      return own.find(each => each.execute)
    case '.data':
      return writable
    case '.bss':
      return process.mappings.find(each => each.start === writable?.end && each.kind === 'anonymous')
    default:
      return undefined
  }
}

/** Mappings that follow each other as ranges. */
function joined(mappings: readonly Mapping[]): Range[] {
  const ranges: Range[] = []
  for (const { start, end } of mappings) {
    const last = ranges.at(-1)
    if (last?.end === start) ranges[ranges.length - 1] = { start: last.start, end }
    else ranges.push({ start, end })
  }
  return ranges
}

function rangesOfPages(first: number, last: number, ingredient: Ingredient, place: string): Range[] {
  const runs = pageBreakdown(ingredient.process, ingredient.loaded).filter(run => run.file !== undefined)
  const ranges: Range[] = []
  for (const run of runs) {
    const from = Math.max(first, run.first)
    const to = Math.min(last + 1, run.first + run.count)
    if (from >= to) continue
    const start = run.address + BigInt(from - run.first) * PAGE_SIZE_BIG
    const end = start + BigInt(to - from) * PAGE_SIZE_BIG
    const before = ranges.at(-1)
    if (before?.end === start) ranges[ranges.length - 1] = { start: before.start, end }
    else ranges.push({ start, end })
  }
  const found = ranges.reduce((sum, { start, end }) => sum + (end - start) / PAGE_SIZE_BIG, 0n)
  if (found !== BigInt(last - first + 1))
    throw new UnreadableError(
      `the recipe's ${place} names pages that image ${ingredient.name} does not have`,
      {
        found: `${found} of the pages ${first}-${last}`,
        hint: "'imago pages' lists them",
      },
    )
  return ranges
}

export function rangeText({ start, end }: Range): string {
  return `${hex(start)}-${hex(end)}`
}
