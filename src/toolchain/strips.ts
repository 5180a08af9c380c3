/**
 * A counted loop that polls once in a strip of iterations, so that the iterations themselves are what they were, vectors
 * and all. The order of the iterations does not change, and so no result does (strip-mining).
 *
 *   before:                        strip:  limit = the bound, or so many iterations on, whichever comes first
 *   loop:                          loop:
 *     …                              …
 *     next = i + step                next = i + step
 *     goto loop if next < bound      goto loop if next < limit
 *                                  end:    leave unless next < bound      (the test as it was)
 *                                  again:  poll, goto strip
 *
 * For `<`, `<=`, `>` and `>=` any limit on this side of the bound is right. For `!=` the limit is the bound itself, or lies
 * so many whole steps ahead that the bound is not met before.
 */
import type { Flow } from './flow.js'
import { type Block, type IrFunction, parseCall } from './ir.js'

/** How long a strip may be: about so many instructions, tens of microseconds. */
const STRIP = 65536
/** Iterations in a strip of a loop around such loops: a millisecond or so. */
const OUTER = 64
/** What a call of unknown length counts for. */
const CALL = 64

const NAME = '%(?:"[^"]+"|[-\\w.$]+)'
const VALUE = `(?:${NAME}|-?\\d+)`
const BRANCH = new RegExp(`^  br i1 (${NAME}), label %("[^"]+"|[-\\w.$]+), label %("[^"]+"|[-\\w.$]+)`)
const COMPARE = new RegExp(`^  ${NAME} = icmp (\\w+) (i32|i64|ptr) (${VALUE}), (${VALUE})`)
const PHI = new RegExp(`^  (${NAME}) = phi (.+?) (\\[ .*\\])(.*)$`)

/** A loop with one way in, one header, one latch. */
interface CountedLoop {
  readonly header: Block
  readonly latch: Block
  readonly before: string
  readonly exit: string
  readonly type: 'i32' | 'i64' | 'ptr'
  /** The loop goes on while `next predicate bound`. */
  readonly predicate: string
  readonly counter: string
  readonly next: string
  readonly bound: string
  readonly start: string
  /** Added in each iteration; bytes for a pointer. */
  readonly step: number
  /** Instructions of an iteration, about. */
  readonly cost: number
  readonly calls: boolean
}

/** Whether the loop is short for certain and calls nothing: what is around it polls often enough. */
export function isBrief(fn: IrFunction, flow: Flow, latch: string, header: string): boolean {
  if (loopsIn(flow, latch, header).length > 0) return false
  const loop = countedLoop(fn, flow, latch, header)
  if (loop === undefined || loop.calls || !isNumber(loop.start) || !isNumber(loop.bound)) return false
  const iterations = (Number(loop.bound) - Number(loop.start)) / loop.step
  return iterations > 0 && iterations * loop.cost <= STRIP
}

/** Headers of the loops inside of a loop. */
export function loopsIn(flow: Flow, latch: string, header: string): string[] {
  const body = flow.loop(latch, header)
  return [...flow.latches].flatMap(([from, to]) =>
    body.has(from) ? [...to].filter(each => each !== header && body.has(each)) : [],
  )
}

/**
 * Makes strips of a counted loop; `isInnermost` when no loop in it polls. Returns the block in which to poll, and the label
 * of the strip's head; undefined when it is not such a loop.
 */
