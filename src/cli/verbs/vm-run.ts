import path from 'node:path'
import type { Command, Option } from '../command.js'
import { environmentOf, memorySize, milliseconds } from '../vm-options.js'

/** Shared with `vm restore`. */
export const sessionOptions: readonly Option[] = [
  { flags: '-o, --output <image>', summary: 'image that a save writes (default: PROGRAM.vm)' },
  { flags: '--keep-running', summary: 'go on after a save instead of ending' },
  { flags: '--with-files', summary: 'store the content of open files in the image, too' },
  { flags: '--root <folder>', summary: 'folder that the guest sees as / (default: the current one)' },
  { flags: '--read-only', summary: 'the guest may not change anything below its root' },
  { flags: '--trace', summary: 'print each system call to stderr' },
  { flags: '--timeout <time>', summary: 'end the guest after this time: 500ms, 10s, 5m' },
  {
    flags: '--engine <name>',
    summary: 'what runs the guest (default: kvm where there is one)',
    choices: ['kvm', 'unicorn'],
  },
]

export const command: Command = {
  description:
    'The program is a static x86-64 Linux ELF file (musl is best). It runs in ring 3 of a guest of its own; the monitor serves its system calls, confined to the root folder. System call 400, or SIGUSR2 to the monitor, saves the whole guest with its open files. The exit code is that of the guest.',
  arguments: [
    { name: 'program', summary: 'static ELF program' },
    { name: 'args', summary: 'its arguments', optional: true, variadic: true },
  ],
  options: [
    { flags: '--memory <size>', summary: 'memory of the guest', default: '64M' },
    {
      flags: '--env <name=value>',
      summary: 'a variable of its environment; may be repeated',
      repeatable: true,
    },
    {
      flags: '--seed-image',
      summary:
        "also write the ScratchVM's vm_image.sav and mem2.txt here; the program is linked at 0x9000 and fits into 61,440 bytes",
    },
    ...sessionOptions,
  ],
  examples: [
    ['imago vm run ./prog a b', 'run a program in a guest'],
    ['imago vm run --trace -o prog.vm ./prog', 'show its system calls; a save goes to prog.vm'],
  ],
  passThrough: true,
  async run({ args, options, output }) {
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const { chooseEngine } = await import('../../engines/microvm/engines.js')
    const { runSession } = await import('../vm-session.js')
    const program = args.program!
    const timeoutMs = milliseconds(options.timeout)
    const engine = chooseEngine(options.engine as 'kvm' | 'unicorn' | undefined)
    if (engine === 'unicorn' && options.engine === undefined)
      output.note('imago: without KVM: the guest is emulated, and slow')
    const vm = await MicroVm.start({
      engine,
      readOnly: options.readOnly === true,
      trace: options.trace === true,
      start: {
        kind: 'program',
        file: program,
        argv: [program, ...args.rest],
        environment: environmentOf(options.env as readonly string[] | undefined),
        memorySize: memorySize(options.memory as string),
        rootFolder: path.resolve((options.root as string | undefined) ?? '.'),
        seedLayout: options.seedImage === true,
      },
    })
    const image = path.resolve((options.output as string | undefined) ?? `${path.basename(program)}.vm`)
    try {
      return await runSession(
        vm,
        {
          image,
          keepRunning: options.keepRunning === true,
          withFiles: options.withFiles === true,
          timeoutMs,
          seedFolder: options.seedImage === true ? path.resolve('.') : undefined,
        },
        output,
      )
    } finally {
      await vm.release()
    }
  },
}
