import path from 'node:path'
import type { Command } from '../command.js'
import { milliseconds } from '../vm-options.js'
import { sessionOptions } from './vm-run.js'

export const command: Command = {
  description:
    'The guest goes on where it was saved: memory is mapped from the image, so this takes a few milliseconds whatever its size; files are reopened at their offsets. The image must stay as it is while the guest runs.',
  arguments: [{ name: 'image', summary: "a microvm image, or the ScratchVM's vm_image.sav" }],
  options: [
    {
      flags: '--files <policy>',
      summary: 'what to do when an open file has changed since',
      choices: ['refuse', 'reopen', 'restore-content'],
      default: 'refuse',
    },
    { flags: '--ignore-cpu', summary: 'go on though this CPU lacks features the program was started with' },
    ...sessionOptions,
  ],
  examples: [['imago vm restore prog.vm', 'go on']],
  async run({ args, options, output }) {
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const { chooseEngine } = await import('../../engines/microvm/engines.js')
    const { printBlock, runSession } = await import('../vm-session.js')
    const image = path.resolve(args.image!)
    const timeoutMs = milliseconds(options.timeout)
    const engine = chooseEngine(options.engine as 'kvm' | 'unicorn' | undefined)
    if (engine === 'unicorn' && options.engine === undefined)
      output.note('imago: without KVM: the guest is emulated, and slow')
    const vm = await MicroVm.start({
      engine,
      readOnly: options.readOnly === true,
      trace: options.trace === true,
      start: {
        kind: 'image',
        path: image,
        rootFolder: options.root === undefined ? undefined : path.resolve(options.root as string),
        files: options.files as 'refuse' | 'reopen' | 'restore-content',
        ignoreCpu: options.ignoreCpu === true,
      },
    })
    try {
      await printBlock(image, output)
      return await runSession(
        vm,
        {
          image: path.resolve((options.output as string | undefined) ?? image.replace(/\.sav$/, '.vm')),
          keepRunning: options.keepRunning === true,
          withFiles: options.withFiles === true,
          timeoutMs,
        },
        output,
      )
    } finally {
      await vm.release()
    }
  },
}