export function stripMine(
  fn: IrFunction,
  flow: Flow,
  latch: string,
  header: string,
  number: number,
  isInnermost: boolean,
): { again: Block; strip: string } | undefined {
  const loop = countedLoop(fn, flow, latch, header)
  if (loop === undefined) return undefined
  const iterations = isInnermost ? Math.max(16, 2 ** Math.floor(Math.log2(STRIP / loop.cost))) : OUTER
  if (iterations * Math.abs(loop.step) >= 2 ** 30) return undefined
  const block = (word: string): Block => ({ label: `imago.${word}.${number}`, instructions: [] })
  const [first, strip, end, again] = [block('first'), block('strip'), block('end'), block('again')]
  const limit = `%imago.limit.${number}`
  // Compared for equality, the counter is at the limit when a strip ends: it need not be kept for its own sake.
  const reached = loop.predicate === 'ne' ? limit : loop.next
  const branch = loop.latch.instructions.at(-1)!
  const [metadata, location] = [/, !llvm\.loop !\d+/, /, !dbg !\d+/].map(each => each.exec(branch)?.[0] ?? '')
  const before = flow.blocks.get(loop.before)!
  const goesOn = (name: string, counter: string, bound: string) =>
    `  ${name} = icmp ${loop.predicate} ${loop.type} ${counter}, ${bound}`

  before.instructions.splice(
    -1,
    1,
    ...shortTest(loop, iterations, limit),
    `  br i1 ${limit}.short, label %${strip.label}, label %${first.label}${location}`,
  )
  first.instructions.push(
    ...limitOf(loop, loop.start, iterations, `${limit}.first`),
    `  br label %${strip.label}${location}`,
  )
  strip.instructions.push(
    `  ${limit} = phi ${loop.type} [ ${loop.bound}, %${loop.before} ], [ ${limit}.first, %${first.label} ], [ ${limit}.next, %${again.label} ]`,
  )
  // All that the loop carries goes through the strip's head.
  for (const [i, instruction] of loop.header.instructions.entries()) {
    const phi = PHI.exec(instruction)
    if (phi === null) break
    const [, name, type, list, rest] = phi as unknown as [string, string, string, string, string]
    const carried = `%imago.carried.${number}.${i}`
    const [fromBefore, fromLatch] = [incoming(list, loop.before), incoming(list, latch)]
    const onwards = name === loop.counter ? reached : fromLatch
    strip.instructions.push(
      `  ${carried} = phi ${type} [ ${fromBefore}, %${loop.before} ], [ ${fromBefore}, %${first.label} ], [ ${onwards}, %${again.label} ]`,
    )
    loop.header.instructions[i] =
      `  ${name} = phi ${type} [ ${carried}, %${strip.label} ], [ ${fromLatch}, %${latch} ]${rest}`
  }
  strip.instructions.push(`  br label %${header}${location}`)
  loop.latch.instructions.splice(
    -1,
    1,
    goesOn(`%imago.more.${number}`, loop.next, limit),
    `  br i1 %imago.more.${number}, label %${header}, label %${end.label}${location}${metadata}`,
  )
  end.instructions.push(
    goesOn(`%imago.left.${number}`, reached, loop.bound),
    `  br i1 %imago.left.${number}, label %${again.label}, label %${loop.exit}${location}`,
  )
  again.instructions.push(
    ...limitOf(loop, reached, iterations, `${limit}.next`),
    `  br label %${strip.label}${location}`,
  )
  fn.blocks.splice(fn.blocks.indexOf(loop.header), 0, first, strip)
  fn.blocks.splice(fn.blocks.indexOf(loop.latch) + 1, 0, end, again)
  const exit = flow.blocks.get(loop.exit)!
  exit.instructions = exit.instructions.map(each =>
    PHI.test(each) ? each.replace(`, %${latch} ]`, `, %${end.label} ]`) : each,
  )
  return { again, strip: strip.label }
}

/** Declarations of what strips call. */
export const stripDeclarations = ['i32', 'i64'].flatMap(type =>
  ['umin', 'umax', 'smin', 'smax', 'sadd.sat', 'ssub.sat', 'uadd.sat', 'usub.sat'].map(
    name => `declare ${type} @llvm.${name}.${type}(${type}, ${type})`,
  ),
)

const isNumber = (value: string) => /^-?\d+$/.test(value)

