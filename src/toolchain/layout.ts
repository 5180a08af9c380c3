/**
 * One layout for both binaries: a first link of each ISA says which input sections there are, how large and how aligned;
 * then every section gets one address, room for the larger of the two, and a linker script that puts it there.
 *
 *   0x400000   headers | .text …            categories begin at multiples of 64 KiB (aarch64's largest page),
 *   …          .rodata … | .llvm_stackmaps  with room in between, so that both ISAs agree
 *   …          .tdata .init_array .got      what is of the ISA: pages of their own
 *   …          .data … | .bss …
 *
 * The map of lld (`-Map`): columns VMA, LMA, size, alignment (hexadecimal but for the last), then the output section,
 * the input section as `file:(.section)` indented by 8, or a symbol indented by 16.
 */
import path from 'node:path'
import { alignUp, hex } from '../lib/bytes.js'
import { LossError } from '../lib/errors.js'
import type { IsaName } from '../model/process.js'
import { isaNames } from './program.js'

const categories = ['.text', '.rodata', '.data', '.bss'] as const
type Category = (typeof categories)[number]

const IMAGE_BASE = 0x400000
const SEGMENT_ALIGNMENT = 0x10000
/** Between the categories: for what only one ISA has (procedure linkage, stackmaps, tables of constructors). */
const SLACK = 0x10000

export interface InputSection {
  readonly category: Category
  /** `libc.a:printf.o` or `program.o`. */
  readonly file: string
  readonly section: string
  readonly size: number
  readonly align: number
}

/** What a first link's map says of the sections that the layout places. */
export function readLinkMap(text: string): InputSection[] {
  const sections = new Map<string, InputSection>()
  let output = ''
  for (const line of text.split('\n')) {
    const match = /^\s*[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+(\d+) (\s*)(\S.*)$/.exec(line)
    if (match === null) continue
    if (match[3] === '') {
      output = match[4]!
      continue
    }
    const input = match[3]!.length === 8 ? /^(.*):\((\.[^)]*)\)$/.exec(match[4]!) : null
    const size = Number.parseInt(match[1]!, 16)
    if (input === null || size === 0 || input[1]!.startsWith('<internal>')) continue
    const category = categories.find(each => output === each || output.startsWith(`${each}.`))
    if (category === undefined) continue
    const file = fileName(input[1]!)
    const key = `${category} ${file} ${input[2]}`
    const align = Number(match[2])
    const known = sections.get(key)
    sections.set(key, {
      category,
      file,
      section: input[2]!,
      size: known ? alignUp(known.size, align) + size : size,
      align: Math.max(align, known?.align ?? 1),
    })
  }
  return [...sections.values()]
}

function fileName(text: string): string {
  const member = /^(.*)\(([^()]*)\)$/.exec(text)
  return member ? `${path.basename(member[1]!)}:${member[2]}` : path.basename(text)
}

export interface PlacedSection {
  readonly category: Category
  readonly file: string
  readonly section: string
  readonly address: number
  /** Room it has; the larger of the two sizes. */
  readonly size: number
  readonly align: number
  /** Undefined where the ISA has no such section. */
  readonly sizes: Readonly<Partial<Record<IsaName, number>>>
  /** The section's name on each ISA: assembler in musl calls `.text` what C calls `.text.memmove`. */
  readonly names: Readonly<Partial<Record<IsaName, string>>>
}

export interface Layout {
  readonly sections: readonly PlacedSection[]
  readonly start: Readonly<Record<Category, number>>
  readonly end: Readonly<Record<Category, number>>
  /** Where what is of the ISA and writable begins. */
  readonly own: number
}

/** Gives every section of either ISA its address. `ownSize` bytes are kept for what is of the ISA and writable. */
export function planLayout(
  inputs: Readonly<Record<IsaName, readonly InputSection[]>>,
  ownSize: number,
): Layout {
  const found = new Map<string, Partial<Record<IsaName, InputSection>>>()
  const alone = isaNames.map(isa => filesWithOneText(inputs[isa]))
  for (const isa of isaNames)
    for (const each of inputs[isa]) {
      const whole = each.category === '.text' && alone.every(files => files.has(each.file))
      const key = `${each.category} ${each.file} ${whole ? '' : each.section}`
      found.set(key, { ...found.get(key), [isa]: each })
    }
  const sections: PlacedSection[] = []
  const start: Record<string, number> = {}
  const end: Record<string, number> = {}
  let at = IMAGE_BASE + 0x1000
  let own = 0
  for (const category of categories) {
    if (category === '.data') {
      own = alignUp(at, SEGMENT_ALIGNMENT)
      at = own + alignUp(ownSize, 0x1000)
    }
    at = category === '.rodata' ? alignUp(at, SEGMENT_ALIGNMENT) : alignUp(at, 0x1000)
    start[category] = at
    for (const versions of found.values()) {
      const each = isaNames.map(isa => versions[isa]).filter(version => version !== undefined)
      const first = each[0]!
      if (first.category !== category) continue
      const align = Math.max(category === '.text' ? 16 : 8, ...each.map(version => version.align))
      const size = Math.max(...each.map(version => version.size))
      at = alignUp(at, align)
      const perIsa = <T>(value: (section: InputSection) => T) =>
        Object.fromEntries(isaNames.flatMap(isa => (versions[isa] ? [[isa, value(versions[isa])]] : [])))
      sections.push({
        category,
        file: first.file,
        section: first.section,
        address: at,
        size,
        align,
        sizes: perIsa(version => version.size),
        names: perIsa(version => version.section),
      })
      at += size
    }
    end[category] = at
    at += category === '.data' ? 0 : SLACK
  }
  return { sections, start: start as Layout['start'], end: end as Layout['end'], own }
}

