/**
 * Where a verb's words go: results on stdout, everything else on stderr. `--json` makes the result one
 * JSON value with bigints as hex strings and a `schema` number.
 */
import { styleText } from 'node:util'
import { hex } from '../lib/bytes.js'

type Style = Parameters<typeof styleText>[0]

export class Output {
  readonly json: boolean
  readonly quiet: boolean

  constructor(options: { json?: boolean; quiet?: boolean } = {}) {
    this.json = options.json ?? false
    this.quiet = options.quiet ?? false
  }

  /** A line (or lines) of the result. */
  line(text = ''): void {
    process.stdout.write(`${text}\n`)
  }

  /** The result under `--json`. `schema` grows when a field changes its meaning. */
  value(value: object, schema = 1): void {
    process.stdout.write(`${toJson({ schema, ...value })}\n`)
  }

  /** A remark for the person at the terminal. */
  note(text: string): void {
    if (!this.quiet) process.stderr.write(`${text}\n`)
  }

  warn(text: string): void {
    process.stderr.write(`${styled('yellow', 'warning:', process.stderr)} ${text}\n`)
  }
}

/** Colours `text` where `stream` is a terminal that wants it (NO_COLOR and FORCE_COLOR are honoured). */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  if (process.env.NO_COLOR) return text
  if (!stream.isTTY && !process.env.FORCE_COLOR) return text
  return styleText(style, text)
}

/** JSON with bigints as `0x…` strings, byte arrays as hex, maps as objects. */
function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_, item: unknown) => {
      if (typeof item === 'bigint') return hex(item)
      if (item instanceof Uint8Array) return Buffer.from(item).toString('hex')
      if (item instanceof Map) return Object.fromEntries(item)
      return item
    },
    2,
  )
}

/** Columns padded to their widest cell; the last is not padded. Cells may hold colour codes. */
export function columns(
  rows: ReadonlyArray<readonly string[]>,
  options: { indent?: string; right?: readonly number[] } = {},
): string {
  const widths: number[] = []
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, visibleLength(cell))
  return rows
    .map(row =>
      (
        (options.indent ?? '') +
        row
          .map((cell, i) => {
            const padding = ' '.repeat(widths[i]! - visibleLength(cell))
            if (options.right?.includes(i)) return padding + cell
            return i === row.length - 1 ? cell : cell + padding
          })
          .join('  ')
      ).trimEnd(),
    )
    .join('\n')
}

function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colour codes begin with ESC
  return text.replace(/\u001b\[[0-9;]*m/g, '').length
}

/** `1.5 MiB`, `12 KiB`, `7 B`. */
export function bytesText(count: number | bigint): string {
  let value = Number(count)
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024)
      return `${unit === 'B' || value >= 100 ? Math.round(value) : Number(value.toFixed(1))} ${unit}`
    value /= 1024
  }
  return `${Number(value.toFixed(1))} TiB`
}

/** `3.8 ms`, `1.24 s`. */
export function durationText(milliseconds: number): string {
  if (milliseconds < 1) return `${Math.round(milliseconds * 1000)} µs`
  if (milliseconds < 1000) return `${Number(milliseconds.toPrecision(3))} ms`
  return `${Number((milliseconds / 1000).toPrecision(3))} s`
}

/** The ScratchVM's line about bytes that went over a network, and how long that took. */
export function noteTransfer(
  what: 'Sent' | 'Received',
  { bytes, milliseconds }: { readonly bytes: number; readonly milliseconds: number },
  output: Output,
): void {
  output.note(`${what} ${bytes} bytes`)
  const rate = `${bytesText((bytes * 1000) / Math.max(1, milliseconds))}/s`
  output.note(`Took ${durationText(milliseconds)}, ${rate}`)
}
