/**
 * What a system call is: one row of a table that dispatch, the trace and the documentation read.
 * A row's `call` gets the raw argument registers and returns a result, or minus errno, as the kernel would.
 */
import os from 'node:os'
import type { Guest } from '../guest.js'

/** How an argument is shown by `--trace`: decimal, hexadecimal (an address), or the string it points to. */
export type ArgumentKind = 'number' | 'address' | 'path'

export interface SystemCall {
  readonly nr: number
  readonly name: string
  readonly arguments: readonly ArgumentKind[]
  readonly call: (guest: Guest, a: Arguments) => number | bigint
}

/** rdi, rsi, rdx, r10, r8, r9. */
export type Arguments = readonly [bigint, bigint, bigint, bigint, bigint, bigint]

const kinds: Readonly<Record<string, ArgumentKind>> = { n: 'number', a: 'address', p: 'path' }

/** A row; `signature` has a letter an argument: n number, a address, p path. */
export function row(nr: number, name: string, signature: string, call: SystemCall['call']): SystemCall {
  return { nr, name, arguments: [...signature].map(letter => kinds[letter]!), call }
}

/** A C int in a register. */
export const int = (value: bigint): number => Number(BigInt.asIntN(32, value))
/** A C long or off_t in a register; exact up to 2^53, which no file and no memory here exceeds. */
export const long = (value: bigint): number => Number(BigInt.asIntN(64, value))
/** A size_t: what is too large for a number is larger than anything there is. */
export const size = (value: bigint): number => Number(value)

export const E = os.constants.errno
/** Linux moves at most this many bytes in one call. */
export const MOST_BYTES = 0x7ffff000
