/**
 * `m5.p`, the skeleton of the old migration scripts: the text of a checkpoint as a pickled dictionary
 * section → { key → value }, made once in gem5 with the same kernel and configuration.
 */
import fs from 'node:fs'
import { UnreadableError } from '../../lib/errors.js'
import { limits } from '../../lib/limits.js'
import { type PickleValue, readPickle, type StringTree, writePickle } from '../../lib/pickle.js'
import { CheckpointText } from './checkpoint-text.js'

/** The pickle of all sections and keys, as m5parse.py makes it. */
export function skeletonOf(text: CheckpointText): Uint8Array {
  const tree: StringTree = new Map(
    text
      .names()
      .map(name => [name, new Map(text.keys(name).map(key => [key, text.get(name, key)!]))] as const),
  )
  return writePickle(tree)
}

/** A skeleton as a checkpoint's text: from `m5.p`, or from an `m5.cpt` itself. */
export function readSkeleton(file: string): CheckpointText {
  const { size } = fs.statSync(file)
  if (size > limits.recordBytes)
    throw new UnreadableError('too large for a skeleton', { file, found: `${size} bytes` })
  const bytes = fs.readFileSync(file)
  // A pickle begins with its protocol, a dictionary or a mark; a checkpoint's text with none of them.
  if (![0x80, 0x28, 0x7d].includes(bytes[0] ?? 0)) return CheckpointText.read(file)
  const tree = readPickle(bytes, file)
  const lines: string[] = []
  for (const [section, keys] of entries(tree, file)) {
    lines.push('', `[${section}]`)
    for (const [key, value] of entries(keys, file)) lines.push(`${key}=${valueText(value)}`)
  }
  return CheckpointText.fromString(`${lines.join('\n')}\n`)
}

function entries(value: PickleValue, file: string): [string, PickleValue][] {
  if (!(value instanceof Map))
    throw new UnreadableError('not a skeleton: sections of keys are dictionaries', { file })
  return [...value].map(([key, item]) => {
    const name = String(key)
    if (/[\n\r\]]/.test(name)) throw new UnreadableError('a section or key with a line end in it', { file })
    return [name, item]
  })
}

/** Scripts may have split lists or parsed numbers. */
function valueText(value: PickleValue): string {
  if (Array.isArray(value)) return value.map(valueText).join(' ')
  if (typeof value === 'boolean') return value ? 'true' : 'false'
  return String(value ?? '').replace(/[\n\r]/g, ' ')
}
