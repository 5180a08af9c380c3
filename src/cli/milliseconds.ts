/** A length of time as a user writes it. */
import { UsageError } from '../lib/errors.js'

/** A timer's most, 24 days: a longer one would run out at once. */
const LONGEST_TIME = 2 ** 31 - 1
const times: Readonly<Record<string, number>> = { ms: 1, s: 1000, '': 1000, m: 60_000, h: 3_600_000 }

/** `500ms`, `10s`, `5m` → milliseconds. @throws UsageError */
export function milliseconds(text: unknown): number | undefined {
  if (text === undefined) return undefined
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(String(text))
  if (match === null) throw new UsageError(`'${text}' is no time`, { expected: 'a number and ms, s, m or h' })
  return Math.min(Number(match[1]) * times[match[2]!]!, LONGEST_TIME)
}
