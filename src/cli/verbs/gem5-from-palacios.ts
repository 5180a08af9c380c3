import { UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'
import { lossText } from './convert.js'

export const command: Command = {
  description:
    "Step 2 of the Palacios–gem5 migration tools (p2m.py): Palacios' text checkpoint over gem5's skeleton. The raw memory dump becomes system.physmem.physmem as it is.",
  options: [
    { flags: '--skeleton <file>', summary: 'm5.p, or an m5.cpt', default: 'm5.p' },
    { flags: '--pair <folder>', summary: "Palacios' checkpoint", default: 'tpair' },
    { flags: '--memory <file>', summary: 'raw memory dump: tells whether the CPU sleeps in HLT' },
    { flags: '-o, --output <file>', summary: 'the checkpoint', default: 'p25out/m5.cpt' },
    { flags: '--clock <frequency>', summary: 'CPU clock of the gem5 configuration', default: '1GHz' },
    { flags: '--tick <ps>', summary: 'curTick of the checkpoint; the skeleton’s when left out' },
    { flags: '-v, --verbose', summary: 'print what was lost' },
  ],
  examples: [['imago gem5 from-palacios -v', 'tpair/ over m5.p into p25out/m5.cpt']],
  async run({ options, output }) {
    const { fromPalacios } = await import('../../formats/gem5-palacios.js')
    const text = (name: string) => options[name] as string | undefined
    const tick = text('tick')
    if (tick !== undefined && !/^\d{1,18}$/.test(tick))
      throw new UsageError(`--tick is a number of picoseconds, not '${tick}'`)
    const losses = await fromPalacios({
      skeleton: text('skeleton')!,
      pair: text('pair')!,
      memory: text('memory'),
      output: text('output')!,
      clock: text('clock'),
      tick: tick === undefined ? undefined : BigInt(tick),
    })
    if (output.json) return output.value({ output: text('output'), losses })
    output.line(`${text('output')} written`)
    if (options.verbose && losses.length > 0) output.line(lossText(losses))
  },
}
