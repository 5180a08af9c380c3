import { UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'

export const command: Command = {
  description:
    'Registers, mappings, pages, files and signals of two process images, or all fields of two machine images; the formats may differ.\nExits 0 when the images are the same, 1 when they differ.',
  arguments: [
    { name: 'before', summary: 'an image' },
    { name: 'after', summary: 'another image of the same kind' },
  ],
  examples: [['imago diff monday.ckpt tuesday.ckpt', 'what the program changed since']],
  async run({ args, output }) {
    const { withImages } = await import('../../formats/registry.js')
    return withImages([args.before!, args.after!], async (before, after) => {
      if (before!.kind === 'process' && after!.kind === 'process') {
        const { diffProcessImages } = await import('../../model/process-diff.js')
        const diff = diffProcessImages(before.image, after.image)
        if (output.json) output.value(diff)
        else {
          const { processDiffText } = await import('../views/process-diff.js')
          output.line(processDiffText(diff, before.image))
        }
        return diff.isa === undefined && diff.processes.length === 0 ? 0 : 1
      }
      if (before!.kind === 'machine' && after!.kind === 'machine') {
        const { diffMachineImages } = await import('../../model/machine-diff.js')
        const diff = diffMachineImages(before.image, after.image)
        if (output.json) output.value(diff)
        else output.line((await import('../views/machine-diff.js')).machineDiffText(diff))
        return diff.fields.length === 0 && diff.memory.length === 0 && !diff.cpus ? 0 : 1
      }
      throw new UsageError('a process image and a machine image cannot be compared')
    })
  },
}
