import type { Command } from '../command.js'

export const command: Command = {
  description:
    'A process image: processes, threads with the function each is in, memory by kind, files, signals, timers.\nA machine image: CPU, interrupt controllers, timers, devices, memory.',
  arguments: [{ name: 'image', summary: 'an image of any format that imago reads' }],
  options: [
    { flags: '-m, --maps', summary: 'every mapping on a line' },
    { flags: '-r, --registers', summary: 'all registers of every thread or CPU' },
    { flags: '--vmlinux <file>', summary: 'a machine’s kernel with symbols: names the current function' },
  ],
  examples: [
    ['imago inspect myckpt', 'what was the program doing?'],
    ['imago inspect dump/ --json | jq .processes[0].files', 'the open files of a CRIU dump'],
  ],
  async run({ args, options, output }) {
    const { readImage } = await import('../../formats/registry.js')
    const read = await readImage(args.image!)
    if (read.kind === 'machine') {
      const { machineImageJson, machineImageText } = await import('../views/machine.js')
      if (output.json) output.value(machineImageJson(read.image))
      else
        output.line(
          machineImageText(read.image, {
            registers: options.registers === true,
            ...(typeof options.vmlinux === 'string' ? { vmlinux: options.vmlinux } : {}),
          }),
        )
      return
    }
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
}
