/** An image on disk of one ISA → an image on disk of the other, in the same format: read, check, retarget, write. */
import fs from 'node:fs'
import path from 'node:path'
import type { Loss } from '../formats/format.js'
import { type ReadImage, withImages } from '../formats/registry.js'
import { UnreadableError, UsageError } from '../lib/errors.js'
import type { IsaName, ProcessImage } from '../model/process.js'
import { isaNames, readProgram } from '../toolchain/program.js'
import { ProgramBinary } from './program-binary.js'
import { type RetargetSummary, retarget } from './retarget.js'

export interface RetargetRequest {
  readonly source: string
  /** Where the new image goes; undefined: the source becomes it. */
  readonly target: string | undefined
  readonly to: IsaName
  /** Path of `PROG.imago.json`; undefined: beside the executable that the image names. */
  readonly program?: string | undefined
  /** Capabilities that the target host can give; undefined: all. */
  readonly capabilities?: bigint | undefined
}

/**
 * Everything that can be refused is refused before anything is written.
 * @throws LossError, UnreadableError, UsageError
 */
export async function retargetImage(
  request: RetargetRequest,
): Promise<RetargetSummary & { target: string; losses: readonly Loss[] }> {
  const { source } = request
  if (request.target !== undefined && path.resolve(request.target) === path.resolve(source))
    throw new UsageError('the new image would replace the old one', { hint: 'say so with --in-place' })
  return withImages([source], read => retargetRead(read, request))
}

async function retargetRead(read: ReadImage, request: RetargetRequest): ReturnType<typeof retargetImage> {
  const target = path.resolve(request.target ?? request.source)
  if (read.kind !== 'process')
    throw new UsageError('only images of processes change their ISA', { file: request.source })
  const { image, format } = read
  if (request.target === undefined && format.rewrite === undefined)
    throw new UsageError(`an image of format ${format.name} does not change in place`, {
      file: request.source,
      hint: 'give a place for the new one with -o: pages that did not change are shared, not copied',
    })
  if (image.isa === request.to)
    throw new UsageError(`the image is of ${image.isa} already`, {
      file: request.source,
      hint: `--to ${isaNames.find(name => name !== image.isa)}`,
    })
  const program = readProgram(request.program ?? descriptionBeside(image, request.source))
  const source = ProgramBinary.open(program, image.isa)
  const targetBinary = ProgramBinary.open(program, request.to)
  try {
    const { image: result, summary } = retarget({
      image,
      program,
      source,
      target: targetBinary,
      capabilities: request.capabilities,
    })
    const losses =
      request.target === undefined
        ? await format.rewrite!(result, target)
        : await format.write!(result, target, { options: {} })
    return { ...summary, target, losses }
  } finally {
    source.close()
    targetBinary.close()
  }
}

/** `/x/is_x86-64` was started, so `/x/is.imago.json` describes it. */
function descriptionBeside(image: ProcessImage, file: string): string {
  const process = image.processes[0]
  const suffix = `_${image.isa}`
  // Under an emulator a restored program cannot be given its executable's name back; its code is mapped from it all the same.
  const executable =
    [process?.executable, ...(process?.mappings.map(({ file }) => file?.path) ?? [])].find(file =>
      file?.endsWith(suffix),
    ) ?? process?.executable
  const candidate = executable?.endsWith(suffix)
    ? `${executable.slice(0, -suffix.length)}.imago.json`
    : executable && `${executable}.imago.json`
  if (candidate === undefined || !fs.existsSync(candidate))
    throw new UnreadableError('the description of the program is not beside its executable', {
      file,
      found: candidate ?? 'an image that names no executable',
      hint: 'give it with --program PROG.imago.json; imago cc wrote it',
    })
  return candidate
}
