/**
 * The moment of a capture: `serial:TEXT` (the guest has printed TEXT), `time:5s` (that long after the start, on
 * this host's clock), `instructions:N` (exactly N instructions after the start; needs --icount).
 */
import { UsageError } from '../../lib/errors.js'
import { parseTime } from '../../lib/quantities.js'

export type Moment =
  | { readonly kind: 'serial'; readonly text: string }
  | { readonly kind: 'time'; readonly milliseconds: number }
  | { readonly kind: 'instructions'; readonly count: number }

/** @throws UsageError when `text` is none of the three. */
export function parseMoment(text: string): Moment {
  const separator = text.indexOf(':')
  const kind = separator < 0 ? text : text.slice(0, separator)
  const value = text.slice(separator + 1)
  if (kind === 'serial' && separator >= 0 && value !== '') return { kind, text: value }
  if (kind === 'time') return { kind, milliseconds: parseTime(value) }
  if (kind === 'instructions') {
    const count = /^\d[\d_]*$/.test(value) ? Number(value.replaceAll('_', '')) : Number.NaN
    if (Number.isSafeInteger(count)) return { kind, count }
  }
  throw new UsageError(`'${text}' is no moment`, {
    expected: "serial:TEXT, time:5s or instructions:N, as in --until 'serial:login:'",
  })
}
