import path from 'node:path'
import { HostError, UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'
import { guestFrom, programFrom, programOptions, sessionFrom, sessionOptions } from '../vm/options.js'

export const command: Command = {
  description:
    'The program is a static x86-64 Linux ELF file (musl is best). It runs in ring 3 of a guest of its own; the monitor serves its system calls, confined to the root folder. System call 400, SIGUSR2 to the monitor, or imago checkpoint with its process id saves the whole guest with its open files. The exit code is that of the guest.',
  arguments: [
    { name: 'program', summary: 'static ELF program', optional: true },
    { name: 'args', summary: 'its arguments', optional: true, variadic: true },
  ],
  options: [
    ...programOptions,
    {
      flags: '--seed-image',
      summary:
        "also write the ScratchVM's vm_image.sav and mem2.txt here; the program is linked at 0x9000 and fits into 61,440 bytes",
    },
    {
      flags: '--boot <flat>',
      summary:
        "the ScratchVM's boot: this flat file begins at 0x8000 in real mode and enters the program of --program, linked at 0x9000, in long mode",
    },
    { flags: '--program <elf>', summary: 'with --boot: the program (all words are its arguments then)' },
    ...sessionOptions,
  ],
  examples: [
    ['imago vm run ./prog a b', 'run a program in a guest'],
    ['imago vm run --trace -o prog.vm ./prog', 'show its system calls; a save goes to prog.vm'],
    ['imago vm run --boot boot.bin --program prog', 'begin in real mode, as the ScratchVM does (KVM)'],
  ],
  passThrough: true,
  async run({ args, options, output }) {
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const boot = options.boot as string | undefined
    const named = options.program as string | undefined
    if ((boot === undefined) !== (named === undefined))
      throw new UsageError('--boot and --program belong together')
    if (boot !== undefined && options.engine === 'unicorn')
      throw new UsageError('engine unicorn does not boot: --boot is for KVM')
    const program = named ?? args.program
    if (program === undefined) throw new UsageError('no program', { expected: 'imago vm run PROGRAM' })
    const words = named === undefined || args.program === undefined ? args.rest : [args.program, ...args.rest]
    const seed = options.seedImage === true
    const session = sessionFrom(options, `${path.basename(program)}.vm`)
    const guest = await guestFrom(options, output)
    if (boot !== undefined && guest.engine !== 'kvm')
      throw new HostError('--boot needs KVM: there is no /dev/kvm here that may be used', {
        hint: 'leave --boot out: imago vm run --seed-image PROGRAM enters long mode directly',
      })
    const start = { ...programFrom(options, program, words), seedLayout: seed, bootFile: boot }
    // What comes after it is loaded while its thread makes the guest.
    const [vm, { runSession }] = await Promise.all([
      MicroVm.start({ ...guest, start }),
      import('../vm/session.js'),
    ])
    if (vm.boundToCpu)
      output.note(
        "imago: a glibc program chooses its code by this host's CPU: its images go on only where the CPU can do as much (musl programs go on anywhere)",
      )
    try {
      return await runSession(vm, { ...session, seedFolder: seed ? path.resolve('.') : undefined }, output)
    } finally {
      await vm.release()
    }
  },
}
