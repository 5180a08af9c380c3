import type { Command } from '../command.js'
import { lossText } from './convert.js'

export const command: Command = {
  description:
    "Step 4 of the Palacios–gem5 migration tools (m2p.py): gem5's checkpoint over a Palacios checkpoint of the same machine. RAM that lies beside m5.cpt is unpacked for v3_guest_mem_access.",
  arguments: [{ name: 'checkpoint', summary: "gem5's m5.cpt (default: ./m5.cpt)", optional: true }],
  options: [
    { flags: '--pair <folder>', summary: "Palacios' checkpoint, whose files are patched", default: 'tpair' },
    { flags: '-o, --output <folder>', summary: 'the patched files', default: 'tmp' },
    { flags: '--memory <file>', summary: 'where the unpacked memory goes', default: 'gemmem' },
    { flags: '--clock <frequency>', summary: 'CPU clock of the gem5 configuration', default: '1GHz' },
    { flags: '-v, --verbose', summary: 'print what was lost' },
  ],
  examples: [['imago gem5 to-palacios m5.cpt -v', 'm5.cpt over tpair/ into tmp/']],
  async run({ args, options, output }) {
    const { toPalacios } = await import('../../formats/gem5-palacios.js')
    const text = (name: string) => options[name] as string
    const { losses, memory } = await toPalacios({
      checkpoint: args.checkpoint ?? 'm5.cpt',
      pair: text('pair'),
      output: text('output'),
      memory: text('memory'),
      clock: text('clock'),
    })
    if (output.json) return output.value({ output: text('output'), memory, losses })
    output.line(`${text('output')} written${memory ? `, memory in ${memory}` : ''}`)
    if (options.verbose && losses.length > 0) output.line(lossText(losses))
  },
}
