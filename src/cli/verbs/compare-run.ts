import type { Comparison } from '../../engines/qemu/compare.js'
import { hex } from '../../lib/bytes.js'
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
    const { compareRuns } = await import('../../engines/qemu/compare.js')
    const { openSide } = await import('../../engines/qemu/sides.js')
    const steps = Number(options.steps)
    if (!Number.isSafeInteger(steps) || steps < 0)
      throw new UsageError(`'${String(options.steps)}' is no number of instructions`)
    const { interruptible } = await import('../../engines/qemu/interruptible.js')
    return interruptible('they were not compared to the end', async abort => {
      const first = await openSide(args.a!, abort)
      const second = await openSide(args.b!, abort).catch(async (error: unknown) => {
        await first.close()
        throw error
      })
      const progress = new Progress('compare')
      try {
        const result = await compareRuns(first.side, second.side, steps, fraction =>
          progress.update(fraction),
        )
        abort.throwIfAborted()
        progress.done()
        if (output.json) output.value(result)
        else print(result, [first.side.name, second.side.name], output)
        return result.differences.length > 0 ? 1 : 0
      } finally {
        progress.done()
        await first.close()
        await second.close()
      }
    })
  },
}

function print(result: Comparison, names: readonly [string, string], output: Invocation['output']): void {
  if (result.differences.length === 0) {
    output.line(`the same for ${result.steps} instructions`)
    if (result.ended !== undefined) output.note(`${result.ended} has no more`)
    return
  }
  output.line(
    result.rip === undefined
      ? 'they differ from the start'
      : `they differ after instruction ${result.steps}, at ${hex(result.rip)}`,
  )
  const rows = result.differences.map(({ register, first, second }) => [register, hex(first), hex(second)])
  output.line(columns([['register', ...names], ...rows], { indent: '  ' }))
}
