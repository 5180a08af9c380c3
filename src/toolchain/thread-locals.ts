/** Thread-local variables: the thread record is at one address on both ISAs, and they lie below it on one and above it on the other. */
import { functionsOf, type Module } from './ir.js'

const STRICT_STORAGE = /^@\S+ = .*\bthread_local\b.*, align (?:16|32|64|128|\d{3,})\b/m

/**
 * Thread-local storage is aligned to 8 at most: the thread record has one address on both ISAs, from which each counts in
 * another direction. Accesses then must not take more for granted.
 */
export function relaxStorage(text: string): string {
  if (!STRICT_STORAGE.test(text)) return text
  return text
    .replace(/^(@\S+ = .*\bthread_local\b.*, align )\d+/gm, '$18')
    .replace(/^( .*)$/gm, line =>
      / = alloca /.test(line) ? line : line.replace(/\balign (?:16|32|64|128|\d{3,})\b/g, 'align 8'),
    )
}

const ADDRESS =
  /^ {2}(%[-\w.$]+) = .*call .*@llvm\.threadlocal\.address\.p0\(ptr (?:[a-z]+ \d+ )?(@[-\w.$]+|@"[^"]*")\)/

/**
 * In place. An address that a function asks for once would be kept in its frame across a site, and then be the place that
 * the variable had on the other ISA: each use names the variable instead, and finds its place anew.
 */
export function nameThreadLocals(module: Module, migratable: ReadonlySet<string>): void {
  for (const fn of functionsOf(module)) {
    if (!migratable.has(fn.name)) continue
    const variables = new Map<string, string>()
    for (const block of fn.blocks)
      for (const instruction of block.instructions) {
        const [, result, variable] = ADDRESS.exec(instruction) ?? []
        if (result !== undefined) variables.set(result, variable!)
      }
    if (variables.size === 0) continue
    for (const block of fn.blocks)
      block.instructions = block.instructions.map(instruction => {
        const [, definition, use] = /^( {2}%\S+ = )?(.*)$/s.exec(instruction)!
        return (definition ?? '') + use!.replace(/%[-\w.$]+/g, name => variables.get(name) ?? name)
      })
  }
}
