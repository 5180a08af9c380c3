/**
 * Thread-local variables of the program. Real thread-local storage lies below the thread record on x86-64 and above it on
 * aarch64, so that a variable would change its address on the way, and pointers to it would be wrong. Here they are ordinary
 * variables of a section that is the pattern for a block of each thread (native/runtime/start.c), which stays where it is:
 *
 *   section   __imago_storage_start │ x │ y │ … │ __imago_storage_end        never written to
 *   thread    shadow base ─────────►│ x │ y │ … │                            __imago_storage = shadow base - start
 *
 * The address of x is __imago_storage + &x, everywhere, for as long as the thread lives.
 */
import { functionsOf, type Module } from './ir.js'

const SECTION = 'section ".data.imago.storage"'
const DEFINITION =
  /^(@\S+ = )((?:(?!thread_local)\S+ )*)thread_local(?:\([a-z]+\))? (?:(?:local_)?unnamed_addr )?(?:global|constant) (.*)$/gm
const ADDRESS =
  /^ {2}(%\S+) = .*call .*@llvm\.threadlocal\.address\.p0\(ptr (?:[a-z]+ \d+ )*(@[-\w.$]+|@"[^"]*")\)/

const START = `@__imago_storage_start = global [0 x i8] zeroinitializer, ${SECTION}, align 1`
const END = `@__imago_storage_end = global [0 x i8] zeroinitializer, ${SECTION}, align 1`
/** Of the runtime. It does not change while the thread lives, wherever that is. */
const BASE = '@__imago_storage'
const CONSTANT = '!999998'

/** In place. Variables that the program only declares are left to the linker. */
export function lowerThreadLocals(module: Module): void {
  const lowered = new Set<string>()
  for (const [i, item] of module.items.entries()) {
    if (typeof item !== 'string') continue
    module.items[i] = item.replace(DEFINITION, (line, name: string, linkage: string, rest: string) => {
      if (/\bexternal\b/.test(linkage)) return line
      const first = lowered.size === 0 ? `${START}\n` : ''
      lowered.add(name.slice(0, -3))
      return `${first}${name}${linkage}global ${rest}, ${SECTION}`
    })
  }
  module.items.push(
    ...(lowered.size === 0 ? [START] : []),
    END,
    `${BASE} = external dso_local thread_local(localexec) global i64`,
    `${CONSTANT} = !{}`,
  )
  for (const fn of functionsOf(module))
    for (const block of fn.blocks)
      block.instructions = block.instructions.flatMap(instruction => {
        const [, result, variable] = ADDRESS.exec(instruction) ?? []
        if (result === undefined || !lowered.has(variable!)) return [instruction]
        return [
          `  ${result}.imago.base = load i64, ptr ${BASE}, !invariant.load ${CONSTANT}`,
          `  ${result}.imago.sum = add i64 ${result}.imago.base, ptrtoint (ptr ${variable} to i64)`,
          `  ${result} = inttoptr i64 ${result}.imago.sum to ptr`,
        ]
      })
}
