/** The words of the set-up: one line a step, nothing when there is nothing to do. */
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** Where heavy parts are unpacked. */
export const cache = path.resolve(process.env.IMAGO_CACHE ?? path.join(root, '.cache'))

let quiet = false
export function setQuiet(value) {
  quiet = value
}

/** Names a step that takes a while. Goes to stderr: the demo and the tests own stdout. */
export function say(text) {
  process.stderr.write(`setup: ${text}\n`)
}

/** A remark that only matters when set-up is what the user asked for. */
export function remark(text) {
  if (!quiet) say(text)
}
