/**
 * Where a function moves the thread's shadow pointer down to its frame, and back up: only around what can reach a site.
 * A path that returns early, like the end of a recursion, does not touch it at all.
 *
 *   lowered at the start of a block = a site lies ahead, and some way here has passed one
 *   on an edge where that changes:    the mark `imago.lower` or `imago.raise`, which the shadow-frame pass makes code of
 *
 * Sites in cold blocks (polls) do not count: they lower and raise by themselves where they find it raised.
 */
import type { Flow } from './flow.js'
import type { Block, IrFunction } from './ir.js'
import { isCold } from './polls.js'

export const LOWER = '  imago.lower'
export const RAISE = '  imago.raise'

export class Lowering {
  readonly #flow: Flow
  readonly #hot: ReadonlySet<string>
  readonly #atStart = new Set<string>()

  constructor(flow: Flow, isSite: (instruction: string) => boolean) {
    this.#flow = flow
    this.#hot = new Set(
      [...flow.blocks.values()]
        .filter(block => !isCold(block.label) && block.instructions.some(isSite))
        .map(block => block.label),
    )
    const ahead = blocksThatReach(flow, this.#hot)
    for (let changed = true; changed; ) {
      changed = false
      for (const label of flow.order) {
        if (this.#atStart.has(label) || !ahead.has(label)) continue
        if (!flow.predecessors.get(label)!.some(from => this.atEnd(from))) continue
        this.#atStart.add(label)
        changed = true
      }
    }
  }

  /** After the marks at the top of the block. */
  atStart(label: string): boolean {
    return this.#atStart.has(label)
  }

  atEnd(label: string): boolean {
    return this.#hot.has(label) || this.#atStart.has(label)
  }

  /** Adds the marks in place. */
  mark(fn: IrFunction): void {
    const edges: Block[] = []
    for (const block of fn.blocks.slice(1)) {
      const wanted = this.atStart(block.label)
      const from = this.#flow.predecessors.get(block.label)!
      const wrong = from.filter(label => this.atEnd(label) !== wanted)
      const mark = wanted ? LOWER : RAISE
      if (wrong.length === 0) continue
      if (wrong.length === from.length) block.instructions.unshift(mark)
      else
        for (const label of wrong) {
          const edge = `imago.edge.${edges.length}`
          edges.push({ label: edge, instructions: [mark, `  br label %${block.label}`] })
          redirect(this.#flow.blocks.get(label)!, block.label, edge)
        }
    }
    fn.blocks.push(...edges)
  }
}

function blocksThatReach(flow: Flow, goals: ReadonlySet<string>): Set<string> {
  const reached = new Set(goals)
  const queue = [...goals]
  for (let label = queue.pop(); label !== undefined; label = queue.pop())
    for (const from of flow.predecessors.get(label)!)
      if (!reached.has(from)) {
        reached.add(from)
        queue.push(from)
      }
  return reached
}

/** There are no phis after reg2mem, so a branch may change its target freely. */
function redirect(block: Block, from: string, to: string): void {
  const last = block.instructions.length - 1
  block.instructions[last] = block.instructions[last]!.replace(
    /label %("[^"]+"|[-\w.$]+)/g,
    (all, label: string) => (label === from ? `label %${to}` : all),
  )
}
