import type { Loss } from '../../formats/format.js'
import { table } from '../../formats/table.js'
import type { Command } from '../command.js'

export const command: Command = {
  description:
    'The same thing in another format. Whatever the target cannot hold is reported: dropped, defaulted or rounded.\nProcess images become process images (and gem5-se), machine images machine images.',
  arguments: [{ name: 'image', summary: 'an image of any format that imago reads' }],
  options: [
    {
      flags: '-t, --to <format>',
      summary: 'the target format',
      choices: table.filter(format => format.write !== undefined).map(format => format.name),
    },
    { flags: '-o, --output <path>', summary: 'where the new image goes; it appears whole or not at all' },
    { flags: '--strict', summary: 'fail, and write nothing, when anything would be lost (exit code 4)' },
    {
      flags: '--template <file>',
      summary:
        'qemu, palacios: an image of the machine that shall go on with it (qemu: made when QEMU is installed)',
    },
    { flags: '--skeleton <folder>', summary: 'gem5: a checkpoint whose other sections are kept' },
    { flags: '--gem5-version <era>', summary: 'gem5: layout of the checkpoint', choices: ['v24', '2011'] },
    { flags: '--tick <ps>', summary: 'gem5: curTick of the checkpoint, in picoseconds' },
    {
      flags: '--clock <frequency>',
      summary: 'gem5: CPU clock (the rate of the guest’s TSC); palacios: of the APIC',
    },
    { flags: '--raw-ram', summary: 'gem5: RAM uncompressed and sparse (quicker)' },
    { flags: '--cpu <line>', summary: 'machines: the -cpu that the guest was started with' },
    {
      flags: '--tsc <ticks>',
      summary: 'machines: the guest’s time-stamp counter, which Palacios does not save',
    },
    {
      flags: '--vmlinux <file>',
      summary:
        'machines: symbols of the guest’s kernel (vmlinux, System.map, kallsyms): finds its CPU features and clock',
    },
    {
      flags: '--ignore-cpu',
      summary: 'gem5: write even where the guest may use CPU features that gem5 lacks',
    },
    {
      flags: '--memory <file>',
      summary: 'palacios: the raw memory dump that belongs to the source checkpoint',
    },
    {
      flags: '--store <kind>',
      summary: 'palacios: how the checkpoint is stored',
      choices: ['textfile', 'file'],
    },
    {
      flags: '--memory-inside',
      summary: 'palacios: the memory in the checkpoint (memory_img), not as a dump beside it',
    },
    { flags: '--paging <kind>', summary: 'palacios: how the guest was paged', choices: ['shadow', 'nested'] },
    { flags: '--binary <file>', summary: 'gem5-se: the executable, for pages that the image does not hold' },
  ],
  examples: [
    ['imago convert linux.qemu --to gem5 -o cpt', 'a Linux that QEMU booted, for gem5'],
    ['imago convert cpt --to qemu --template tiny.qemu -o linux.qemu', 'and back'],
    ['imago convert myckpt --to criu -o dump', 'a core as CRIU images'],
  ],
  async run({ args, options, output }) {
    const { convert } = await import('../../formats/convert.js')
    const made = await missingTemplate(args.image!, options)
    const { losses, hints, target } = await convert(args.image!, { ...options, ...made?.options }).finally(
      () => made?.remove(),
    )
    if (output.json) return output.value({ output: target, losses, hints })
    output.line(`${target} written`)
    for (const hint of hints) output.line(`  ${hint}`)
    if (losses.length > 0) output.line(lossText(losses))
  },
}

/** `--to qemu` without a template: QEMU, where it is installed, makes one of the machine that the image wants. */
async function missingTemplate(image: string, options: Readonly<Record<string, unknown>>) {
  if (options.to !== 'qemu' || options.template !== undefined) return undefined
  const { findProgram } = await import('../../engines/qemu/emulator.js')
  if (findProgram() === undefined) return undefined
  const { templateFor } = await import('../../engines/qemu/pour.js')
  const { template, remove } = await templateFor(image, options)
  return { options: { template }, remove }
}

/** Losses as a block: whole devices on one line, other fields a line a device. */
export function lossText(losses: readonly Loss[]): string {
  const lines: string[] = []
  for (const kind of ['dropped', 'defaulted', 'rounded'] as const) {
    const ofKind = losses.filter(loss => loss.kind === kind)
    const whole = ofKind.filter(({ field }) => field === 'all').map(({ subject }) => subject)
    const subjects = new Set(ofKind.filter(({ field }) => field !== 'all').map(({ subject }) => subject))
    for (const subject of subjects) {
      const fields = ofKind.filter(loss => loss.subject === subject && loss.field !== 'all')
      const shown = fields.slice(0, MOST_FIELDS).map(({ field, detail }) => `${field}: ${detail}`)
      const more =
        fields.length > MOST_FIELDS ? `; and ${fields.length - MOST_FIELDS} more (--json has all)` : ''
      lines.push(`  ${kind.padEnd(9)}  ${subject}: ${shown.join('; ')}${more}`)
    }
    if (whole.length > 0) lines.push(`  ${kind.padEnd(9)}  whole devices: ${whole.join(', ')}`)
  }
  return [`${losses.length} ${losses.length === 1 ? 'thing' : 'things'} lost or changed:`, ...lines].join(
    '\n',
  )
}
const MOST_FIELDS = 4
