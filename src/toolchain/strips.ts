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
import { type CountedLoop, incoming, iterationsInStrip, PHI, shortTest } from './counted-loops.js'
import type { Flow } from './flow.js'
import { type Block, type IrFunction, renameInPhis } from './ir.js'

/** Iterations in a strip of a loop around such loops: a millisecond or so. */
const OUTER = 64

/**
 * Makes strips of a loop; `isInnermost` when no loop in it polls. Returns the block in which to poll, and the label of the
 * strip's head; undefined when a strip would be longer than its counter can count.
 */
export function stripMine(
  fn: IrFunction,
  flow: Flow,
  loop: CountedLoop,
  number: number,
  isInnermost: boolean,
): { again: Block; strip: string } | undefined {
  const iterations = isInnermost ? iterationsInStrip(loop) : OUTER
  if (iterations * Math.abs(loop.step) >= 2 ** 30) return undefined
  const block = (word: string): Block => ({ label: `imago.${word}.${number}`, instructions: [] })
  const [first, strip, end, again] = [block('first'), block('strip'), block('end'), block('again')]
  const limit = `%imago.limit.${number}`
  // Compared for equality, the counter is at the limit when a strip ends: it need not be kept for its own sake.
  const reached = loop.predicate === 'ne' ? limit : loop.next
  const location = partOf(loop.latch.instructions.at(-1)!, /, !dbg !\d+/)
  const strips: Strips = { loop, number, iterations, first, strip, end, again, limit, reached, location }

  enterFirstStrip(strips, flow.blocks.get(loop.before)!)
  carryThroughHead(strips)
  endAtLimit(strips)
  goOnBehindLimit(strips)
  fn.blocks.splice(fn.blocks.indexOf(loop.header), 0, first, strip)
  fn.blocks.splice(fn.blocks.indexOf(loop.latch) + 1, 0, end, again)
  renameInPhis(flow.blocks.get(loop.exit)!, loop.latch.label, end.label)
  return { again, strip: strip.label }
}

/** What is made of a loop: the blocks of the drawing above (`first` finds the first limit), and the words in them. */
interface Strips {
  readonly loop: CountedLoop
  readonly number: number
  /** In one strip. */
  readonly iterations: number
  readonly first: Block
  readonly strip: Block
  readonly end: Block
  readonly again: Block
  readonly limit: string
  /** The counter when a strip has ended. */
  readonly reached: string
  /** Of the loop's own branch, for all that is made here. */
  readonly location: string
}

/** A loop that is shorter than a strip has its bound as the limit, and does not ask for another. */
function enterFirstStrip({ loop, iterations, first, strip, limit, location }: Strips, before: Block): void {
  before.instructions.splice(
    -1,
    1,
    ...shortTest(loop, loop.start, iterations, `${limit}.short`),
    `  br i1 ${limit}.short, label %${strip.label}, label %${first.label}${location}`,
  )
  first.instructions.push(
    ...limitOf(loop, loop.start, iterations, `${limit}.first`),
    `  br label %${strip.label}${location}`,
  )
}

/** The strip's head: all that the loop carries goes through it, and the limit. */
function carryThroughHead({ loop, number, first, strip, again, limit, reached, location }: Strips): void {
  const latch = loop.latch.label
  strip.instructions.push(
    `  ${limit} = phi ${loop.type} [ ${loop.bound}, %${loop.before} ], [ ${limit}.first, %${first.label} ], [ ${limit}.next, %${again.label} ]`,
  )
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
  strip.instructions.push(`  br label %${loop.header.label}${location}`)
}

/** The loop's own branch, with its metadata, tests the limit in place of the bound. */
function endAtLimit({ loop, number, end, limit, location }: Strips): void {
  const metadata = partOf(loop.latch.instructions.at(-1)!, /, !llvm\.loop !\d+/)
  const more = `%imago.more.${number}`
  loop.latch.instructions.splice(
    -1,
    1,
    goesOn(loop, more, loop.next, limit),
    `  br i1 ${more}, label %${loop.header.label}, label %${end.label}${location}${metadata}`,
  )
}

/** At the limit: the test as it was, and the limit of the next strip. */
function goOnBehindLimit({
  loop,
  number,
  iterations,
  strip,
  end,
  again,
  limit,
  reached,
  location,
}: Strips): void {
  const left = `%imago.left.${number}`
  end.instructions.push(
    goesOn(loop, left, reached, loop.bound),
    `  br i1 ${left}, label %${again.label}, label %${loop.exit}${location}`,
  )
  again.instructions.push(
    ...limitOf(loop, reached, iterations, `${limit}.next`),
    `  br label %${strip.label}${location}`,
  )
}

const goesOn = ({ predicate, type }: CountedLoop, name: string, counter: string, bound: string) =>
  `  ${name} = icmp ${predicate} ${type} ${counter}, ${bound}`

const partOf = (instruction: string, pattern: RegExp) => pattern.exec(instruction)?.[0] ?? ''

/** Declarations of what strips call. */
export const stripDeclarations = ['i32', 'i64'].flatMap(type =>
  ['umin', 'umax', 'smin', 'smax', 'sadd.sat', 'ssub.sat', 'uadd.sat', 'usub.sat'].map(
    name => `declare ${type} @llvm.${name}.${type}(${type}, ${type})`,
  ),
)

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
