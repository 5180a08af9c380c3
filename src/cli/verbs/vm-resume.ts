import type { Command } from '../command.js'
import { lineFrom, machineOptions, moreWords } from './machine-options.js'

export const command: Command = {
  description:
    'Brings a machine image back to life in QEMU, its serial line on this terminal (Ctrl-C ends it). An image of another format (gem5, Palacios) is poured into a fresh template first. Machine and processor come from the record beside the image, else from the image itself and the options.',
  arguments: [{ name: 'image', summary: 'a machine image of any format' }, moreWords],
  options: [
    { flags: '--engine <name>', summary: 'who runs it', choices: ['qemu'], default: 'qemu' },
    ...machineOptions,
  ],
  examples: [
    ['imago vm resume booted', 'goes on where it was captured'],
    ['imago vm resume cpt.1000000/', 'a gem5 checkpoint goes on in QEMU'],
  ],
  async run(invocation) {
    const { args, output } = invocation
    const fs = await import('node:fs')
    const { asStream } = await import('../../engines/qemu/pour.js')
    const { resume } = await import('../../engines/qemu/resume.js')
    const { rememberTerminal } = await import('../../engines/qemu/terminal.js')
    const poured = await asStream(args.image!, line => lineFrom(invocation, line))
    const restoreTerminal = rememberTerminal()
    try {
      for (const loss of poured.losses)
        output.note(`${loss.kind}: ${loss.subject}: ${loss.field}: ${loss.detail}`)
      // Both get Ctrl-C from the terminal; QEMU puts the terminal back in order and ends, then so do we.
      process.on('SIGINT', () => {})
      const emulator = await resume(poured.stream, { line: poured.line, serial: 'terminal' })
      process.once('SIGTERM', () => emulator.terminate())
      try {
        return await emulator.wait()
      } finally {
        await emulator.stop()
      }
    } finally {
      restoreTerminal()
      if (poured.temporary !== undefined) fs.rmSync(poured.temporary, { recursive: true, force: true })
    }
  },
}
