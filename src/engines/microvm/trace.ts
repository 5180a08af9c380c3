/**
 * The trace of system calls, a line each, in the form of the ScratchVM:
 *
 *   VM_APP - OPEN ./ay_caramba.txt 32834 511 - return 8
 *   VM_APP - SAVE requested
 *   VM_APP - EXIT 0
 */
import type { Guest } from './guest.js'
import type { Arguments, SystemCall } from './syscalls/table.js'

/** Paths are shown as they were before the call, so this is called first. */
export function describeArguments(guest: Guest, call: SystemCall, a: Arguments): string {
  return call.arguments
    .map((kind, i) => {
      const value = a[i]!
      if (kind === 'address') return value.toString(16)
      if (kind === 'number') return BigInt.asIntN(64, value).toString()
      try {
        return JSON.stringify(guest.memory.string(value) ?? '…').slice(1, -1)
      } catch {
        return value.toString(16)
      }
    })
    .map(word => ` ${word}`)
    .join('')
}

const WITHOUT_RETURN = new Set(['exit', 'exit_group'])

/** The line of a call that was made; `words` are its arguments. A result of undefined: it does not return. */
export function traceLine(call: SystemCall, words: string, result: number | bigint | undefined): string {
  if (call.name === 'save') return 'VM_APP - SAVE requested'
  const name = WITHOUT_RETURN.has(call.name) ? 'EXIT' : call.name.toUpperCase()
  return `VM_APP - ${name}${words}${result === undefined ? '' : ` - return ${result}`}`
}
