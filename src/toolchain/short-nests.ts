/**
 * A loop around counted loops that mostly are short, made twice: one runs when they are seen to be short for as long as it
 * runs, and leaves them as they were; polls of its own are enough then. In the other each of them polls in strips. So the
 * set-up of strips is not paid again and again for a few iterations each.
 *
 *   before:  goto loop           →   before:  goto loop.short if every loop inside is one strip at most; else loop
 *   loop:    … inner …               loop:         … inner in strips …
 *            goto loop or exit                     goto loop or exit
 *   exit:                            loop.short:   … inner …
 *                                                  goto loop.short or exit
 *                                    exit:
 *
 * Expects loops as `opt -passes=loop-simplify,lcssa` leaves them: what leaves a loop does so through a phi of an exit.
 */
import {
  type CountedLoop,
  countedLoop,
  definitionsOf,
  INCOMING,
  isBrief,
  iterationsInStrip,
  PHI,
  shortTest,
} from './counted-loops.js'
import { Flow } from './flow.js'
import { type Block, type IrFunction, renameInPhis, replaceLocals, successorsOf } from './ir.js'

/** Instructions of a nest that is not made twice any more. */
const LARGE = 2000

interface Nest {
  readonly header: string
  readonly before: Block
  readonly body: readonly Block[]
  readonly headersInside: readonly string[]
  /** The loops inside that are not short for certain, with the values that their counters may begin at. */
  readonly unsure: ReadonlyArray<{ readonly loop: CountedLoop; readonly starts: readonly string[] }>
}

/** In place. Returns the headers of loops that are short wherever they are reached. */
export function versionShortNests(fn: IrFunction): Set<string> {
  const flow = new Flow(fn)
  const nests = [...flow.latches].flatMap(([latch, headers]) =>
    [...headers].flatMap(header => nestAt(fn, flow, latch, header) ?? []),
  )
  return new Set(nests.flatMap((nest, i) => makeTwice(fn, nest, i)))
}

/** Undefined when the loop holds no others, or ones that cannot be judged before it begins. */
function nestAt(fn: IrFunction, flow: Flow, latch: string, header: string): Nest | undefined {
  const headersInside = loopsInside(flow, latch, header)
  if (headersInside === undefined || headersInside.size === 0) return undefined
  const labels = flow.loop(latch, header)
  const before = flow.preheader(header, labels)
  if (before === undefined) return undefined
  const body = fn.blocks.filter(block => labels.has(block.label))
  const made = definitionsOf(body)
  if (made.size > LARGE) return undefined
  const unsure: Array<Nest['unsure'][number]> = []
  for (const [inside, from] of headersInside) {
    const loop = countedLoop(flow, from, inside)
    const brief = loop && isBrief(loop)
    if (brief === true) continue
    if (loop === undefined || brief === false || made.has(loop.bound)) return undefined
    // After a loop of vectors comes one for the rest, which begins where the vectors ended, or at the beginning without them.
    const phi = PHI.exec(made.get(loop.start) ?? '')
    const starts =
      phi === null ? [loop.start] : [...new Set([...phi[3]!.matchAll(INCOMING)].map(each => each[1]!))]
    if (starts.some(each => made.has(each))) return undefined
    unsure.push({ loop, starts })
  }
  if (unsure.length === 0) return undefined
  return { header, before, body, headersInside: [...headersInside.keys()], unsure }
}

/** Header and latch of each loop in a loop; undefined when one of them holds another, or has several latches. */
function loopsInside(flow: Flow, latch: string, header: string): Map<string, string> | undefined {
  const body = flow.loop(latch, header)
  const inside = new Map<string, string>()
  for (const [from, headers] of flow.latches)
    for (const to of headers) {
      if (!body.has(from) || !body.has(to) || (from === latch && to === header)) continue
      if (to === header || inside.has(to)) return undefined
      inside.set(to, from)
    }
  for (const [to, from] of inside) {
    const own = flow.loop(from, to)
    if ([...inside.keys()].some(each => each !== to && own.has(each))) return undefined
  }
  return inside
}

/** Returns the headers of the loops inside of the version for short ones. */
function makeTwice(fn: IrFunction, nest: Nest, number: number): string[] {
  const suffix = `.short.${number}`
  const another = (name: string) => name.replace(/"?$/, quote => `${suffix}${quote}`)
  const labels = new Set(nest.body.map(block => block.label))
  const own = new Set([...definitionsOf(nest.body).keys(), ...[...labels].map(label => `%${label}`)])
  const rename = (text: string) => replaceLocals(text, name => (own.has(name) ? another(name) : undefined))

  const tests = nest.unsure.flatMap(({ loop, starts }) =>
    starts.map(start => (name: string) => shortTest(loop, start, iterationsInStrip(loop), name)),
  )
  const test = (i: number) => `%imago.short.${number}.${i}`
  const all = (i: number) => (i === 0 ? test(0) : `${test(i)}.all`)
  const branch = nest.before.instructions.at(-1)!
  const [short, long] = ['short', 'long'].map(word => `imago.${word}.${number}`)
  nest.before.instructions.splice(
    -1,
    1,
    ...tests.flatMap((make, i) => [
      ...make(test(i)),
      ...(i === 0 ? [] : [`  ${all(i)} = and i1 ${all(i - 1)}, ${test(i)}`]),
    ]),
    branch.replace(
      /br label %(?:"[^"]+"|[-\w.$]+)/,
      `br i1 ${all(tests.length - 1)}, label %${short}, label %${long}`,
    ),
  )
  const exits = new Set(nest.body.flatMap(successorsOf).filter(label => !labels.has(label)))
  for (const block of fn.blocks)
    if (exits.has(block.label))
      block.instructions = block.instructions.map(instruction =>
        PHI.test(instruction)
          ? instruction.replace(INCOMING, (pair, _, from: string) =>
              labels.has(from) ? `${pair}, ${rename(pair)}` : pair,
            )
          : instruction,
      )
  const copies = nest.body.map(block => ({
    label: another(block.label),
    instructions: block.instructions.map(rename),
  }))
  const enter = (label: string, header: Block): Block => {
    renameInPhis(header, nest.before.label, label)
    return { label, instructions: [branch.replace(/label %(?:"[^"]+"|[-\w.$]+)/, `label %${header.label}`)] }
  }
  const header = nest.body.findIndex(block => block.label === nest.header)
  const entrances = [enter(short!, copies[header]!), enter(long!, nest.body[header]!)]
  fn.blocks.splice(fn.blocks.indexOf(nest.before) + 1, 0, ...entrances)
  fn.blocks.splice(fn.blocks.indexOf(nest.body.at(-1)!) + 1, 0, ...copies)
  return nest.headersInside.map(another)
}
