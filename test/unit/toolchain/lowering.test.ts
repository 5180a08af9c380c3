import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Flow } from '../../../src/toolchain/flow.js'
import { functionsOf, parseModule } from '../../../src/toolchain/ir.js'
import { LOWER, Lowering, RAISE } from '../../../src/toolchain/lowering.js'

const SITE = '  call void @site()'
const isSite = (instruction: string) => instruction === SITE

/** A function of `blocks`: whether each holds a site, and where it goes. */
function make(blocks: ReadonlyArray<{ site: boolean; to: readonly number[] }>) {
  const body = blocks.map(({ site, to }, i) => {
    const targets = to.map(each => `label %b${each}`)
    const end =
      targets.length === 0
        ? '  ret void'
        : targets.length === 1
          ? `  br ${targets[0]}`
          : `  br i1 %c, ${targets.slice(0, 2).join(', ')}`
    return `b${i}:\n${site ? `${SITE}\n` : ''}${end}`
  })
  return functionsOf(
    parseModule(`define void @f(i1 %c) {\nentry:\n  br label %b0\n${body.join('\n')}\n}\n`),
  )[0]!
}

describe('the shadow pointer', () => {
  it('is where every block expects it, whatever way leads there, and lowered nowhere twice', () => {
    const block = (count: number) =>
      fc.record({
        site: fc.boolean(),
        to: fc.array(fc.nat(count - 1), { maxLength: 2 }),
      })
    const program = fc
      .integer({ min: 1, max: 8 })
      .chain(count => fc.array(block(count), { minLength: count, maxLength: count }))
    fc.assert(
      fc.property(program, fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }), (blocks, choices) => {
        const fn = make(blocks)
        const lowering = new Lowering(new Flow(fn), isSite)
        lowering.mark(fn)
        const flow = new Flow(fn)
        let label = 'entry'
        let lowered = false
        for (const choice of choices) {
          for (const [i, instruction] of flow.blocks.get(label)!.instructions.entries()) {
            if (instruction === LOWER || instruction === RAISE) {
              expect(lowered).toBe(instruction === RAISE)
              lowered = instruction === LOWER
              expect(i).toBe(0)
            } else if (isSite(instruction)) lowered = true
          }
          const next = flow.successors.get(label)!
          if (next.length === 0) break
          label = next[choice ? 0 : next.length - 1]!
          const marked = [LOWER, RAISE].includes(flow.blocks.get(label)!.instructions[0]!)
          if (!marked) expect(lowered).toBe(lowering.atStart(label))
        }
      }),
      { numRuns: 500 },
    )
  })

  it('stays where it is on the way out of a recursion', () => {
    const fn = make([
      { site: false, to: [1, 2] },
      { site: false, to: [] },
      { site: true, to: [1, 2] },
    ])
    new Lowering(new Flow(fn), isSite).mark(fn)
    const flow = new Flow(fn)
    expect(flow.blocks.get('b0')!.instructions.join()).not.toMatch(/imago\.(lower|raise)/)
    expect(flow.successors.get('b0')).toContain('b1')
  })
})
