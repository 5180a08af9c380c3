import type { Command } from '../command.js'
import { readInput, writeOutput } from '../files.js'

export const command: Command = {
  description: 'Takes the JSON of imago criu decode or show, or of crit.',
  arguments: [{ name: 'file', summary: 'the JSON (standard input by default)', optional: true }],
  options: [
    { flags: '-i, --in <file>', summary: 'the JSON, as crit names it' },
    { flags: '-o, --out <file>', summary: 'where the image file goes (standard output by default)' },
  ],
  examples: [['imago criu encode -i core-42.json -o core-42.img', 'as with crit']],
  async run({ args, options }) {
    const { encodeImageFile } = await import('../../formats/criu/image-file.js')
    const { imageFromJson } = await import('../../formats/criu/json.js')
    const { readExactJson } = await import('../../lib/python-json.js')
    const file = (options.in as string | undefined) ?? args.file
    const json = readExactJson(Buffer.from(readInput(file)).toString('utf8'), file)
    writeOutput(options.out as string | undefined, [encodeImageFile(imageFromJson(json))])
  },
}
