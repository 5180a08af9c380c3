/**
 * The record beside a captured stream, `FILE.json`: the command line, which the stream does not hold. A converted
 * stream gets its template's record, with a CPU that offers what the guest has seen.
 */
import fs from 'node:fs'
import { widenedLine } from './cpu-line.js'
import { recordPath } from './machine-line.js'

export interface CaptureRecord {
  readonly cpu?: string
  /** Shift of -icount. */
  readonly icount?: number
  readonly tscRate?: number
}

/** What the record says; nothing where there is none or it is another file. */
export function readCaptureRecord(stream: string): CaptureRecord {
  try {
    const { cpu, icount, tscRate } = JSON.parse(fs.readFileSync(recordPath(stream), 'utf8')) as Record<
      string,
      unknown
    >
    return {
      ...(typeof cpu === 'string' ? { cpu } : {}),
      ...(Number.isSafeInteger(icount) ? { icount: icount as number } : {}),
      ...(typeof tscRate === 'number' && tscRate > 0 ? { tscRate } : {}),
    }
  } catch {
    return {}
  }
}

/** Gives `target` the record of `template`, its CPU widened to `features`. */
export function copyCaptureRecord(
  template: string,
  target: string,
  features: Iterable<string> | undefined,
): void {
  let record: Record<string, unknown>
  try {
    record = JSON.parse(fs.readFileSync(recordPath(template), 'utf8')) as Record<string, unknown>
  } catch {
    return
  }
  if (typeof record.cpu === 'string' && features) record.cpu = widenedLine(record.cpu, features)
  fs.writeFileSync(recordPath(target), `${JSON.stringify(record, undefined, 2)}\n`)
}
