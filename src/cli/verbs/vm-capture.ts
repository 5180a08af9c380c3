import { parseTime } from '../../lib/quantities.js'
import type { Command } from '../command.js'
import { bytesText } from '../output.js'
import { Progress } from '../progress.js'
import { lineFrom, machineOptions, moreWords } from './machine-options.js'

export const command: Command = {
  description:
    "Starts QEMU with a machine that translates well to gem5 and Palacios, waits for the moment, stops the machine and saves it. Beside the image, IMAGE.json keeps the machine's command line for 'imago vm resume'.",
  arguments: [moreWords],
  options: [
    { flags: '--kernel <file>', summary: 'Linux kernel (bzImage) or multiboot program' },
    { flags: '--initrd <file>', summary: 'initial RAM disk' },
    {
      flags: '--append <words>',
      summary: "the kernel's command line (one that translates well unless given)",
    },
    ...machineOptions,
    {
      flags: '--until <moment>',
      summary: "'serial:TEXT', 'time:5s' or 'instructions:N' (with --icount)",
      default: 'time:5s',
    },
    {
      flags: '--timeout <time>',
      summary: "how long to wait for the text of 'serial:TEXT', or for a sleeping guest",
      default: '10m',
    },
    { flags: '--serial <file>', summary: "write what the guest prints to a file, '-' for stderr" },
    { flags: '-o, --output <image>', summary: 'where the image goes' },
  ],
  examples: [
    [
      "imago vm capture --kernel vmlinuz --initrd initrd --until 'serial:login:' -o booted",
      'a Linux that has booted',
    ],
    [
      'imago vm capture --kernel k --icount --until instructions:1000000000 -o billion',
      'the same at every run',
    ],
    ['imago vm capture --kernel k -o image -- -vga std -device e1000', 'with devices of your own'],
  ],
  async run(invocation) {
    const { options, output } = invocation
    const { UsageError } = await import('../../lib/errors.js')
    const { capture } = await import('../../engines/qemu/capture.js')
    const { DEFAULT_APPEND, DEFAULT_LINE } = await import('../../engines/qemu/machine-line.js')
    const { parseMoment } = await import('../../engines/qemu/until.js')
    const target = options.output as string | undefined
    if (target === undefined) throw new UsageError('say where the image goes: -o IMAGE')
    const kernel = options.kernel as string | undefined
    const initrd = options.initrd as string | undefined
    const timeout = parseTime(options.timeout as string)
    await checkFiles({ kernel, initrd, target })
    const serial = await openSerial(options.serial as string | undefined)
    const progress = new Progress('capture')
    try {
      const result = await capture({
        line: lineFrom(invocation, DEFAULT_LINE),
        boot: {
          kernel,
          initrd,
          append: (options.append as string | undefined) ?? (kernel && initrd ? DEFAULT_APPEND : undefined),
        },
        until: parseMoment(options.until as string),
        output: target,
        timeout,
        onSerial: serial,
        onProgress: (fraction, detail) => progress.update(fraction, detail),
      })
      progress.done()
      if (output.json) output.value(result)
      else
        output.line(
          `${target}: ${bytesText(result.bytes)}${result.instructions === undefined ? '' : `, after ${result.instructions} instructions`}, QEMU ${result.qemu}`,
        )
    } finally {
      progress.done()
    }
  },
}

/** What would only come out once the machine has been booted for nothing. @throws UsageError */
async function checkFiles(files: {
  readonly kernel: string | undefined
  readonly initrd: string | undefined
  readonly target: string
}): Promise<void> {
  const fs = await import('node:fs')
  const path = await import('node:path')
  const { UsageError } = await import('../../lib/errors.js')
  for (const option of ['kernel', 'initrd'] as const) {
    const file = files[option]
    if (file !== undefined && !fs.existsSync(file))
      throw new UsageError(`--${option}: there is no such file`, { file })
  }
  const folder = path.dirname(path.resolve(files.target))
  if (!fs.existsSync(folder)) throw new UsageError('the folder of the image does not exist', { file: folder })
  if (fs.existsSync(files.target) && fs.statSync(files.target).isDirectory())
    throw new UsageError('the image would replace a folder', { file: files.target })
}

/** A function that takes what the guest prints, or undefined when nobody wants it. */
async function openSerial(target: string | undefined): Promise<((bytes: Uint8Array) => void) | undefined> {
  if (target === undefined) return undefined
  if (target === '-') return bytes => void process.stderr.write(bytes)
  const fs = await import('node:fs')
  const fd = fs.openSync(target, 'w')
  return bytes => {
    fs.writeSync(fd, bytes)
  }
}
