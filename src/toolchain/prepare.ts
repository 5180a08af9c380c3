/**
 * Before `opt -passes=reg2mem`: gives the module one meaning on both ISAs, and the migratable functions the form in
 * which every value that lives across a site is a stack slot of its own once reg2mem has run.
 */
import { byval, parseArgument } from './arguments.js'
import { closing, functionsOf, type IrFunction, type Module, parametersOf, renamePredecessors } from './ir.js'

/** What would be false of a function that may leave for another machine, or ties the code to one ISA. */
const ATTRIBUTES_TO_DROP =
  /"(?:target-cpu|target-features|tune-cpu|min-legal-vector-width|frame-pointer|stack-protector-buffer-size|probe-stack)"="[^"]*"|\bmemory\([^)]*\)|\b(?:nosync|nofree|willreturn|norecurse|speculatable|mustprogress|uwtable(?:\(\w+\))?)(?=\s)/g

/** Text that is the same for every front end and both back ends. Works on the module's text, before it is parsed. */
export function neutralize(text: string): string {
  return text
    .replace(/^target triple.*\n/m, '')
    .replace(/^(attributes #\d+ = \{)(.*)$/gm, (_, start: string, rest: string) =>
      `${start} nounwind "frame-pointer"="all" ${rest.replace(ATTRIBUTES_TO_DROP, '')}`.replace(
        /nounwind (.*)\bnounwind\b/,
        'nounwind $1',
      ),
    )
    .replace(/^(@\S+ = )private (?:unnamed_addr )?/gm, '$1internal ')
    .replace(
      /^(@\S+ = (?:internal |dso_local |weak |weak_odr |linkonce_odr )*)(?:local_)?unnamed_addr /gm,
      '$1',
    )
    .replace(
      / asm sideeffect "", "([^"]*)"/g,
      (_, constraints: string) =>
        ` asm sideeffect "", "${constraints
          .split(',')
          .filter(each => !/^~\{(dirflag|fpsr|flags)\}$/.test(each))
          .join(',')}"`,
    )
}

/** Removes `sret(type)`: on aarch64 it would mean another register, and a pointer is what it is on x86-64. */
export function dropStructReturn(text: string): string {
  const at = text.indexOf(' sret(')
  if (at < 0) return text
  const end = closing(text, at + 5) + 1
  return dropStructReturn(text.slice(0, at) + text.slice(end))
}

/** In place. @param isSite whether an instruction is a call at which the function may be left. */
export function prepare(
  module: Module,
  migratable: ReadonlySet<string>,
  isSite: (instruction: string) => boolean,
): void {
  let counter = 0
  for (const fn of functionsOf(module)) {
    fn.head = dropStructReturn(fn.head)
    for (const block of fn.blocks) block.instructions = block.instructions.map(dropStructReturn)
    if (!migratable.has(fn.name)) continue
    copyParameters(fn)
    counter = splitAfterSites(fn, isSite, counter)
  }
  for (const [i, item] of module.items.entries())
    if (typeof item === 'string' && item.includes(' sret('))
      module.items[i] = item.split('\n').map(dropStructReturn).join('\n')
}

/** A new entry block takes each parameter over into a value (`freeze`), or into a local for a structure by value. */
function copyParameters(fn: IrFunction): void {
  const { start, end, list } = parametersOf(fn.head, fn.name)
  const allocas: string[] = []
  const copies: string[] = []
  const parameters = list.map(text => {
    const parameter = parseArgument(text)
    if (!parameter.value.startsWith('%')) return text
    const incoming = parameter.value.replace(/"?$/, quote => `.in${quote}`)
    const structure = byval(parameter)
    if (structure) {
      allocas.push(`  ${parameter.value} = alloca ${structure.type}, align ${structure.align}`)
      const size = `ptrtoint (ptr getelementptr (${structure.type}, ptr null, i32 1) to i64)`
      copies.push(
        `  call void @llvm.memcpy.p0.p0.i64(ptr ${parameter.value}, ptr ${incoming}, i64 ${size}, i1 false)`,
      )
    } else copies.push(`  ${parameter.value} = freeze ${parameter.type} ${incoming}`)
    return `${parameter.type} ${parameter.attributes}${incoming}`
  })
  fn.head = `${fn.head.slice(0, start)}${parameters.join(', ')}${fn.head.slice(end)}`
  const entry = fn.blocks[0]!
  const isStaticAlloca = (each: string) => / = alloca /.test(each) && !/, i(32|64) %/.test(each)
  allocas.push(...entry.instructions.filter(isStaticAlloca))
  entry.instructions = entry.instructions.filter(each => !isStaticAlloca(each))
  fn.blocks.unshift({
    label: 'imago.entry',
    instructions: [...allocas, ...copies, `  br label %${entry.label}`],
  })
}

function splitAfterSites(fn: IrFunction, isSite: (instruction: string) => boolean, first: number): number {
  const blocks: IrFunction['blocks'] = []
  const rename = new Map<string, string>()
  let n = first
  for (const original of fn.blocks) {
    let current = { label: original.label, instructions: [] as string[] }
    blocks.push(current)
    for (const instruction of original.instructions) {
      if (!isSite(instruction)) {
        current.instructions.push(instruction)
        continue
      }
      const next = `imago.after.${n++}`
      current.instructions.push(
        instruction.replace(/^(\s+(?:%\S+ = )?)(?:tail |musttail |notail )?call /, '$1notail call '),
        `  br label %${next}`,
      )
      current = { label: next, instructions: [] }
      blocks.push(current)
      rename.set(original.label, next)
    }
  }
  fn.blocks = blocks
  renamePredecessors(fn, rename)
  return n
}
