import type { Command } from '../command.js'
import { readInput, writeOutput } from '../files.js'

export const command: Command = {
  arguments: [{ name: 'file', summary: 'an image file such as files.img' }],
  options: [{ flags: '--nopl', summary: 'only the size of raw data (payload), as crit names it' }],
  examples: [['imago criu show pstree.img', 'readable JSON']],
  async run({ args, options }) {
    const { jsonText } = await import('../../formats/criu/json-text.js')
    const text = jsonText(
      readInput(args.file),
      { readable: true, noPayload: options.nopl === true },
      args.file,
    )
    writeOutput(undefined, text, '\n')
  },
}
