import type { ReadImage } from '../../formats/registry.js'
import { ExitCode } from '../../lib/errors.js'
import type { Command } from '../command.js'
import { styled } from '../output.js'

export const command: Command = {
  description:
    'Reads the whole image: seals and checksums where the format has them, and what must hold for any image.\nExits 0 for a sound image, 3 for one with problems.',
  arguments: [{ name: 'image', summary: 'an image of any format that imago reads' }],
  options: [
    { flags: '--memory <file>', summary: 'palacios: the raw memory dump that belongs to the checkpoint' },
  ],
  async run({ args, options, output }) {
    const { withImages } = await import('../../formats/registry.js')
    return withImages(
      [args.image!],
      async read => {
        const problems = [...((await read.format.verify?.(args.image!)) ?? []), ...(await problemsOf(read))]
        if (output.json) output.value({ format: read.format.name, sound: problems.length === 0, problems })
        else if (problems.length === 0)
          output.line(`${styled('green', 'sound')}: ${read.kind} image, format ${read.format.name}`)
        else for (const problem of problems) output.line(`${styled('red', 'problem')}: ${problem}`)
        return problems.length === 0 ? ExitCode.done : ExitCode.unreadable
      },
      options,
    )
  },
}

/** What must hold for any image of its kind. */
async function problemsOf(read: ReadImage): Promise<readonly string[]> {
  if (read.kind === 'machine')
    return (await import('../../isa/x86-machine-verify.js')).verifyMachineImage(read.image)
  return [...(await import('../../model/process-verify.js')).verifyProcessImage(read.image)]
}
