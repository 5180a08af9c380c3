import { UsageError } from './errors.js'

const factors = { '': 1, k: 1e3, m: 1e6, g: 1e9 } as const

/** Hz from `1GHz`, `2600MHz` or `1000000000`. @throws UsageError for other text. */
export function parseFrequency(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:hz)?$/i.exec(text)
  if (match === null)
    throw new UsageError(`'${text}' is no frequency`, { expected: 'such as 1GHz or 2600MHz' })
  const hertz = Number(match[1]) * factors[match[2]!.toLowerCase() as keyof typeof factors]
  if (!(hertz > 0)) throw new UsageError(`'${text}' is no frequency`, { expected: 'more than 0' })
  return Math.round(hertz)
}

/** `2.6 GHz`, `100 MHz`. */
export const frequencyText = (hertz: number): string =>
  hertz >= 1e9 ? `${hertz / 1e9} GHz` : `${hertz / 1e6} MHz`
