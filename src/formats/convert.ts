/** One image as another format: read, check that the target can take it, write, report what was lost. */
import fs from 'node:fs'
import path from 'node:path'
import { temporaryName } from '../lib/atomic-file.js'
import { LossError, UsageError } from '../lib/errors.js'
import { getField, type MachineImage } from '../model/machine.js'
import type { Format, Loss } from './format.js'
import { informed } from './informed.js'
import { fieldText, placeOf } from './machine-table.js'
import { detectFormat, formatNamed, type ReadImage, withImages } from './registry.js'

export interface Conversion {
  readonly target: string
  readonly losses: readonly Loss[]
  /** What to do with the result: the command that resumes it. */
  readonly hints: readonly string[]
}

/**
 * @param options values of the verb's options, named as on the command line.
 * @throws LossError under `strict` when anything was lost: nothing is then written.
 */
export async function convert(
  source: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Conversion> {
  const { to, output, strict } = options as { to?: string; output?: string; strict?: boolean }
  if (to === undefined)
    throw new UsageError('no target format', { hint: "--to FORMAT; 'imago formats' lists them" })
  if (output === undefined) throw new UsageError('no place for the new image', { hint: '-o PATH' })
  const format = formatNamed(to)
  const target = path.resolve(output)
  if (target === path.resolve(source)) throw new UsageError('the new image would replace the old one')
  if (format.copy !== undefined && detectFormat(source) === format) {
    await format.copy(source, target)
    return { target, losses: [], hints: [] }
  }
  return withImages(
    [source],
    async image =>
      writeRead(await informed(image, options), format, target, { source, strict: strict === true, options }),
    options,
  )
}

async function writeRead(
  read: ReadImage,
  format: Format,
  target: string,
  {
    source,
    strict,
    options,
  }: { source: string; strict: boolean; options: Readonly<Record<string, unknown>> },
): Promise<Conversion> {
  if (!strict) {
    const losses = await writeAs(format, read, target, options)
    return { target, losses, hints: (await format.hints?.(target, read.image, options)) ?? [] }
  }
  // In a folder of its own: some formats write more than one file (a memory dump, a record).
  const folder = temporaryName(target)
  fs.mkdirSync(folder)
  try {
    const losses = await writeAs(format, read, path.join(folder, path.basename(target)), options)
    if (losses.length > 0)
      throw new LossError(`${losses.length} fields would be lost or changed`, {
        file: source,
        found: losses
          .slice(0, 5)
          .map(({ kind, subject, field }) => `${kind} ${subject} ${field}`)
          .join(', '),
        hint: 'leave --strict out to convert all the same, with a report',
      })
    for (const name of fs.readdirSync(folder)) {
      const place = path.join(path.dirname(target), name)
      fs.rmSync(place, { recursive: true, force: true })
      fs.renameSync(path.join(folder, name), place)
    }
    return { target, losses, hints: (await format.hints?.(target, read.image, options)) ?? [] }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

async function writeAs(
  format: Format,
  read: ReadImage,
  target: string,
  options: Readonly<Record<string, unknown>>,
): Promise<readonly Loss[]> {
  if (format.kind === 'process' && read.kind === 'process' && format.write)
    return format.write(read.image, target, { options })
  if (format.kind === 'machine' && read.kind === 'machine' && format.write)
    return [...workedOut(read.image), ...(await format.write(read.image, target, { options }))]
  if (format.write === undefined) throw new LossError(`format ${format.name} cannot be written`)
  throw new UsageError(`a ${read.kind} image cannot become ${format.name}, which holds a ${format.kind}`)
}

function workedOut(image: MachineImage): Loss[] {
  return [...(image.workedOut ?? [])].map(([path, from]) => {
    const value = getField({ cpu: image.cpus[0]!, devices: image.devices }, path)
    return {
      kind: 'defaulted',
      ...placeOf(path),
      detail: `not in the image, now ${fieldText(path, value)}, ${from}`,
    }
  })
}
