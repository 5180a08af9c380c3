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
    const { interruptible } = await import('../../engines/qemu/interruptible.js')
    const { asStream } = await import('../../engines/qemu/pour.js')
    const { resume } = await import('../../engines/qemu/resume.js')
    const { rememberTerminal } = await import('../../engines/qemu/terminal.js')
    const restoreTerminal = rememberTerminal()
    let temporary: string | undefined
    try {
      const emulator = await interruptible('nothing was resumed', async abort => {
        const poured = await asStream(args.image!, line => lineFrom(invocation, line))
        temporary = poured.temporary
        for (const loss of poured.losses)
          output.note(`${loss.kind}: ${loss.subject}: ${loss.field}: ${loss.detail}`)
        return resume(poured.stream, { line: poured.line, serial: 'terminal', abort })
      })
      // QEMU puts the terminal back in order and ends, then so do we. (At the terminal it gets Ctrl-C itself, too.)
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => emulator.terminate())
      try {
        return await emulator.wait()
      } finally {
        await emulator.stop()
      }
    } finally {
      restoreTerminal()
      if (temporary !== undefined) fs.rmSync(temporary, { recursive: true, force: true })
    }
  },
}
