/**
 * Loops that count: one way in, one header, one latch, and a branch in the latch that compares a counter with a bound.
 *
 *   header:  i = phi [ start, before ], [ next, latch ]
 *            …
 *   latch:   next = i + step
 *            goto header if next < bound, else exit       (or <=, !=, >, >=; signed, unsigned, or pointers for !=)
 */
import type { Flow } from './flow.js'
import { type Block, parseCall } from './ir.js'

/** How long a program may run without a poll: about so many instructions, tens of microseconds. */
const STRIP = 65536
/** What a call of unknown length counts for. */
const CALL = 64

/** A local value, as the source of a pattern. */
const NAME = '%(?:"[^"]+"|[-\\w.$]+)'
const VALUE = `(?:${NAME}|-?\\d+)`
const BRANCH = new RegExp(`^  br i1 (${NAME}), label %("[^"]+"|[-\\w.$]+), label %("[^"]+"|[-\\w.$]+)`)
const COMPARE = new RegExp(`^  ${NAME} = icmp (\\w+) (i32|i64|ptr) (${VALUE}), (${VALUE})`)
export const PHI = new RegExp(`^  (${NAME}) = phi (.+?) (\\[ .*\\])(.*)$`)

/** A loop with one way in, one header, one latch. */
export interface CountedLoop {
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

/** Whether the loop is short and calls nothing, so that what is around it polls often enough; undefined when unsure. */
export function isBrief(loop: CountedLoop): boolean | undefined {
  if (loop.calls) return false
  if (!isNumber(loop.start) || !isNumber(loop.bound)) return undefined
  const iterations = (Number(loop.bound) - Number(loop.start)) / loop.step
  return iterations > 0 && iterations * loop.cost <= STRIP
}

/** So many iterations of an innermost loop may go by without a poll. */
export const iterationsInStrip = (loop: CountedLoop): number =>
  Math.max(16, 2 ** Math.floor(Math.log2(STRIP / loop.cost)))

/** Headers of the loops inside of a loop. */
export function loopsIn(flow: Flow, latch: string, header: string): string[] {
  const body = flow.loop(latch, header)
  return [...flow.latches].flatMap(([from, to]) =>
    body.has(from) ? [...to].filter(each => each !== header && body.has(each)) : [],
  )
}

/**
 * Instructions that make `name` tell whether the loop has at most so many iterations when it begins at `start`. Where its
 * bounds stay the same, the comparison moves out of the loops around.
 */
export function shortTest(loop: CountedLoop, start: string, iterations: number, name: string): string[] {
  const [high, low] = loop.step > 0 ? [loop.bound, start] : [start, loop.bound]
  const most = iterations * Math.abs(loop.step)
  if (loop.type !== 'ptr')
    return [
      `  ${name}.way = sub ${loop.type} ${high}, ${low}`,
      `  ${name} = icmp ule ${loop.type} ${name}.way, ${most}`,
    ]
  return [
    `  ${name}.high = ptrtoint ptr ${high} to i64`,
    `  ${name}.low = ptrtoint ptr ${low} to i64`,
    `  ${name}.way = sub i64 ${name}.high, ${name}.low`,
    `  ${name} = icmp ule i64 ${name}.way, ${most}`,
  ]
}

const isNumber = (value: string) => /^-?\d+$/.test(value)

/** `[ value, %label ]` in the list of a phi. */
export const INCOMING = /\[ (.+?), %("[^"]+"|[-\w.$]+) \]/g

/** What a phi takes when it is reached from `label`. */
export function incoming(list: string, label: string): string {
  for (const match of list.matchAll(INCOMING)) if (match[2] === label) return match[1]!
  throw new Error(`no value from ${label} in ${list}`)
}

const INVERSE: Readonly<Record<string, string>> = {
  ...{ eq: 'ne', ne: 'eq', slt: 'sge', sge: 'slt', sle: 'sgt', sgt: 'sle' },
  ...{ ult: 'uge', uge: 'ult', ule: 'ugt', ugt: 'ule' },
}
const SWAPPED: Readonly<Record<string, string>> = {
  ...{ eq: 'eq', ne: 'ne', slt: 'sgt', sgt: 'slt', sle: 'sge', sge: 'sle' },
  ...{ ult: 'ugt', ugt: 'ult', ule: 'uge', uge: 'ule' },
}

/** Undefined when the loop that `latchLabel` closes is none of these. */
export function countedLoop(flow: Flow, latchLabel: string, header: string): CountedLoop | undefined {
  const body = flow.loop(latchLabel, header)
  const before = flow.preheader(header, body)
  if (before === undefined) return undefined
  const latch = flow.blocks.get(latchLabel)!
  const branch = BRANCH.exec(latch.instructions.at(-1)!)
  if (branch === null) return undefined
  const blocks = [...body].map(label => flow.blocks.get(label)!)
  const instructions = blocks.flatMap(block => block.instructions)
  const definitions = definitionsOf(blocks)
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
    before: before.label,
    exit,
    type,
    predicate,
    counter: made[1]!,
    next,
    bound,
    start: incoming(phi[3]!, before.label),
    step,
    cost: instructions.reduce((sum, each) => sum + (isCall(each) ? CALL : 1), 0),
    calls: instructions.some(isCall),
  }
}

/** Each value that the blocks make, with its instruction. */
export function definitionsOf(blocks: readonly Block[]): Map<string, string> {
  const pattern = new RegExp(`^  (${NAME}) = `)
  return new Map(
    blocks.flatMap(block =>
      block.instructions.flatMap(each => {
        const name = pattern.exec(each)?.[1]
        return name === undefined ? [] : [[name, each] as const]
      }),
    ),
  )
}

function isCall(instruction: string): boolean {
  if (!instruction.includes('call ')) return false
  const callee = parseCall(instruction)?.callee
  return callee === undefined || !callee.startsWith('@llvm.') || callee.startsWith('@llvm.mem')
}
