/** What the method cannot carry to another ISA is refused before any code is made, with the function and the line. */
import { LossError } from '../lib/errors.js'
import { functionsOf, type IrFunction, type Locations, type Module, parseCall } from './ir.js'

interface Refusal {
  readonly what: string
  readonly hint: string
  /** Only in functions that may migrate; elsewhere the code stays on one machine while it runs. */
  readonly onlyMigratable: boolean
  test(instruction: string): boolean
}

const calls = (...names: string[]) => {
  const pattern = new RegExp(`call [^"]*@(${names.join('|')})\\(`)
  return (instruction: string) => instruction.includes('call ') && pattern.test(instruction)
}

const refusals: readonly Refusal[] = [
  {
    what: 'setjmp across a migration point',
    hint: 'a jmp_buf holds registers of one ISA; keep setjmp in functions that no poll is reached from',
    onlyMigratable: true,
    test: calls(
      'setjmp',
      '_setjmp',
      '__setjmp',
      'sigsetjmp',
      '__sigsetjmp',
      'getcontext',
      'swapcontext',
      'vfork',
    ),
  },
  {
    what: 'a call that must be a tail call (musttail)',
    hint: 'the caller’s frame has to stay while the callee may be moved; write a loop',
    onlyMigratable: true,
    test: instruction => /^\s+(?:%\S+ = )?musttail call /.test(instruction),
  },
  {
    what: 'inline assembler',
    hint: 'write it in C: the program is compiled for two ISAs',
    onlyMigratable: false,
    test: instruction => {
      if (!instruction.includes(' asm ')) return false
      const call = parseCall(instruction)
      return call?.assembler === true && !/ asm (?:sideeffect )?"",/.test(instruction)
    },
  },
  {
    what: 'long double',
    hint: 'it is 80 bits on x86-64 and 128 on aarch64; use double',
    onlyMigratable: false,
    test: instruction => /\bx86_fp80\b/.test(instruction),
  },
  {
    what: 'a system call by its number',
    hint: 'numbers differ between the ISAs; call the function of libc',
    onlyMigratable: false,
    test: calls('syscall'),
  },
  {
    what: 'the address of a frame or of the caller',
    hint: 'frames lie elsewhere on the other ISA',
    onlyMigratable: true,
    test: calls('llvm\\.frameaddress\\.p0', 'llvm\\.returnaddress', 'llvm\\.localescape'),
  },
]

/** @throws LossError for the first thing found, with how many more there are. */
export function refuseUnsupported(
  module: Module,
  migratable: ReadonlySet<string>,
  locations: Locations,
): void {
  const found: string[] = []
  let hint = ''
  const note = (fn: IrFunction, refusal: Refusal, where: string | undefined) => {
    found.push(`${where ?? '(no line known)'}: ${fn.name.replace('__imago_user_', '')}: ${refusal.what}`)
    if (found.length === 1) hint = refusal.hint
  }
  for (const fn of functionsOf(module)) {
    const applicable = refusals.filter(each => !each.onlyMigratable || migratable.has(fn.name))
    const headRefusal = applicable.find(each => each.what === 'long double' && each.test(fn.head))
    if (headRefusal) note(fn, headRefusal, locations.of(fn.head))
    for (const refusal of applicable) {
      const at = fn.blocks.flatMap(block => block.instructions).find(each => refusal.test(each))
      if (at !== undefined && refusal !== headRefusal)
        note(fn, refusal, locations.of(at) ?? locations.of(fn.head))
    }
  }
  for (const item of module.items)
    if (typeof item === 'string') {
      const alias = /^@(\S+) = (?:[\w()]+ )*(?:alias|ifunc) /m.exec(item)
      if (alias) found.push(`${alias[1]}: a symbol that is an alias of another`)
      for (const [, name] of item.matchAll(
        /^declare .*<2 x float>.*?@(?!llvm\.)([-\w.$]+)\(|^declare .*@(?!llvm\.)([-\w.$]+)\(.*<2 x float>/gm,
      ))
        found.push(
          `${name}: a function of libc that takes or gives a complex float (or a vector), which ISAs pass differently`,
        )
      if (/^module asm /m.test(item)) found.push('assembler at the top level of a file')
    }
  if (found.length > 0)
    throw new LossError(
      `cannot be made to migrate:\n  ${found.slice(0, 20).join('\n  ')}${found.length > 20 ? `\n  and ${found.length - 20} more` : ''}`,
      { hint },
    )
}