function filesWithOneText(inputs: readonly InputSection[]): Set<string> {
  const count = new Map<string, number>()
  for (const each of inputs)
    if (each.category === '.text') count.set(each.file, (count.get(each.file) ?? 0) + 1)
  return new Set([...count].filter(([, sections]) => sections === 1).map(([file]) => file))
}

/** The object that holds all of the program's own code, and the symbols around that. */
const PROGRAM = 'program.o'
export const PROGRAM_RANGE = ['__imago_program_start', '__imago_program_end'] as const

/** The linker script of one ISA. Sections the plan does not know go to the end of their category, where lld warns of overlaps. */
export function linkerScript(layout: Layout, isa: IsaName): string {
  const place = (category: Category) => [
    `  ${category} ${hex(layout.start[category])} : {`,
    ...layout.sections
      .filter(each => each.category === category && each.sizes[isa] !== undefined)
      .map(each => `    . = ${hex(each.address)}; *${each.file}(${each.names[isa]})`),
    // Both ISAs' sections end at the same address, whichever has the last one.
    ...(category === '.data' || category === '.bss' ? [`    . = ${hex(layout.end[category])};`] : []),
    category === '.bss' ? '    *(.bss .bss.* COMMON)' : `    *(${category} ${category}.*)`,
    '  }',
  ]
  const own = layout.sections.filter(each => each.category === '.text' && each.file === PROGRAM)
  return `${[
    'SECTIONS {',
    `  ${PROGRAM_RANGE[0]} = ${hex(Math.min(...own.map(each => each.address)))};`,
    `  ${PROGRAM_RANGE[1]} = ${hex(Math.max(...own.map(each => each.address + each.size)))};`,
    `  . = ${hex(IMAGE_BASE)} + SIZEOF_HEADERS;`,
    ...place('.text'),
    '  .init : { KEEP(*(.init)) }',
    '  .fini : { KEEP(*(.fini)) }',
    '  .plt : { *(.plt) }',
    '  .iplt : { *(.iplt) }',
    ...place('.rodata'),
    '  .llvm_stackmaps : { KEEP(*(.llvm_stackmaps)) }',
    '  .imago.frames : { KEEP(*(.imago.frames)) }',
    '  .rela.dyn : { *(.rela.dyn .rela.plt .rela.iplt) }',
    '  .note.gnu.build-id : { *(.note.gnu.build-id) }',
    `  . = ${hex(layout.own)};`,
    `  .tdata : { *(.tdata .tdata.*) }`,
    '  .tbss : { *(.tbss .tbss.*) }',
    ...(['preinit', 'init', 'fini'] as const).flatMap(name => [
      `  .${name}_array : {`,
      `    PROVIDE_HIDDEN(__${name}_array_start = .);`,
      `    KEEP(*(SORT_BY_INIT_PRIORITY(.${name}_array.*) .${name}_array))`,
      `    PROVIDE_HIDDEN(__${name}_array_end = .);`,
      '  }',
    ]),
    '  .got : { *(.got) }',
    '  .got.plt : { *(.got.plt) }',
    ...place('.data'),
    ...place('.bss'),
    '  _end = .; PROVIDE(end = .);',
    '  /DISCARD/ : { *(.eh_frame .eh_frame_hdr .comment .note.GNU-stack .ARM.attributes .riscv.attributes) }',
    '}',
  ].join('\n')}\n`
}

/** Names whose addresses are of the ISA: pointers to them never leave the code. */
const OF_THE_ISA =
  /^(\$|\.L|_init$|_fini$|__LLVM_StackMaps$|_GLOBAL_OFFSET_TABLE_$|_end$|end$|__(pre)?(init|fini)_array_(start|end)$|_DYNAMIC$|__imago_frame_sizes$|__restore(_rt)?$|_*fe(get|set|clear|raise|test|hold|update)(round|env|except|excep)\w*$)/

/**
 * The check of the layout: every symbol that both binaries have is at the same address.
 * @throws LossError with the first that differ.
 */
export function requireSameAddresses(
  symbols: Readonly<Record<IsaName, ReadonlyMap<string, readonly bigint[]>>>,
  file: string,
): number {
  const different: string[] = []
  let same = 0
  for (const [name, addresses] of symbols['x86-64']) {
    const others = symbols.aarch64.get(name)
    if (others === undefined || OF_THE_ISA.test(name)) continue
    // Local names may be taken several times, and not equally often on both: those both have must agree.
    const common = addresses.filter(each => others.includes(each)).length
    if (common === Math.min(addresses.length, others.length)) same++
    else different.push(`${name}: ${addresses.map(hex).join(' ')} and ${others.map(hex).join(' ')}`)
  }
  if (different.length > 0)
    throw new LossError(
      `${different.length} symbols are at different addresses:\n  ${different.slice(0, 10).join('\n  ')}`,
      { file },
    )
  return same
}
