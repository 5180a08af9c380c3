/** Amounts as a user writes them: `1.5s`, `64M`, `2.6GHz`. Plain numbers are seconds, bytes and Hz. */
import { UsageError } from './errors.js'

/** A timer's most, 24 days: a longer one would run out at once. */
const LONGEST_TIME = 2 ** 31 - 1

const milliseconds = { ms: 1, s: 1000, '': 1000, m: 60_000, min: 60_000, h: 3_600_000 } as const
const bytes = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 } as const
const hertz = { '': 1, k: 1e3, m: 1e6, g: 1e9 } as const

/** Milliseconds, at most 24 days. @throws UsageError */
export function parseTime(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|min|m|h|)$/.exec(text)
  if (match === null)
    throw new UsageError(`'${text}' is no time`, { expected: 'a number and ms, s, m (or min) or h' })
  return Math.min(Number(match[1]) * milliseconds[match[2] as keyof typeof milliseconds], LONGEST_TIME)
}

/** Bytes: K, M and G are powers of 1024. @throws UsageError */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmg]?)i?b?$/i.exec(text)
  if (match === null) throw new UsageError(`'${text}' is no size`, { expected: 'a number and K, M or G' })
  return Number(match[1]) * bytes[match[2]!.toLowerCase() as keyof typeof bytes]
}

/** Hz. @throws UsageError */
export function parseFrequency(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:hz)?$/i.exec(text)
  if (match === null)
    throw new UsageError(`'${text}' is no frequency`, { expected: 'such as 1GHz or 2600MHz' })
  const rate = Number(match[1]) * hertz[match[2]!.toLowerCase() as keyof typeof hertz]
  if (!(rate > 0)) throw new UsageError(`'${text}' is no frequency`, { expected: 'more than 0' })
  return Math.round(rate)
}

/** `2.6 GHz`, `100 MHz`. */
export const frequencyText = (rate: number): string =>
  rate >= 1e9 ? `${rate / 1e9} GHz` : `${rate / 1e6} MHz`