function incoming(list: string, label: string): string {
  for (const match of list.matchAll(/\[ (.+?), %("[^"]+"|[-\w.$]+) \]/g))
    if (match[2] === label) return match[1]!
  throw new Error(`no value from ${label} in ${list}`)
}

/**
 * Whether the loop is seen to be one strip, from the number that it counts up to or down from. That number often is the
 * same each time the loop is entered: then the comparison moves out of the loops around.
 */
function shortTest(loop: CountedLoop, iterations: number, limit: string): string[] {
  const most = iterations * Math.abs(loop.step)
  if (loop.type !== 'ptr')
    return [`  ${limit}.short = icmp ule ${loop.type} ${loop.step > 0 ? loop.bound : loop.start}, ${most}`]
  const [high, low] = loop.step > 0 ? [loop.bound, loop.start] : [loop.start, loop.bound]
  return [
    `  ${limit}.high = ptrtoint ptr ${high} to i64`,
    `  ${limit}.low = ptrtoint ptr ${low} to i64`,
    `  ${limit}.way = sub i64 ${limit}.high, ${limit}.low`,
    `  ${limit}.short = icmp ule i64 ${limit}.way, ${most}`,
  ]
}

/** Instructions that make `name` the limit of the strip that begins after `first`. */
function limitOf(loop: CountedLoop, first: string, iterations: number, name: string): string[] {
  const { type, bound, step, predicate } = loop
  const integer = type === 'ptr' ? 'i64' : type
  const size = Math.abs(step)
  const up = step > 0
  if (predicate !== 'ne') {
    const call = (operation: string, a: string, b: string) =>
      `call ${type} @llvm.${predicate[0]}${operation}.${type}(${type} ${a}, ${type} ${b})`
    return [
      `  ${name}.ahead = ${call(up ? 'add.sat' : 'sub.sat', first, `${iterations * size}`)}`,
      `  ${name} = ${call(up ? 'min' : 'max', `${name}.ahead`, bound)}`,
    ]
  }
  const isPointer = type === 'ptr'
  const [from, to] = isPointer ? [`${name}.from`, `${name}.to`] : [first, bound]
  const [high, low] = up ? [to, from] : [from, to]
  return [
    ...(isPointer
      ? [`  ${from} = ptrtoint ptr ${first} to i64`, `  ${to} = ptrtoint ptr ${bound} to i64`]
      : []),
    `  ${name}.way = sub ${integer} ${high}, ${low}`,
    `  ${name}.less = sub ${integer} ${name}.way, ${size}`,
    `  ${name}.part = call ${integer} @llvm.umin.${integer}(${integer} ${name}.less, ${integer} ${(iterations - 1) * size})`,
    `  ${name}.ahead = add ${integer} ${name}.part, ${size}`,
    ...(isPointer
      ? [
          `  ${name}.move = ${up ? 'add' : 'sub'} i64 0, ${name}.ahead`,
          `  ${name} = getelementptr i8, ptr ${first}, i64 ${name}.move`,
        ]
      : [`  ${name} = ${up ? 'add' : 'sub'} ${type} ${first}, ${name}.ahead`]),
  ]
}

const INVERSE: Readonly<Record<string, string>> = {
  ...{ eq: 'ne', ne: 'eq', slt: 'sge', sge: 'slt', sle: 'sgt', sgt: 'sle' },
  ...{ ult: 'uge', uge: 'ult', ule: 'ugt', ugt: 'ule' },
}
const SWAPPED: Readonly<Record<string, string>> = {
  ...{ eq: 'eq', ne: 'ne', slt: 'sgt', sgt: 'slt', sle: 'sge', sge: 'sle' },
  ...{ ult: 'ugt', ugt: 'ult', ule: 'uge', uge: 'ule' },
}

function countedLoop(
  fn: IrFunction,
  flow: Flow,
  latchLabel: string,
  header: string,
): CountedLoop | undefined {
  const body = flow.loop(latchLabel, header)
  const entries = flow.predecessors.get(header)!.filter(each => !body.has(each))
  const isNatural = [...body].every(
    label => label === header || flow.predecessors.get(label)!.every(each => body.has(each)),
  )
  if (entries.length !== 1 || !isNatural || body.has(fn.blocks[0]!.label)) return undefined
  if (!/^ {2}br label /.test(flow.blocks.get(entries[0]!)!.instructions.at(-1)!)) return undefined
  const latch = flow.blocks.get(latchLabel)!
  const branch = BRANCH.exec(latch.instructions.at(-1)!)
  if (branch === null) return undefined
  const instructions = [...body].flatMap(label => flow.blocks.get(label)!.instructions)
  const definitions = new Map(
    instructions.flatMap(each => {
      const name = new RegExp(`^  (${NAME}) = `).exec(each)?.[1]
      return name === undefined ? [] : [[name, each] as const]
    }),
  )
  const compare = COMPARE.exec(definitions.get(branch[1]!) ?? '')
  const [exit, goesOnIfTrue] = branch[2] === header ? [branch[3]!, true] : [branch[2]!, false]
  if (compare === null || body.has(exit)) return undefined
  let [predicate, next, bound] = [compare[1]!, compare[3]!, compare[4]!]
  if (!definitions.has(next)) {
    ;[next, bound] = [bound, next]
    predicate = SWAPPED[predicate]!
  }
  if (!goesOnIfTrue) predicate = INVERSE[predicate]!
  if (!definitions.has(next) || definitions.has(bound)) return undefined
  const type = compare[2] as CountedLoop['type']
  const advance =
    type === 'ptr'
      ? new RegExp(`^  ${NAME} = getelementptr (?:[a-z]+ )*i8, ptr (${NAME}), i64 (-?\\d+)`)
      : new RegExp(`^  ${NAME} = add (?:[a-z]+ )*${type} (${NAME}), (-?\\d+)`)
  const made = advance.exec(definitions.get(next)!)
  const phi = PHI.exec(definitions.get(made?.[1] ?? '') ?? '')
  if (made === null || phi === null || !flow.blocks.get(header)!.instructions.includes(phi[0]))
    return undefined
  const step = Number(made[2])
  if (incoming(phi[3]!, latchLabel) !== next || !Number.isSafeInteger(step)) return undefined
  const towards = step > 0 ? ['ne', 'slt', 'sle', 'ult', 'ule'] : ['ne', 'sgt', 'sge', 'ugt', 'uge']
  if (step === 0 || !towards.includes(predicate) || (type === 'ptr' && predicate !== 'ne')) return undefined
  return {
    header: flow.blocks.get(header)!,
    latch,
    before: entries[0]!,
    exit,
    type,
    predicate,
    counter: made[1]!,
    next,
    bound,
    start: incoming(phi[3]!, entries[0]!),
    step,
    cost: instructions.reduce((sum, each) => sum + (isCall(each) ? CALL : 1), 0),
    calls: instructions.some(isCall),
  }
}

function isCall(instruction: string): boolean {
  if (!instruction.includes('call ')) return false
  const callee = parseCall(instruction)?.callee
  return callee === undefined || !callee.startsWith('@llvm.') || callee.startsWith('@llvm.mem')
}
