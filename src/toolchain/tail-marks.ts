/**
 * A call marked `tail` promises that nobody it reaches looks at the caller's locals, and the optimizer drops stores to
 * locals on the strength of it. The marks are those of the front end; the passes here make locals that it knew nothing of
 * (the area of variable arguments, a structure by value). So in a function with locals no call keeps the mark.
 *
 *   %area = alloca { i64 }                          %area = alloca { i64 }
 *   tail call void @f(ptr %area)            →       call void @f(ptr %area)
 *
 * After the last pass that makes locals, before the next optimization. `musttail`, which programs ask for, `unsupported.ts`
 * refuses where it would be lost. Source of the fact: LLVM Language Reference, `call`.
 */
import { functionsOf, type IrFunction, type Module } from './ir.js'

const hasLocals = (fn: IrFunction) =>
  fn.head.includes(' byval(') ||
  fn.blocks.some(block => block.instructions.some(each => / = alloca /.test(each)))

/** In place. */
export function dropTailMarks(module: Module): void {
  for (const fn of functionsOf(module))
    if (hasLocals(fn))
      for (const block of fn.blocks)
        block.instructions = block.instructions.map(each =>
          each.replace(/^(\s+(?:%\S+ = )?)tail call /, '$1call '),
        )
}
