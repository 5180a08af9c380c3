import type { ReadImage } from '../../formats/registry.js'
import type { Command, Invocation } from '../command.js'
import type { Output } from '../output.js'

export const command: Command = {
  description:
    'A process image: processes, threads with the function each is in, memory by kind, files, signals, timers.\nA machine image: CPU, interrupt controllers, timers, devices, memory.',
  arguments: [{ name: 'image', summary: 'an image of any format that imago reads' }],
  options: [
    { flags: '-m, --maps', summary: 'every mapping on a line' },
    { flags: '-r, --registers', summary: 'all registers of every thread or CPU' },
    {
      flags: '--vmlinux <file>',
      summary:
        'symbols of a machine’s kernel (vmlinux, System.map, kallsyms): current function, CPU features',
    },
    { flags: '--memory <file>', summary: 'palacios: the raw memory dump that belongs to the checkpoint' },
  ],
  examples: [
    ['imago inspect myckpt', 'what was the program doing?'],
    ['imago inspect dump/ --json | jq .processes[0].files', 'the open files of a CRIU dump'],
  ],
  async run({ args, options, output }) {
    const { withImages } = await import('../../formats/registry.js')
    return withImages(
      [args.image!],
      async read => {
        if (read.kind === 'machine') return showMachine(read, args.image!, options, output)
        const { processImageJson, processImageText } = await import('../views/process.js')
        if (output.json) return output.value(processImageJson(read.image))
        const { addressNamer } = await import('../views/symbols.js')
        output.line(
          processImageText(read.image, {
            maps: options.maps === true,
            registers: options.registers === true,
            nameAddress: addressNamer(),
          }),
        )
      },
      options,
    )
  },
}

async function showMachine(
  { format, image }: ReadImage & { kind: 'machine' },
  path: string,
  options: Invocation['options'],
  output: Output,
): Promise<void> {
  const { machineImageJson, machineImageText } = await import('../views/machine.js')
  const guest = await guestBlock(format.name, path)
  const view = {
    registers: options.registers === true,
    ...(typeof options.vmlinux === 'string' ? { vmlinux: options.vmlinux } : {}),
  }
  if (output.json)
    return output.value({ ...machineImageJson(image, view), ...(guest && { upcoming: guest.upcoming }) })
  if (guest !== undefined) output.line(`${guest.text}\n`)
  output.line(await machineImageText(image, view))
}

/** For a guest of a micro-VM: the block that the ScratchVM prints, and the instructions at rip in words. */
async function guestBlock(format: string, image: string) {
  if (format !== 'microvm' && format !== 'scratchvm') return undefined
  const { blockOf } = await import('../views/block-of.js')
  const { scratchBlock } = await import('../views/scratch-block.js')
  const { disassemble } = await import('../../isa/disassemble.js')
  const { columns } = await import('../output.js')
  const block = await blockOf(image)
  const upcoming = (await disassemble('x86-64', block.instructions, block.rip)).map(
    ({ address, bytes, text }) => ({
      address: `0x${address.toString(16)}`,
      bytes: Buffer.from(bytes).toString('hex'),
      text,
    }),
  )
  const rows = upcoming.map(({ address, bytes, text }) => [address, bytes, text])
  const lines = scratchBlock(block)
  lines.splice(-1, 0, ...(rows.length > 0 ? [columns(rows, { indent: '  ' })] : []))
  return { text: lines.join('\n'), upcoming }
}
