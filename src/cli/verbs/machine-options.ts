/** The options that `vm capture`, `vm template` and `vm resume` share: what the machine is. */
import type { MachineLine } from '../../engines/qemu/machine-line.js'
import { UsageError } from '../../lib/errors.js'
import { parseSize } from '../../lib/quantities.js'
import type { Argument, Invocation, Option } from '../command.js'

export const machineOptions: readonly Option[] = [
  { flags: '--memory <size>', summary: 'RAM: 128M, 2G' },
  { flags: '--cpu <model>', summary: "QEMU's -cpu (the default offers what gem5 offers too)" },
  { flags: '--machine <type>', summary: "QEMU's -M" },
  { flags: '--icount', summary: 'count instructions: 1 ns of guest time each, the same at every run' },
]

/** Words after `--` go to QEMU as they are. */
export const moreWords: Argument = {
  name: 'qemu-words',
  summary: "after '--': more words for QEMU, such as -device e1000",
  optional: true,
  variadic: true,
}

/** What the command line says of the machine, over `base`. */
export function lineFrom(invocation: Invocation, base: MachineLine): MachineLine {
  const { options, args } = invocation
  return {
    machine: (options.machine as string | undefined) ?? base.machine,
    cpu: (options.cpu as string | undefined) ?? base.cpu,
    memory: options.memory === undefined ? base.memory : parseMemory(options.memory as string),
    icount: options.icount === true ? 0 : base.icount,
    more: args.rest.length > 0 ? args.rest : base.more,
  }
}

const GIB = 2 ** 30
/** Other platforms have their devices from 3 to 4 GiB; QEMU has RAM up to 3.5 GiB there, unless there is more (hw/i386/pc_piix.c). */
const fits = (bytes: number) =>
  (bytes >= 2 ** 20 && bytes <= 3 * GIB) || (bytes >= 3.5 * GIB && bytes <= 64 * GIB)

/** `128M` → bytes. @throws UsageError for what is no whole number of MiB, or RAM that only QEMU has. */
function parseMemory(text: string): number {
  const bytes = parseSize(text)
  if (!fits(bytes) || bytes % 2 ** 20 !== 0)
    throw new UsageError(`'${text}' is no size of memory`, {
      expected:
        'whole MiB up to 3G, or from 3584M to 64G: what lies between QEMU has where other platforms have devices',
    })
  return bytes
}
