/**
 * Where a running program looks whether somebody wants to move it. A poll is a load and a branch that is never taken:
 *
 *   if (__imago_request != 0) __imago_park();
 *
 * The call lies in a block of its own, marked as cold: the shadow-frame pass saves the live values there, off the
 * path that runs.
 */

import { UsageError } from '../lib/errors.js'
import { type CallGraph, PARK } from './call-graph.js'
import { countedLoop, isBrief, loopsIn } from './counted-loops.js'
import { Flow } from './flow.js'
import {
  type Block,
  declare,
  functionsOf,
  type IrFunction,
  type Module,
  parseCall,
  renamePredecessors,
} from './ir.js'
import { versionShortNests } from './short-nests.js'
import { stripDeclarations, stripMine } from './strips.js'

/** The word that polls test. */
const REQUEST = '__imago_request'
const COLD = 'imago.park.'
export const isCold = (label: string) => label.startsWith(COLD)
const WEIGHTS = '!999999'

/** What `--migrate-at` says. */
export interface PollPolicy {
  /** `all`, or only functions that may call themselves again. */
  readonly entries: 'all' | 'recursive' | 'none'
  readonly loops: boolean
  /** Functions that poll at their entry and in their loops, whatever the rest says. */
  readonly functions: ReadonlySet<string>
}

/** The default: every cycle of the program, through loops or through recursion, holds a poll. */
export const everyCycle: PollPolicy = { entries: 'recursive', loops: true, functions: new Set() }

/** @param words `entries`, `loops`, `explicit` or names of functions. */
export function parsePolicy(words: readonly string[]): PollPolicy {
  if (words.length === 0) return everyCycle
  const known = new Set(['entries', 'loops', 'explicit'])
  if (words.includes('explicit') && words.length > 1)
    throw new UsageError('--migrate-at explicit stands alone: the program itself calls imago_migrate()')
  return {
    entries: words.includes('entries') ? 'all' : 'none',
    loops: words.includes('loops'),
    functions: new Set(words.filter(word => !known.has(word))),
  }
}

/** Adds polls in place. @throws UsageError when the policy names a function the program does not have. */
export function insertPolls(module: Module, graph: CallGraph, policy: PollPolicy): number {
  const functions = functionsOf(module)
  const names = new Set(functions.map(fn => fn.name))
  const missing = [...policy.functions].filter(name => !names.has(name) && !names.has(`__imago_user_${name}`))
  if (missing.length > 0)
    throw new UsageError(`--migrate-at names ${missing.join(', ')}, which the program does not define`)
  let [count, strips] = [0, 0]
  for (const fn of functions) {
    if (fn.name.startsWith('__imago_runtime_')) continue
    const named = policy.functions.has(fn.name.replace(/^__imago_user_/, ''))
    const places = new Map<Block, number>()
    if (named || policy.entries === 'all') places.set(fn.blocks[0]!, afterAllocas(fn.blocks[0]!))
    else if (policy.entries === 'recursive') recursivePlaces(fn, graph, places)
    if (named || policy.loops) strips += loopPlaces(fn, places, strips)
    if (places.size > 0) count += split(fn, places, count)
  }
  if (count > 0) {
    declare(
      module,
      `declare void @${PARK}()`,
      `@${REQUEST} = external dso_local global i64`,
      ...stripDeclarations,
    )
    module.items.push(`${WEIGHTS} = !{!"branch_weights", i32 1, i32 1000000}`)
  }
  return count
}

function afterAllocas(block: Block): number {
  let i = 0
  while (/^\s+%\S+ = (alloca|phi) /.test(block.instructions[i]!)) i++
  return i
}

/** One poll before the first call that may come back here, in each block that no such block dominates. */
function recursivePlaces(fn: IrFunction, graph: CallGraph, places: Map<Block, number>): void {
  const calls = new Map<string, number>()
  for (const block of fn.blocks) {
    const i = block.instructions.findIndex(each => {
      const call = each.includes('call ') ? parseCall(each) : undefined
      return call !== undefined && !call.assembler && graph.isRecursive(fn.name, call)
    })
    if (i >= 0) calls.set(block.label, i)
  }
  if (calls.size === 0) return
  const flow = new Flow(fn)
  const polled = flow.forward(
    false,
    (a, b) => a && b,
    (a, b) => a === b,
    (label, at) => at || calls.has(label),
  )
  for (const block of fn.blocks)
    if (calls.has(block.label) && !polled.get(block.label))
      places.set(block, Math.max(calls.get(block.label)!, afterAllocas(block)))
}

/**
 * Before the branch that closes a loop, and the comparison it depends on; in a counted loop that is innermost, or the
 * next around such, once in a strip of iterations; in a short one not at all. Returns how many loops became strips.
 */
function loopPlaces(fn: IrFunction, places: Map<Block, number>, first: number): number {
  /** Headers of loops that need nothing more. */
  const done = versionShortNests(fn)
  let strips = 0
  for (const isInnermost of [true, false]) {
    const flow = new Flow(fn)
    const candidates = [...flow.latches].filter(([label, [header]]) => {
      const inside = loopsIn(flow, label, header!)
      return !done.has(header!) && (isInnermost ? inside.length === 0 : inside.every(each => done.has(each)))
    })
    for (const [label, headers] of candidates) {
      if (headers.size > 1 || places.has(flow.blocks.get(label)!)) continue
      const [header] = headers
      const loop = countedLoop(flow, label, header!)
      if (loop === undefined) continue
      if (isInnermost && isBrief(loop)) {
        done.add(header!)
        continue
      }
      const made = stripMine(fn, flow, loop, first + strips, isInnermost)
      if (made === undefined) continue
      done.add(header!).add(made.strip)
      places.set(made.again, 0)
      strips++
    }
  }
  const flow = new Flow(fn)
  for (const [label, headers] of flow.latches) {
    const block = flow.blocks.get(label)!
    if (!places.has(block) && [...headers].some(each => !done.has(each)))
      places.set(block, beforeBranch(block))
  }
  return strips
}

function beforeBranch(block: Block): number {
  const last = block.instructions.length - 1
  const condition = /^\s+br i1 (%\S+),/.exec(block.instructions[last]!)?.[1]
  const before = block.instructions[last - 1]
  return condition !== undefined && before?.startsWith(`  ${condition} = icmp `) ? last - 1 : last
}

function split(fn: IrFunction, places: ReadonlyMap<Block, number>, first: number): number {
  const blocks: Block[] = []
  const cold: Block[] = []
  const rename = new Map<string, string>()
  let n = first
  for (const block of fn.blocks) {
    const at = places.get(block)
    blocks.push(block)
    if (at === undefined) continue
    const rest = block.instructions.slice(at)
    const location = /, !dbg !\d+/.exec(rest.find(each => each.includes('!dbg')) ?? '')?.[0] ?? ''
    const parkLabel = `${COLD}${n}`
    const next = `imago.on.${n}`
    block.instructions = [
      ...block.instructions.slice(0, at),
      `  %imago.request.${n} = load volatile i32, ptr @${REQUEST}`,
      `  %imago.wanted.${n} = icmp ne i32 %imago.request.${n}, 0`,
      `  br i1 %imago.wanted.${n}, label %${parkLabel}, label %${next}, !prof ${WEIGHTS}`,
    ]
    blocks.push({ label: next, instructions: rest })
    cold.push({
      label: parkLabel,
      instructions: [`  call void @${PARK}()${location}`, `  br label %${next}`],
    })
    rename.set(block.label, next)
    n++
  }
  fn.blocks = [...blocks, ...cold]
  renamePredecessors(fn, rename)
  return n - first
}
