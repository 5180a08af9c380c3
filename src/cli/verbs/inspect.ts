import type { Command } from '../command.js'
import { toJson } from '../output.js'

export const command: Command = {
  arguments: [{ name: 'image', summary: 'an image of any format that imago reads' }],
  async run({ args, output }) {
    const { readImage } = await import('../../formats/registry.js')
    const { image } = await readImage(args.image!)
    output.line(toJson(image))
  },
}
