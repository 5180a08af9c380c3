import type { Command } from '../command.js'
import { columns, styled } from '../output.js'

export const command: Command = {
  description:
    'Each line is something imago can do on some host. For each no, the reason and the cure. Exits 0 whatever it finds.',
  async run({ output }) {
    const { checkHost } = await import('../../engines/check.js')
    const results = await checkHost()
    if (output.json) return output.value({ checks: results })
    let group = ''
    for (const result of results) {
      if (result.group !== group) {
        if (group !== '') output.line()
        output.line(styled('bold', result.group))
        group = result.group
      }
      const mark = result.works ? styled('green', 'yes') : styled('red', 'no ')
      output.line(columns([[mark, result.name.padEnd(34), result.detail]], { indent: '  ' }))
      if (!result.works && result.cure) output.line(`       ${styled('dim', '↳')} ${result.cure}`)
    }
  },
}
