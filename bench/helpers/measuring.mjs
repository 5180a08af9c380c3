/** What every measurement needs: its options, a folder that goes with it, and the median. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

/** Root of the checkout. */
export const root = path.resolve(import.meta.dirname, '../..')

/** The command line: options as `ordinary` names them (numbers stay numbers), and the words beside them. */
export function commandLine(ordinary) {
  const { values, positionals } = parseArgs({
    options: Object.fromEntries(
      Object.entries(ordinary).map(([name, value]) => [name, { type: 'string', default: String(value) }]),
    ),
    allowPositionals: true,
  })
  const options = Object.entries(values).map(([name, value]) => [
    name,
    typeof ordinary[name] === 'number' ? Number(value) : value,
  ])
  return { ...Object.fromEntries(options), words: positionals }
}

/** A new folder, removed when the measurement ends. */
export function temporaryFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-bench-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  return folder
}

export const median = numbers => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
