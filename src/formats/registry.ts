/**
 * The one table of formats: `probe` tells from content what a path is, `read` and `write` go through one of
 * the two neutral models. Formats know the models, never each other.
 */
import fs from 'node:fs'
import { LossError, systemReason, UnreadableError, UsageError } from '../lib/errors.js'
import type { MachineImage } from '../model/machine.js'
import type { ProcessImage } from '../model/process.js'
import type { Format, MachineFormat, ProbeInput, ProcessFormat, WriteOptions } from './format.js'
import { table } from './table.js'

export const formats: readonly Format[] = table

/** @throws UsageError when no format has that name. */
export function formatNamed(name: string): Format {
  const format = formats.find(candidate => candidate.name === name)
  if (format === undefined)
    throw new UsageError(`no format is called '${name}'`, {
      expected: formats.map(candidate => candidate.name).join(', '),
    })
  return format
}

/** Which format the file or folder at `path` is in. @throws UnreadableError when none knows it. */
export function detectFormat(path: string): Format {
  const input = probeInput(path)
  const format = formats.find(candidate => candidate.probe(input))
  if (format === undefined)
    throw new UnreadableError('no known image format', {
      file: path,
      found:
        input.entries === undefined
          ? `first bytes ${Buffer.from(input.head.subarray(0, 8)).toString('hex') || '(empty)'}`
          : `a folder of ${input.entries.length} entries`,
      hint: "run 'imago formats' for what can be read",
    })
  return format
}

export type ReadImage =
  | { kind: 'process'; format: ProcessFormat; image: ProcessImage }
  | { kind: 'machine'; format: MachineFormat; image: MachineImage }

/** Detects the format and reads the image into its model. */
export async function readImage(path: string, options: WriteOptions = { options: {} }): Promise<ReadImage> {
  const format = detectFormat(path)
  if (format.read === undefined)
    throw new LossError(`format ${format.name} can be recognised but not read yet`, { file: path })
  if (format.kind === 'process') return { kind: 'process', format, image: await format.read(path, options) }
  return { kind: 'machine', format, image: await format.read(path, options) }
}

/**
 * Reads the images at `paths`, gives them to `use`, in order, and closes the files that their memory points into when that
 * has ended. @throws UnreadableError, LossError
 */
export async function withImages<T>(
  paths: readonly string[],
  use: (...images: ReadImage[]) => T | Promise<T>,
  options: WriteOptions['options'] = {},
): Promise<T> {
  const images: ReadImage[] = []
  try {
    for (const path of paths) images.push(await readImage(path, { options }))
    return await use(...images)
  } finally {
    for (const { image } of images)
      for (const { memory } of 'memory' in image ? [image] : image.processes) memory.close()
  }
}

function probeInput(path: string): ProbeInput {
  try {
    if (fs.statSync(path).isDirectory())
      return { path, entries: fs.readdirSync(path), head: new Uint8Array() }
    const fd = fs.openSync(path, 'r')
    try {
      const head = new Uint8Array(4096)
      return { path, entries: undefined, head: head.subarray(0, fs.readSync(fd, head, 0, head.length, 0)) }
    } finally {
      fs.closeSync(fd)
    }
  } catch (error) {
    throw new UnreadableError(`cannot open: ${systemReason(error)}`, {
      file: path,
      cause: error,
    })
  }
}
