import type { Command } from '../command.js'
import { readInput } from '../files.js'

export const command: Command = {
  arguments: [{ name: 'file', summary: 'an image file' }],
  examples: [['imago criu info pagemap-42.img', 'its kind and the number of entries']],
  async run({ args, output }) {
    const { describeImageFile } = await import('../../formats/criu/image-file.js')
    const { writePythonJson } = await import('../../lib/python-json.js')
    const { kind, count } = describeImageFile(readInput(args.file), args.file)
    output.line(writePythonJson({ magic: kind.name, count }, 4))
  },
}
