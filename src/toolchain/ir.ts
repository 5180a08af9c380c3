/**
 * Textual LLVM IR, as much of it as the shadow-frame pass needs: a module is a list of top-level texts and functions,
 * a function is a head and blocks, a block is a label and instructions of one line each. Source: LLVM Language
 * Reference, version 19. Expects the output of `opt -passes=instnamer -S`: every block and value has a name.
 *
 *   define <attributes> <type> @name(<parameters>) <attributes> {
 *   label:                                  ; predecessors
 *     %result = opcode operands, !dbg !7
 *     switch i32 %x, label %a [             ← several lines; parsed into one
 *       i32 1, label %b
 *     ]
 *   }
 */

export interface Block {
  readonly label: string
  instructions: string[]
}

export interface IrFunction {
  /** Without the `@`; quoted when the IR quotes it. */
  readonly name: string
  /** Everything from `define` to the `{`, without it. */
  head: string
  blocks: Block[]
}

export interface Module {
  /** In the order of the file. */
  readonly items: Array<string | IrFunction>
}

export const functionsOf = (module: Module): IrFunction[] =>
  module.items.filter((item): item is IrFunction => typeof item !== 'string')

const GLOBAL_NAME = '(?:"[^"]+"|[-\\w.$]+)'
/** A local value: `%x`, `%"a b"`. */
const LOCAL = /%(?:"[^"]+"|[-\w.$]+)/g

