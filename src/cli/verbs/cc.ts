import type { Command } from '../command.js'
import { columns } from '../output.js'

export const command: Command = {
  description:
    'Makes PROG_x86-64 and PROG_aarch64, static and with one layout, and PROG.imago.json, which tells retarget how to move a running PROG from one to the other. Takes the options of a C compiler and works as CC in a Makefile: its .o files carry IR. Polls, where a program may be moved, are placed so that every loop and every recursion holds one; --migrate-at (entries, loops, explicit, names of functions) says otherwise. With explicit, the program calls imago_migrate() of <imago.h>.',
  arguments: [{ name: 'words', summary: 'files and options, as for cc', variadic: true }],
  rawWords: true,
  examples: [
    ['imago cc -O2 is.c -o is', 'is_x86-64, is_aarch64, is.imago.json'],
    ['make CC="imago cc" LD="imago cc"', 'several files: -c makes .o files with IR, the last call links'],
    ['imago cc --migrate-at loops,solve prog.c -o prog', 'polls in all loops, and in all of solve'],
    ['imago cc --map prog.c -o prog', 'and print the layout: address, size on each ISA, section, file'],
  ],
  async run({ args, output }) {
    const { parseCompilerOptions } = await import('../../toolchain/options.js')
    const words = args.rest.filter(word => word !== '--json' && word !== '--quiet' && word !== '-q')
    const options = parseCompilerOptions(words)
    const { build } = await import('../../toolchain/build.js')
    const built = await build(options)
    if (built.said !== '') output.note(built.said.trimEnd())
    if (output.json) {
      const { layout: _, ...facts } = built
      return output.value(options.map ? built : facts)
    }
    if (options.map && built.layout) {
      const hex = (value: number) => `0x${value.toString(16)}`
      const rows = built.layout.sections.map(each => [
        hex(each.address),
        String(each.sizes['x86-64'] ?? '-'),
        String(each.sizes.aarch64 ?? '-'),
        each.section,
        each.file,
      ])
      output.line(
        columns([['address', 'x86-64', 'aarch64', 'section', 'file'], ...rows], { right: [0, 1, 2] }),
      )
    }
    if (options.verbose)
      output.note(
        `${built.sites} sites in ${built.functions} functions, ${built.polls} polls, ${built.symbols} symbols at one address: ${built.files.join(', ')}`,
      )
  },
}
