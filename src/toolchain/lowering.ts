/**
 * Where a function moves the thread's shadow pointer down to its frame, and back up: only around what can reach a site.
 * A path that returns early, like the end of a recursion, does not touch it at all.
 *
 *   lowered at the start of a block = a site lies ahead, and some way here has passed one
 *   on an edge where that changes:    the mark `imago.lower` or `imago.raise`, which the shadow-frame pass makes code of
 *
 * Sites in cold blocks (polls) do not count: they lower and raise by themselves where they find it raised.
 */
import { Flow } from './flow.js'
import type { Block, IrFunction } from './ir.js'
import { isCold } from './polls.js'

export const LOWER = '  imago.lower'
export const RAISE = '  imago.raise'

/** Adds the marks in place. Returns for each block whether the pointer is lowered at its start. */
export function planLowering(
  fn: IrFunction,
  isSite: (instruction: string) => boolean,
): ReadonlyMap<string, boolean> {
  const flow = new Flow(fn)
  const hot = new Set(
    fn.blocks
      .filter(block => !isCold(block.label) && block.instructions.some(isSite))
      .map(block => block.label),
  )
  const ahead = blocksThatReach(flow, hot)
  const atStart = new Map<string, boolean>(fn.blocks.map(block => [block.label, false]))
  const atEnd = (label: string) => hot.has(label) || atStart.get(label)!
  for (let changed = true; changed; ) {
    changed = false
    for (const label of flow.order) {
      if (atStart.get(label) || !ahead.has(label) || !flow.predecessors.get(label)!.some(atEnd)) continue
      atStart.set(label, true)
      changed = true
    }
  }
  const edges: Block[] = []
  for (const block of fn.blocks.slice(1)) {
    const wanted = atStart.get(block.label)!
    const from = flow.predecessors.get(block.label)!
    const wrong = from.filter(label => atEnd(label) !== wanted)
    const mark = wanted ? LOWER : RAISE
    if (wrong.length === 0) continue
    if (wrong.length === from.length) block.instructions.unshift(mark)
    else
      for (const label of wrong) {
        const edge = `imago.edge.${edges.length}`
        edges.push({ label: edge, instructions: [mark, `  br label %${block.label}`] })
        atStart.set(edge, !wanted)
        redirect(flow.blocks.get(label)!, block.label, edge)
      }
  }
  fn.blocks.push(...edges)
  // A mark at the top of a block has done its work when the block's own instructions begin.
  return atStart
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
