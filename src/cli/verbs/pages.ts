import type { ReadImage } from '../../formats/registry.js'
import type { Command, Invocation } from '../command.js'
import type { Output } from '../output.js'

export const command: Command = {
  description:
    "Lists which pages the image's files hold, page by page as one would edit them by hand: index, address, mapping, and\n" +
    "what lies there by the program's own sections. Warns of words that point into the vDSO or vvar of the image: carried\n" +
    'to another machine, they crash the program.',
  arguments: [{ name: 'image', summary: 'a process image (a CRIU directory, a core, …)' }],
  options: [
    {
      flags: '--binary <file>',
      summary:
        'executable to take sections and symbols from, instead of the path in the image; lists symbols by page',
    },
    { flags: '--symbols', summary: 'list symbols by page, of all executables and libraries found' },
    { flags: '--pid <pid>', summary: 'this process only' },
  ],
  examples: [
    ['imago pages ./image', 'page ranges and what they hold'],
    ['imago pages ./image --binary ./is_aarch64', 'sections and symbols of a binary that lies elsewhere'],
  ],
  async run({ args, options, output }) {
    const { withImages } = await import('../../formats/registry.js')
    return withImages([args.image!], read => showPages(read, args.image!, options, output))
  },
}

async function showPages(
  read: ReadImage,
  path: string,
  options: Invocation['options'],
  output: Output,
): Promise<void> {
  const { LossError, UsageError } = await import('../../lib/errors.js')
  const { ElfFile } = await import('../../lib/elf.js')
  const { Symbolizer } = await import('../../lib/symbolizer.js')
  const { LoadedFiles } = await import('../../model/loaded-files.js')
  const { pageBreakdown } = await import('../../model/page-breakdown.js')
  const { vdsoPointers } = await import('../../model/vdso-pointers.js')
  const view = await import('../views/pages.js')

  if (read.kind !== 'process')
    throw new LossError('only process images have a page breakdown', {
      file: path,
      found: read.format.name,
    })
  const { image } = read
  const pid = options.pid === undefined ? undefined : Number(options.pid)
  const processes = image.processes.filter(each => each.state !== 'zombie' && (pid ?? each.pid) === each.pid)
  if (processes.length === 0)
    throw new UsageError(`the image holds no process ${options.pid ?? ''}`, {
      expected: image.processes.map(each => each.pid).join(', '),
    })
  const symbolizer = new Symbolizer()
  const binary = typeof options.binary === 'string' ? ElfFile.open(options.binary) : undefined
  const breakdowns = processes.map(process => {
    const open = (file: string) =>
      binary !== undefined && file === process.executable ? binary : symbolizer.file(file)
    const loaded = new LoadedFiles(process, image.isa, open)
    if (binary !== undefined && !loaded.files.some(file => file.elf === binary))
      output.warn(
        `${options.binary} does not fit the executable of process ${process.pid} (another ISA or layout)`,
      )
    return { process, loaded, runs: pageBreakdown(process, loaded), pointers: [...vdsoPointers(process)] }
  })
  if (output.json)
    output.value({
      processes: breakdowns.map(each => ({
        pid: each.process.pid,
        name: each.process.name,
        pages: each.runs.map(({ mapping, ...run }) => ({ ...run, mapping: mapping?.kind })),
        vdsoPointers: each.pointers.map(pointer => view.pointerFacts(pointer, each)),
      })),
    })
  else
    for (const each of breakdowns) {
      output.line(view.breakdownText(each, options.symbols === true || binary !== undefined))
      for (const warning of view.pointerWarnings(each)) output.warn(warning)
    }
}
