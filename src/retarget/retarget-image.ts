/** An image on disk of one ISA → an image on disk of the other, in the same format: read, check, retarget, write. */
import fs from 'node:fs'
import path from 'node:path'
import type { Loss } from '../formats/format.js'
import { formatNamed, type ReadImage, withImages } from '../formats/registry.js'
import { UnreadableError, UsageError } from '../lib/errors.js'
import type { IsaName, ProcessImage } from '../model/process.js'
import { isaNames, readProgram } from '../toolchain/program.js'
import { ProgramBinary } from './program-binary.js'
import { type RetargetSummary, retarget } from './retarget.js'

export interface RetargetRequest {
  readonly source: string
  readonly target: string
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
  const target = path.resolve(request.target)
  if (target === path.resolve(request.source)) throw new UsageError('the new image would replace the old one')
  return withImages([request.source], read => retargetRead(read, { ...request, target }))
}

async function retargetRead(read: ReadImage, request: RetargetRequest): ReturnType<typeof retargetImage> {
  const { target } = request
  if (read.kind !== 'process')
    throw new UsageError('only images of processes change their ISA', { file: request.source })
  const { image } = read
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
    const losses = await formatNamed(read.format.name).write!(result as never, target, { options: {} })
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