/** Functions in blocks; all else stays text. Printed again it is the same. */
export function parseModule(text: string): Module {
  const items: Array<string | IrFunction> = []
  let between: string[] = []
  let current: IrFunction | undefined
  let open: string | undefined
  for (const line of text.split('\n')) {
    if (current === undefined) {
      if (!line.startsWith('define ')) {
        between.push(line)
        continue
      }
      if (between.length > 0) items.push(between.join('\n'))
      between = []
      const name = new RegExp(`@(${GLOBAL_NAME})\\(`).exec(line)![1]!
      current = { name, head: line.replace(/\s*\{\s*$/, ''), blocks: [] }
    } else if (line === '}') {
      items.push(current)
      current = undefined
    } else if (open !== undefined) {
      open += ` ${line.trim()}`
      if (line.trim().startsWith(']')) {
        current.blocks.at(-1)!.instructions.push(open)
        open = undefined
      }
    } else if (/^\s*(;|$)/.test(line) || /^\s+#dbg_/.test(line)) {
    } else if (!line.startsWith(' ')) {
      current.blocks.push({ label: /^("[^"]+"|[-\w.$]+):/.exec(line)![1]!, instructions: [] })
    } else if (/\[\s*$/.test(line)) open = line
    else current.blocks.at(-1)!.instructions.push(line)
  }
  if (between.length > 0) items.push(between.join('\n'))
  return { items }
}

export function printModule(module: Module): string {
  const lines: string[] = []
  for (const item of module.items) {
    if (typeof item === 'string') lines.push(item)
    else {
      lines.push(`${item.head} {`)
      for (const block of item.blocks) {
        lines.push(`${block.label}:`)
        for (const instruction of block.instructions) lines.push(instruction)
      }
      lines.push('}')
    }
  }
  return `${lines.join('\n')}\n`
}

/** Adds declarations, each a line, that the module does not have yet. */
export function declare(module: Module, ...lines: readonly string[]): void {
  const names = new Set<string>()
  for (const item of module.items)
    if (typeof item === 'string')
      for (const match of item.matchAll(new RegExp(`^(?:declare [^@]*)?@(${GLOBAL_NAME})(?:\\(| = )`, 'gm')))
        names.add(match[1]!)
    else names.add(item.name)
  module.items.push(...lines.filter(line => !names.has(new RegExp(`@(${GLOBAL_NAME})`).exec(line)![1]!)))
}

/** Splits at commas outside brackets and strings. */
export function splitList(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (c === '"') i = text.indexOf('"', i + 1)
    else if ('([{<'.includes(c)) depth++
    else if (')]}>'.includes(c)) depth--
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  if (text.slice(start).trim() !== '') parts.push(text.slice(start).trim())
  return parts
}

/** Index of the `)` that closes the `(` at `open`. */
export function closing(text: string, open: number): number {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    const c = text[i]
    if (c === '"') i = text.indexOf('"', i + 1)
    else if (c === '(') depth++
    else if (c === ')' && --depth === 0) return i
  }
  throw new Error(`unbalanced brackets in IR: ${text.slice(open, open + 80)}`)
}

/** The type at the beginning of `text`: `ptr`, `[4 x i8]`, `%struct.s`, `<2 x double>`, `{ i64, i64 }`. */
export function leadingType(text: string): string {
  const trimmed = text.trimStart()
  const close = { '{': '}', '[': ']', '<': '>' }[trimmed[0]!]
  if (close === undefined) return /^(%"[^"]+"|[^\s,]+)/.exec(trimmed)![1]!
  let depth = 0
  for (let i = 0; i < trimmed.length; i++) {
    if ('{[<'.includes(trimmed[i]!)) depth++
    else if ('}]>'.includes(trimmed[i]!) && --depth === 0) return trimmed.slice(0, i + 1)
  }
  throw new Error(`no type in IR: ${text.slice(0, 80)}`)
}

export interface Call {
  /** `%x`, or undefined for a call whose result is not used or void. */
  readonly result: string | undefined
  /** `@name`, `%value`, or undefined for a constant expression. */
  readonly callee: string | undefined
  readonly assembler: boolean
  /** From the start of the instruction up to the callee, and from the `)` on. */
  readonly before: string
  readonly after: string
  readonly args: readonly string[]
}

const CALL = /^\s+(?:(%(?:"[^"]+"|[-\w.$]+)) = )?(?:tail |musttail |notail )?call /

/** The parts of a call instruction; undefined for any other. */
export function parseCall(instruction: string): Call | undefined {
  const match = CALL.exec(instruction)
  if (match === null) return undefined
  const result = match[1]
  const start = match[0].length
  if (/^(?:[-\w<>{}%.,*]+ )*asm /.test(instruction.slice(start)))
    return { result, callee: undefined, assembler: true, before: instruction, after: '', args: [] }
  for (let i = start; i < instruction.length; i++) {
    if (instruction[i] === '"') i = instruction.indexOf('"', i + 1)
    if (instruction[i] !== '(') continue
    const callee = new RegExp(`[@%]${GLOBAL_NAME}$`).exec(instruction.slice(start, i))
    const end = closing(instruction, i)
    if (callee !== null)
      return {
        result,
        callee: callee[0],
        assembler: false,
        before: instruction.slice(0, i - callee[0].length),
        after: instruction.slice(end),
        args: splitList(instruction.slice(i + 1, end)),
      }
    i = end
  }
  return { result, callee: undefined, assembler: false, before: instruction, after: '', args: [] }
}

export function printCall(call: Call): string {
  return `${call.before}${call.callee}(${call.args.join(', ')}${call.after}`
}

/** Parameters of a definition or declaration line: type, attributes and name in one text each. */
export function parametersOf(head: string, name: string): { start: number; end: number; list: string[] } {
  const start = head.indexOf(`@${name}(`) + name.length + 2
  const end = closing(head, start - 1)
  return { start, end, list: splitList(head.slice(start, end)) }
}

/** Labels a terminator may go to; empty for anything else. */
function targetsOf(instruction: string): string[] {
  if (!/^\s+(br|switch|indirectbr)\b/.test(instruction)) return []
  return [...instruction.matchAll(/label %("[^"]+"|[-\w.$]+)/g)].map(match => match[1]!)
}

export const successorsOf = (block: Block): string[] => targetsOf(block.instructions.at(-1)!)

/** Makes the phis of a block take from `to` what they took from `from`. */
export function renameInPhis(block: Block, from: string, to: string): void {
  block.instructions = block.instructions.map(instruction =>
    / = phi /.test(instruction) ? instruction.replace(`, %${from} ]`, `, %${to} ]`) : instruction,
  )
}

/** Renames predecessor labels in the phis of `fn`: `rename` maps the old label to that of the block that now ends in the branch. */
export function renamePredecessors(fn: IrFunction, rename: ReadonlyMap<string, string>): void {
  for (const block of fn.blocks)
    for (const [i, instruction] of block.instructions.entries()) {
      if (!/^\s+%\S+ = phi /.test(instruction)) break
      block.instructions[i] = instruction.replace(
        /, %("[^"]+"|[-\w.$]+) \]/g,
        (_, label: string) => `, %${rename.get(label) ?? label} ]`,
      )
    }
}

/** Replaces whole local names in an instruction. */
export function replaceLocals(instruction: string, replace: (name: string) => string | undefined): string {
  return instruction.replace(LOCAL, name => replace(name) ?? name)
}

/** Where a `!dbg` location lies in the source, from the module's metadata. */
export class Locations {
  readonly #nodes = new Map<string, string>()

  constructor(module: Module) {
    for (const item of module.items) {
      if (typeof item !== 'string') continue
      for (const match of item.matchAll(
        /^(!\d+) = (?:distinct )?(!(?:DILocation|DISubprogram|DIFile|DILexicalBlock(?:File)?)\(.*\))$/gm,
      ))
        this.#nodes.set(match[1]!, match[2]!)
    }
  }

  /** `file.c:12` of an instruction or a definition, where known. */
  of(text: string): string | undefined {
    const node = this.#nodes.get(/!dbg (!\d+)/.exec(text)?.[1] ?? '')
    const line = node && /\bline: (\d+)/.exec(node)?.[1]
    if (node === undefined || line === undefined) return undefined
    const file = this.#file(node, 0)
    return file === undefined ? `line ${line}` : `${file}:${line}`
  }

  #file(node: string, depth: number): string | undefined {
    if (depth > 64) return undefined
    const file = /\bfile: (!\d+)/.exec(node)?.[1]
    if (file !== undefined) return /filename: "([^"]*)"/.exec(this.#nodes.get(file) ?? '')?.[1]
    const scope = this.#nodes.get(/\bscope: (!\d+)/.exec(node)?.[1] ?? '')
    return scope === undefined ? undefined : this.#file(scope, depth + 1)
  }
}
