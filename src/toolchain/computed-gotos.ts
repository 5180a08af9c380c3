/**
 * Computed gotos (a GNU extension: `&&label`, `goto *pointer`) made the same on both ISAs: the address of a label becomes
 * its number, and the jump a switch over the numbers.
 *
 *   ptr blockaddress(@f, %add)              → ptr inttoptr (i64 2 to ptr)
 *   indirectbr ptr %next, [label %add, …]   → switch i64 (%next as i64), label %nowhere [ i64 2, label %add … ]
 */
import { functionsOf, type Module } from './ir.js'

const LABEL_ADDRESS = /blockaddress\(@("[^"]+"|[-\w.$]+), %("[^"]+"|[-\w.$]+)\)/g

/** In place. */
export function lowerComputedGotos(module: Module): void {
  const numbers = new Map<string, number>()
  const lower = (text: string) =>
    text.includes('blockaddress(')
      ? text.replace(LABEL_ADDRESS, (_, fn: string, label: string) => {
          const key = `${fn} ${label}`
          if (!numbers.has(key)) numbers.set(key, numbers.size + 1)
          return `inttoptr (i64 ${numbers.get(key)} to ptr)`
        })
      : text
  for (const [i, item] of module.items.entries()) if (typeof item === 'string') module.items[i] = lower(item)
  for (const fn of functionsOf(module))
    for (const block of fn.blocks) block.instructions = block.instructions.map(lower)
  if (numbers.size === 0) return
  for (const fn of functionsOf(module)) {
    let count = 0
    let unused = numbers.size
    for (const block of fn.blocks) {
      const jump = /^\s+indirectbr ptr (\S+), \[(.*)\](.*)$/.exec(block.instructions.at(-1)!)
      if (jump === null) continue
      const name = `%imago.goto.${count++}`
      // Every edge stays, for the phis: a label that is listed twice, or whose address is gone, has a number nobody uses.
      const used = new Set<number>()
      const cases = jump[2]!.split(', ').map(each => {
        const label = each.trim().replace(/^label %/, '')
        let number = numbers.get(`${fn.name} ${label}`)
        if (number === undefined || used.has(number)) number = ++unused
        used.add(number)
        return `i64 ${number}, label %${label}`
      })
      block.instructions.splice(
        -1,
        1,
        `  ${name} = ptrtoint ptr ${jump[1]} to i64`,
        `  switch i64 ${name}, label %imago.nowhere [ ${cases.join(' ')} ]${jump[3]}`,
      )
    }
    if (count > 0) fn.blocks.push({ label: 'imago.nowhere', instructions: ['  unreachable'] })
  }
}
