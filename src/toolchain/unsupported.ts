/** What the method cannot carry to another ISA is refused before any code is made, with the function and the line. */
import { LossError } from '../lib/errors.js'
import { functionsOf, type Locations, type Module, parseCall } from './ir.js'

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

const ASSEMBLER_HINT =
  'the program is compiled for two ISAs: write it in C (-U__x86_64__ may choose portable code that is there already)'

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
    hint: ASSEMBLER_HINT,
    onlyMigratable: false,
    test: instruction => {
      if (!instruction.includes(' asm ')) return false
      const call = parseCall(instruction)
      return call?.assembler === true && !/ asm (?:sideeffect )?"",/.test(instruction)
    },
  },
  {
    what: 'an instruction of x86-64 by its intrinsic',
    hint: ASSEMBLER_HINT,
    onlyMigratable: false,
    test: instruction => instruction.includes('@llvm.x86.'),
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
    what: 'a function of libc whose structure differs between the ISAs',
    hint: 'for epoll_pwait there is epoll_wait, for fegetexceptflag fetestexcept',
    onlyMigratable: false,
    test: calls('epoll_pwait', 'fegetexceptflag', 'fesetexceptflag'),
  },
  {
    what: 'the address of a frame or of the caller',
    hint: 'frames lie elsewhere on the other ISA',
    onlyMigratable: true,
    test: calls('llvm\\.frameaddress\\.p0', 'llvm\\.returnaddress', 'llvm\\.localescape'),
  },
]

/** What is found in the module, not in a function. */
const moduleRefusals: ReadonlyArray<{
  readonly what: string
  readonly hint: string
  readonly pattern: RegExp
}> = [
  {
    what: 'a symbol that is an alias of another',
    hint: 'give the function one name, or let one function call the other',
    pattern: /^@(?<name>\S+) = (?:[\w()]+ )*(?:alias|ifunc) /gm,
  },
  {
    what: 'a function of libc that takes or gives a complex float (or a vector), which ISAs pass differently',
    hint: 'use the one for double _Complex',
    pattern: /^declare (?=.*<2 x float>).*@(?!llvm\.)(?<name>[-\w.$]+)\(/gm,
  },
  {
    what: 'assembler at the top level of a file',
    hint: ASSEMBLER_HINT,
    pattern: /^module asm /m,
  },
]

/** @throws LossError for all that is found, with where it is. */
export function refuseUnsupported(
  module: Module,
  migratable: ReadonlySet<string>,
  locations: Locations,
): void {
  const found: string[] = []
  const hints = new Set<string>()
  const note = (where: string | undefined, name: string | undefined, what: string, hint: string) => {
    found.push(
      [where, name?.replace('__imago_user_', ''), what].filter(each => each !== undefined).join(': '),
    )
    hints.add(hint)
  }
  const functions = functionsOf(module)
  for (const fn of functions) {
    const applicable = refusals.filter(each => !each.onlyMigratable || migratable.has(fn.name))
    const instructions = fn.blocks.flatMap(block => block.instructions)
    for (const { what, hint, test } of applicable) {
      const at = instructions.find(test)
      if (at !== undefined || test(fn.head))
        note(locations.of(at ?? '') ?? locations.of(fn.head) ?? '(no line known)', fn.name, what, hint)
    }
  }
  for (const item of module.items.filter(each => typeof each === 'string'))
    for (const { what, hint, pattern } of moduleRefusals)
      for (const match of item.matchAll(new RegExp(pattern, 'gm'))) {
        const name = match.groups?.name
        const user = functions.flatMap(fn =>
          fn.blocks.flatMap(block => block.instructions.filter(each => each.includes(`@${name}(`))),
        )[0]
        note(locations.of(user ?? ''), name, what, hint)
      }
  if (found.length > 0)
    throw new LossError(
      `cannot be made to migrate:\n  ${found.slice(0, 20).join('\n  ')}${found.length > 20 ? `\n  and ${found.length - 20} more` : ''}`,
      { hint: [...hints].slice(0, 3).join('\n            ') },
    )
}
