/**
 * Which functions may reach a migration point, and which calls are therefore sites. A call through a pointer may reach
 * every function whose address is taken and whose parameters have the types of the call's arguments (the C standard
 * allows no other, 6.5.2.2); a call without a prototype may reach every function whose address is taken.
 */
import { parseArgument } from './arguments.js'
import { type Call, functionsOf, type IrFunction, type Module, parametersOf, parseCall } from './ir.js'

/** Where a thread may park: the runtime's function that polls call. It is a site wherever it is called. */
export const PARK = '__imago_park'

export class CallGraph {
  readonly #callees = new Map<string, Set<string>>()
  readonly #bySignature = new Map<string, Set<string>>()
  readonly #addressTaken = new Set<string>()
  readonly #component = new Map<string, number>()

  constructor(module: Module) {
    const functions = functionsOf(module)
    const names = new Set(functions.map(fn => fn.name))
    const take = (text: string) => {
      for (const match of text.matchAll(/@("[^"]+"|[-\w.$]+)/g))
        if (names.has(match[1]!)) this.#addressTaken.add(match[1]!)
    }
    for (const item of module.items) if (typeof item === 'string') take(item)
    const calls = new Map<IrFunction, Call[]>()
    for (const fn of functions) {
      const found: Call[] = []
      for (const block of fn.blocks)
        for (const instruction of block.instructions) {
          if (!instruction.includes('@') && !instruction.includes('call ')) continue
          const call = parseCall(instruction)
          if (call === undefined || call.callee === undefined) take(instruction)
          else for (const text of [call.before, ...call.args, call.after]) take(text)
          if (call !== undefined && !call.assembler) found.push(call)
        }
      calls.set(fn, found)
    }
    for (const fn of functions) {
      if (!this.#addressTaken.has(fn.name)) continue
      const key = parametersOf(fn.head, fn.name)
        .list.map(each => parseArgument(each).type)
        .join()
      this.#bySignature.set(key, (this.#bySignature.get(key) ?? new Set()).add(fn.name))
    }
    for (const fn of functions)
      this.#callees.set(fn.name, new Set(calls.get(fn)!.flatMap(call => [...this.targets(call)])))
    this.#findComponents([...names])
  }

  /** Names a call may reach: one for a direct call. Functions outside the module are named as well. */
  targets(call: Call): Iterable<string> {
    if (call.callee?.startsWith('@')) return [call.callee.slice(1)]
    if (call.callee === undefined || /\(.*\.\.\.\) *$/.test(call.before)) return this.#addressTaken
    return this.#bySignature.get(call.args.map(each => parseArgument(each).type).join()) ?? []
  }

  /** Functions from which one of `points` can be reached, the points themselves excluded unless they call others. */
  reaching(points: Iterable<string>): Set<string> {
    const callers = new Map<string, string[]>()
    for (const [caller, callees] of this.#callees)
      for (const callee of callees) callers.set(callee, [...(callers.get(callee) ?? []), caller])
    const reached = new Set<string>()
    const queue = [...points]
    for (let name = queue.pop(); name !== undefined; name = queue.pop())
      for (const caller of callers.get(name) ?? [])
        if (!reached.has(caller)) {
          reached.add(caller)
          queue.push(caller)
        }
    return reached
  }

  /** Whether a call may lead back to the function that makes it. */
  isRecursive(caller: string, call: Call): boolean {
    for (const target of this.targets(call)) {
      if (target === caller) return true
      const component = this.#component.get(target)
      if (component !== undefined && component === this.#component.get(caller)) return true
    }
    return false
  }

  /** Tarjan's strongly connected components, without recursion. */
  #findComponents(names: readonly string[]): void {
    const index = new Map<string, number>()
    const low = new Map<string, number>()
    const onStack = new Set<string>()
    const stack: string[] = []
    for (const root of names) {
      if (index.has(root)) continue
      const work = [{ name: root, next: [...(this.#callees.get(root) ?? [])] }]
      index.set(root, index.size)
      low.set(root, index.get(root)!)
      stack.push(root)
      onStack.add(root)
      while (work.length > 0) {
        const top = work.at(-1)!
        const callee = top.next.pop()
        if (callee === undefined) {
          work.pop()
          const parent = work.at(-1)
          if (parent) low.set(parent.name, Math.min(low.get(parent.name)!, low.get(top.name)!))
          if (low.get(top.name) !== index.get(top.name)) continue
          for (;;) {
            const member = stack.pop()!
            onStack.delete(member)
            this.#component.set(member, index.get(top.name)!)
            if (member === top.name) break
          }
        } else if (!this.#callees.has(callee)) {
        } else if (!index.has(callee)) {
          index.set(callee, index.size)
          low.set(callee, index.get(callee)!)
          stack.push(callee)
          onStack.add(callee)
          work.push({ name: callee, next: [...this.#callees.get(callee)!] })
        } else if (onStack.has(callee)) low.set(top.name, Math.min(low.get(top.name)!, index.get(callee)!))
      }
    }
  }
}

/** The calls at which a function of `migratable` may be left for another machine. */
export function siteTest(
  graph: CallGraph,
  migratable: ReadonlySet<string>,
): (instruction: string) => boolean {
  return instruction => {
    if (!instruction.includes('call ')) return false
    const call = parseCall(instruction)
    if (call === undefined || call.assembler) return false
    for (const target of graph.targets(call)) if (target === PARK || migratable.has(target)) return true
    return false
  }
}
