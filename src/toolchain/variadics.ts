/**
 * Variadic functions of the program, made the same on both ISAs: the caller lays the variable arguments out in memory,
 * each at a multiple of 8 (16 where its type asks for it), and passes their address as one more parameter. That is the
 * overflow area of an x86-64 `va_list` (System V ABI, 3.5.7), so code the x86-64 front end made for `va_arg` reads it,
 * once `gp_offset` and `fp_offset` say that no registers are left:
 *
 *   va_list { u32 gp_offset = 48, u32 fp_offset = 304, ptr overflow = arguments, ptr registers = null }
 *
 * The v*printf and v*scanf of libc expect the ISA's own va_list: the runtime's `__imago_v…` translate.
 */
import { byval, parseArgument } from './arguments.js'
import { functionsOf, type IrFunction, type Module, parametersOf, parseCall } from './ir.js'

/** libc functions that take a va_list; the runtime has `__imago_` + name for each. */
const vaListFunctions = [
  ...['vprintf', 'vfprintf', 'vsprintf', 'vsnprintf', 'vdprintf', 'vasprintf'],
  ...['vscanf', 'vfscanf', 'vsscanf'],
  ...['vsyslog', 'vwarn', 'vwarnx', 'verr', 'verrx'],
]

const PARAMETER = '%imago.variadic'
const isVariadic = (fn: IrFunction) => /\.\.\.$/.test(parametersOf(fn.head, fn.name).list.join())

/** Rewrites definitions and calls in place. Returns the names of the functions it lowered. */
export function lowerVariadics(module: Module): Set<string> {
  const functions = functionsOf(module)
  const lowered = new Set(functions.filter(isVariadic).map(fn => fn.name))
  for (const fn of functions) {
    if (lowered.has(fn.name)) {
      const { start, end, list } = parametersOf(fn.head, fn.name)
      fn.head = `${fn.head.slice(0, start)}${[...list.slice(0, -1), `ptr ${PARAMETER}`].join(', ')}${fn.head.slice(end)}`
    }
    lowerBody(fn, lowered)
  }
  const shims = new RegExp(`@(${vaListFunctions.join('|')})\\b`, 'g')
  for (const fn of functions)
    for (const block of fn.blocks)
      block.instructions = block.instructions.map(each => each.replace(shims, '@__imago_$1'))
  for (const [i, item] of module.items.entries())
    if (typeof item === 'string') module.items[i] = item.replace(shims, '@__imago_$1')
  return lowered
}

function lowerBody(fn: IrFunction, lowered: ReadonlySet<string>): void {
  const areas: string[] = []
  let counter = 0
  for (const block of fn.blocks) {
    const out: string[] = []
    for (const instruction of block.instructions) {
      const list = /@llvm\.va_(start|end|copy)(?:\.\w+)?\((.*?)\)/.exec(instruction)
      if (list) {
        const pointers = list[2]!.split(', ').map(each => parseArgument(each).value)
        if (list[1] === 'start') out.push(...start(pointers[0]!, counter++))
        else if (list[1] === 'copy')
          out.push(
            `  call void @llvm.memcpy.p0.p0.i64(ptr ${pointers[0]}, ptr ${pointers[1]}, i64 24, i1 false)`,
          )
        continue
      }
      const call = instruction.includes('...)') ? parseCall(instruction) : undefined
      // A call through a pointer is taken for one of the program's own: libc's variadic functions are called by name.
      if (call?.callee === undefined || !(call.callee[0] === '%' || lowered.has(call.callee.slice(1)))) {
        out.push(instruction)
        continue
      }
      const fixed = /\(([^()]*(?:\([^()]*\)[^()]*)*)\.\.\.\) *$/.exec(call.before)![1]!
      const count = fixed.split(',').filter(each => each.trim() !== '').length
      if (call.callee[0] === '%' && count === 0) {
        out.push(instruction) // `int (*f)()`: a call without a prototype, not of a variadic function
        continue
      }
      const area = `%imago.va${counter++}`
      const { type, stores } = layOut(call.args.slice(count), area)
      areas.push(`  ${area} = alloca ${type}, align 16`)
      const before = call.before.replace(/\.\.\.\) *$/, 'ptr) ')
      const args = [...call.args.slice(0, count), `ptr ${area}`]
      out.push(...stores, `${before}${call.callee}(${args.join(', ')}${call.after}`)
    }
    block.instructions = out
  }
  fn.blocks[0]!.instructions.unshift(...areas)
}

function start(list: string, n: number): string[] {
  const store = (offset: number, type: string, value: string) => [
    `  %imago.vs${n}.${offset} = getelementptr i8, ptr ${list}, i64 ${offset}`,
    `  store ${type} ${value}, ptr %imago.vs${n}.${offset}`,
  ]
  return [
    ...store(0, 'i32', '48'),
    ...store(4, 'i32', '304'),
    ...store(8, 'ptr', PARAMETER),
    ...store(16, 'ptr', 'null'),
  ]
}

/** A structure in which every argument begins at a multiple of 8, and the instructions that fill it. */
function layOut(args: readonly string[], area: string): { type: string; stores: string[] } {
  const fields = args.map(parseArgument)
  const type = `{ ${fields
    .map(each => {
      const copied = byval(each)
      const strict = (copied?.align ?? 0) >= 16
      return `[0 x ${strict ? 'i128' : 'i64'}], ${copied?.type ?? each.type}`
    })
    .concat('[0 x i64]')
    .join(', ')} }`
  const stores = fields.flatMap((each, i) => {
    const at = `${area}.${i}`
    const copied = byval(each)
    const place = `  ${at} = getelementptr inbounds ${type}, ptr ${area}, i32 0, i32 ${2 * i + 1}`
    if (copied === undefined) return [place, `  store ${each.type} ${each.value}, ptr ${at}`]
    const size = `ptrtoint (ptr getelementptr (${copied.type}, ptr null, i32 1) to i64)`
    return [place, `  call void @llvm.memcpy.p0.p0.i64(ptr ${at}, ptr ${each.value}, i64 ${size}, i1 false)`]
  })
  return { type, stores }
}
