import fs from 'node:fs'
import type { IsaName } from '../../model/process.js'
import type { Command } from '../command.js'
import type { Output } from '../output.js'

/** Bytes; smaller images are copied before anybody notices. */
const WORTH_MENTIONING = 256 * 1024 * 1024

export const command: Command = {
  description:
    'A process image (a core or a CRIU directory) of a program that imago cc compiled, frozen at a migration point, becomes an image of the same process on the other ISA. Memory is taken over as it is; registers, native stacks and what the C library keeps a thread are built anew from the shadow frames.',
  arguments: [{ name: 'image', summary: 'the image; it is not changed but by --in-place' }],
  options: [
    { flags: '-t, --to <isa>', summary: 'the ISA to go on with', choices: ['x86-64', 'aarch64'] },
    { flags: '-o, --output <path>', summary: 'where the new image goes; it appears whole or not at all' },
    {
      flags: '--in-place',
      summary:
        'the image (a core) itself becomes the new one: what changed is added to its file, nothing else is copied. If that is cut short, it is the old one',
    },
    {
      flags: '--capabilities <mask>',
      summary:
        'what the target host can give, as CapBnd in its /proc/self/status (default: of this host when it is of that ISA)',
    },
    {
      flags: '--program <file>',
      summary: 'PROG.imago.json, when it is not beside the executable that the image names',
    },
  ],
  examples: [
    ['imago retarget is.dump --to aarch64 -o is.aarch64', 'the dump of is_x86-64, for is_aarch64'],
    ['imago retarget myckpt --to aarch64 --in-place', 'at once, however large it is'],
    ['imago restore is.aarch64', 'goes on, on an arm64 Linux (or under an emulator)'],
  ],
  async run({ args, options, output }) {
    const { UsageError } = await import('../../lib/errors.js')
    const { to, output: target, program, capabilities: given } = options as Record<string, string | undefined>
    if (to === undefined) throw new UsageError('no ISA', { hint: '--to aarch64 or --to x86-64' })
    if ((target === undefined) !== (options.inPlace === true))
      throw new UsageError(
        target === undefined ? 'no place for the new image' : '-o and --in-place exclude each other',
        { hint: '-o PATH, or --in-place' },
      )
    if (given !== undefined && !/^(0x)?[0-9a-f]{1,16}$/i.test(given))
      throw new UsageError('no mask of capabilities', { found: given, expected: 'hexadecimal digits' })
    const { capabilitiesOfHost } = await import('../../engines/live-process.js')
    const capabilities =
      given === undefined ? capabilitiesOfHost(to as IsaName) : BigInt(`0x${given.replace(/^0x/i, '')}`)
    const { retargetImage } = await import('../../retarget/retarget-image.js')
    const result = await retargetImage({
      source: args.image!,
      target,
      to: to as IsaName,
      program,
      capabilities,
    })
    noteCopy(result.target, target !== undefined, output)
    if (output.json) return output.value(result)
    output.line(`${result.target} written: ${result.from} → ${result.to}`)
    for (const { tid, functions } of result.threads)
      output.line(`  thread ${tid}: ${shorten(functions).join(' ← ')}`)
    for (const remark of result.remarks) output.line(`  ${remark}`)
    for (const { kind, subject, field, detail } of result.losses)
      output.line(`  ${kind} ${subject} ${field}: ${detail}`)
  },
}

/** A core is one file: its memory had to be copied, where the file system does not share blocks. */
function noteCopy(image: string, isNew: boolean, output: Output): void {
  const stat = fs.statSync(image)
  const stored = stat.blocks * 512
  if (isNew && stat.isFile() && stored >= WORTH_MENTIONING)
    output.note(
      `${Math.round(stored / 1024 / 1024)} MiB were copied, unless this file system shares them; with --in-place nothing is`,
    )
}

/** Recursions are deep: the ends of a long chain tell enough. */
function shorten(functions: readonly string[]): readonly string[] {
  if (functions.length <= 8) return functions
  return [...functions.slice(0, 5), `… ${functions.length - 7} more …`, ...functions.slice(-2)]
}
