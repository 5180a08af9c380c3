import type { Command, Invocation } from '../command.js'
import { columns } from '../output.js'
import { Progress } from '../progress.js'

export const command: Command = {
  description:
    'Steps two machines and compares their registers after each instruction. A side is a machine image (resumed in QEMU, standing still), a gdb stub that already waits (gdb:HOST:PORT, gdb:SOCKET: QEMU or gem5), or a file with the text of a gem5 Exec trace. Exit code 1 when they differ.',
  arguments: [
    { name: 'a', summary: 'image, gdb:HOST:PORT or trace file' },
    { name: 'b', summary: 'image, gdb:HOST:PORT or trace file' },
  ],
  options: [{ flags: '--steps <n>', summary: 'instructions to compare', default: '1000' }],
  examples: [
    ['imago compare-run linux.qemu back.qemu --steps 10000', 'before and after a conversion'],
    ['imago compare-run linux.qemu exec.trace --steps 10000', 'QEMU beside what gem5 printed'],
  ],
  async run({ args, options, output }: Invocation) {
    const { UsageError } = await import('../../lib/errors.js')
    const { hex } = await import('../../lib/bytes.js')
    const { compareRuns } = await import('../../engines/qemu/compare.js')
    const { openSide } = await import('../../engines/qemu/sides.js')
    const steps = Number(options.steps)
    if (!Number.isSafeInteger(steps) || steps < 0)
      throw new UsageError(`'${String(options.steps)}' is no number of instructions`)
    const first = await openSide(args.a!)
    const second = await openSide(args.b!).catch(async (error: unknown) => {
      await first.close()
      throw error
    })
    const progress = new Progress('compare')
    try {
      const result = await compareRuns(first.side, second.side, steps, fraction => progress.update(fraction))
      progress.done()
      if (output.json) output.value(result)
      else if (result.differences.length > 0) {
        output.line(
          result.rip === undefined
            ? 'they differ from the start'
            : `they differ after instruction ${result.steps}, at ${hex(result.rip)}`,
        )
        output.line(
          columns(
            [
              ['register', first.side.name, second.side.name],
              ...result.differences.map(difference => [
                difference.register,
                hex(difference.first),
                hex(difference.second),
              ]),
            ],
            { indent: '  ' },
          ),
        )
      } else {
        output.line(`the same for ${result.steps} instructions`)
        if (result.ended !== undefined) output.note(`${result.ended} has no more`)
      }
      return result.differences.length > 0 ? 1 : 0
    } finally {
      progress.done()
      await first.close()
      await second.close()
    }
  },
}
