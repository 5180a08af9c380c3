import type { Command } from '../command.js'
import { lineFrom, machineOptions, moreWords } from './machine-options.js'

export const command: Command = {
  description:
    "Boots a tiny guest in QEMU and saves it: a stream into which 'imago convert --to qemu --template' pours other machines of the same memory size.",
  arguments: [moreWords],
  options: [...machineOptions, { flags: '-o, --output <image>', summary: 'where the template goes' }],
  examples: [['imago vm template --memory 128M -o template', 'for machines with 128 MB']],
  async run(invocation) {
    const { options, output } = invocation
    const { UsageError } = await import('../../lib/errors.js')
    const { DEFAULT_LINE } = await import('../../engines/qemu/machine-line.js')
    const { makeTemplate } = await import('../../engines/qemu/template.js')
    const target = options.output as string | undefined
    if (target === undefined) throw new UsageError('say where the template goes: -o IMAGE')
    const line = lineFrom(invocation, DEFAULT_LINE)
    await makeTemplate(line, target)
    if (output.json) output.value({ path: target, ...line })
    else output.line(`${target}: template of ${line.machine} with ${line.memory / 2 ** 20} MiB`)
  },
}
