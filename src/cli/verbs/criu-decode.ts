import type { Command } from '../command.js'
import { readInput, writeOutput } from '../files.js'

export const command: Command = {
  description:
    "Speaks the JSON of CRIU's own tool crit: the same names and formats, so that scripts made for it go on working.",
  arguments: [
    {
      name: 'file',
      summary: 'an image file such as core-42.img (standard input by default)',
      optional: true,
    },
  ],
  options: [
    { flags: '-i, --in <file>', summary: 'the image file, as crit names it' },
    { flags: '-o, --out <file>', summary: 'where the JSON goes (standard output by default)' },
    { flags: '--pretty', summary: 'on several lines, with flags, addresses and the like as words' },
  ],
  examples: [
    ['imago criu decode -i core-42.img -o core-42.json', 'as with crit'],
    ['imago criu decode --pretty files.img | less', 'for a person'],
  ],
  async run({ args, options }) {
    const { jsonText } = await import('../../formats/criu/json-text.js')
    const file = (options.in as string | undefined) ?? args.file
    const text = jsonText(readInput(file), { readable: options.pretty === true }, file)
    writeOutput(options.out as string | undefined, text, '\n')
  },
}
