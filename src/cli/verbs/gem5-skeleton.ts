import type { Command } from '../command.js'

export const command: Command = {
  description:
    'The first step of the Palacios–gem5 migration tools (m5parse.py): the text of a checkpoint as a Python pickle, section → key → value, which their scripts and imago itself take as a skeleton.',
  arguments: [{ name: 'checkpoint', summary: "gem5's m5.cpt, taken with the same kernel and configuration" }],
  options: [{ flags: '-o, --output <file>', summary: 'the skeleton', default: 'm5.p' }],
  examples: [['imago gem5 skeleton m5.cpt -o m5.p', 'step 0 of the README']],
  async run({ args, options, output }) {
    const { makeSkeleton } = await import('../../formats/gem5-palacios.js')
    const target = options.output as string
    const { sections } = makeSkeleton(args.checkpoint!, target)
    if (output.json) output.value({ output: target, sections })
    else output.line(`${target} written: ${sections} sections`)
  },
}
