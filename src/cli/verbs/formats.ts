import { formats } from '../../formats/registry.js'
import type { Command } from '../command.js'
import { columns, styled } from '../output.js'

export const command: Command = {
  description:
    'The format of an image is guessed from its content; these are the formats that can be guessed, read and written.',
  examples: [['imago formats --json', 'the same, for a script']],
  async run({ output }) {
    const rows = formats.map(format => ({
      name: format.name,
      kind: format.kind,
      container: format.container,
      read: format.read !== undefined,
      write: format.write !== undefined,
      summary: format.summary,
    }))
    if (output.json) return output.value({ formats: rows })
    const mark = (works: boolean) => (works ? styled('green', 'yes') : styled('dim', '–'))
    output.line(
      columns([
        ['FORMAT', 'KIND', 'ON DISK', 'READ', 'WRITE', ''],
        ...rows.map(row => [
          styled('bold', row.name),
          row.kind,
          row.container,
          mark(row.read),
          mark(row.write),
          row.summary,
        ]),
      ]),
    )
  },
}
