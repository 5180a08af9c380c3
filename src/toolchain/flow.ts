/** Control flow of one function: back edges, loop depth, and data flow to a fixed point. */
import { type Block, type IrFunction, successorsOf } from './ir.js'

export class Flow {
  readonly blocks: ReadonlyMap<string, Block>
  readonly successors: ReadonlyMap<string, readonly string[]>
  readonly predecessors: ReadonlyMap<string, readonly string[]>
  /** Blocks in reverse post-order; unreachable ones at the end. */
  readonly order: readonly string[]
  /** `from` of every edge that closes a cycle in a depth-first walk: every cycle holds one. */
  readonly latches: ReadonlyMap<string, ReadonlySet<string>>

  constructor(fn: IrFunction) {
    this.blocks = new Map(fn.blocks.map(block => [block.label, block]))
    this.successors = new Map(fn.blocks.map(block => [block.label, [...new Set(successorsOf(block))]]))
    const predecessors = new Map<string, string[]>(fn.blocks.map(block => [block.label, []]))
    for (const [from, list] of this.successors) for (const to of list) predecessors.get(to)!.push(from)
    this.predecessors = predecessors
    const latches = new Map<string, Set<string>>()
    const state = new Map<string, 'open' | 'done'>()
    const post: string[] = []
    const entry = fn.blocks[0]!.label
    const stack = [{ label: entry, next: 0 }]
    state.set(entry, 'open')
    while (stack.length > 0) {
      const top = stack.at(-1)!
      const to = this.successors.get(top.label)![top.next++]
      if (to === undefined) {
        state.set(top.label, 'done')
        post.push(top.label)
        stack.pop()
      } else if (state.get(to) === undefined) {
        state.set(to, 'open')
        stack.push({ label: to, next: 0 })
      } else if (state.get(to) === 'open')
        latches.set(top.label, (latches.get(top.label) ?? new Set()).add(to))
    }
    this.latches = latches
    this.order = [
      ...post.reverse(),
      ...fn.blocks.map(block => block.label).filter(label => state.get(label) === undefined),
    ]
  }

  /** The blocks of the loop that `latch` closes at `header`. */
  loop(latch: string, header: string): Set<string> {
    const body = new Set([header])
    const queue = [latch]
    for (let label = queue.pop(); label !== undefined; label = queue.pop()) {
      if (body.has(label)) continue
      body.add(label)
      queue.push(...this.predecessors.get(label)!)
    }
    return body
  }

  /** The block that leads into a loop and nowhere else; undefined when there is another way in. */
  preheader(header: string, body: ReadonlySet<string>): Block | undefined {
    const isNatural = [...body].every(
      label => label === header || this.predecessors.get(label)!.every(each => body.has(each)),
    )
    const outside = this.predecessors.get(header)!.filter(each => !body.has(each))
    if (!isNatural || outside.length !== 1 || body.has(this.order[0]!)) return undefined
    const block = this.blocks.get(outside[0]!)!
    return /^ {2}br label /.test(block.instructions.at(-1)!) ? block : undefined
  }

  /** How often a block runs, guessed: ten times a loop; `cold` blocks never. */
  frequencies(cold: (label: string) => boolean): Map<string, number> {
    const loops = new Map<string, Set<string>>()
    for (const [latch, headers] of this.latches)
      for (const header of headers) {
        const body = loops.get(header) ?? new Set()
        for (const label of this.loop(latch, header)) body.add(label)
        loops.set(header, body)
      }
    const frequency = new Map(this.order.map(label => [label, cold(label) ? 0 : 1]))
    for (const body of loops.values())
      for (const label of body) frequency.set(label, Math.min(frequency.get(label)! * 10, 1e9))
    return frequency
  }

  /**
   * Fixed point of a forward problem whose values merge by intersection. `transfer` gets the value at the start of a
   * block and returns that at its end. Undefined stands for "everything": not reached yet.
   */
  forward<T>(
    entry: T,
    meet: (a: T, b: T) => T,
    same: (a: T, b: T) => boolean,
    transfer: (label: string, at: T) => T,
  ): Map<string, T> {
    const start = new Map<string, T>()
    const end = new Map<string, T>()
    for (let changed = true; changed; ) {
      changed = false
      for (const [i, label] of this.order.entries()) {
        let at: T | undefined = i === 0 ? entry : undefined
        for (const from of this.predecessors.get(label)!) {
          const value = end.get(from)
          if (value !== undefined) at = at === undefined ? value : meet(at, value)
        }
        at ??= entry
        const old = start.get(label)
        if (old !== undefined && same(old, at)) continue
        start.set(label, at)
        end.set(label, transfer(label, at))
        changed = true
      }
    }
    return start
  }

  /** Values live at the end of each block, of a backward problem with union. `transfer` takes them to its start. */
  liveAtEnd(transfer: (label: string, live: Set<string>) => Set<string>): Map<string, Set<string>> {
    const atStart = new Map<string, Set<string>>()
    const atEnd = new Map<string, Set<string>>()
    const order = [...this.order].reverse()
    for (let changed = true; changed; ) {
      changed = false
      for (const label of order) {
        const live = new Set<string>()
        for (const to of this.successors.get(label)!) for (const each of atStart.get(to) ?? []) live.add(each)
        if (atEnd.has(label) && atEnd.get(label)!.size === live.size) continue
        atEnd.set(label, live)
        atStart.set(label, transfer(label, new Set(live)))
        changed = true
      }
    }
    return atEnd
  }
}
