import type { RestoreOptions } from '../../engines/engine.js'
import { engines } from '../../engines/engines.js'
import { UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'
import { Progress } from '../progress.js'

export const command: Command = {
  description:
    'The program goes on where it was, with its files, pipes, threads and timers, on this terminal. Memory is read from the image when it is touched, so keep the image unchanged while the program lives (a new image under the same name is fine).',
  arguments: [{ name: 'image', summary: 'an image that an engine made' }],
  options: [
    { flags: '-d, --detach', summary: 'leave it running in the background, print its pid' },
    { flags: '--eager', summary: 'read all memory now' },
    { flags: '--verify', summary: 'check all memory against its checksums first (default: up to 64 MiB)' },
    { flags: '--lazy', summary: 'check none of it, whatever its size' },
    {
      flags: '--files <policy>',
      summary: 'files that changed since: keep them, truncate what grew, restore the content where kept',
      choices: ['keep', 'truncate', 'restore'],
      default: 'keep',
    },
    {
      flags: '--pid <policy>',
      summary: 'its old process id: when this user may (auto), or not at all, or in a namespace of its own',
      choices: ['auto', 'same', 'new', 'namespace'],
      default: 'auto',
    },
    { flags: '--engine <engine>', summary: 'default: the one that made the image' },
  ],
  examples: [
    ['imago restore job.ckpt', 'on this terminal, with the exit code of the program'],
    ['imago restore -d job.ckpt', 'in the background'],
  ],
  async run({ args, options, output }) {
    const image = args.image!
    const { detectFormat } = await import('../../formats/registry.js')
    const format = detectFormat(image).name
    const entry = engines.find(engine =>
      options.engine === undefined ? engine.formats.includes(format) : engine.name === options.engine,
    )
    if (entry === undefined)
      throw new UsageError(
        options.engine === undefined
          ? `no engine restores images of format ${format}`
          : `no engine is called '${String(options.engine)}'`,
        {
          expected: engines.map(engine => `${engine.name} (${engine.formats.join(', ')})`).join(', '),
        },
      )
    const progress = new Progress('restore')
    const restored = await (await entry.load()).restore(image, {
      detach: options.detach === true,
      eager: options.eager === true,
      verify: options.verify === true ? true : options.lazy === true ? false : undefined,
      files: options.files as RestoreOptions['files'],
      pid: options.pid as RestoreOptions['pid'],
      onProgress: (fraction, detail) => progress.update(fraction, detail),
    })
    progress.done()
    for (const remark of restored.remarks) output.note(`note: ${remark}`)
    if (options.detach !== true) return await restored.wait()
    if (output.json) output.value({ pid: restored.pid, remarks: restored.remarks })
    else output.line(String(restored.pid))
    return 0
  },
}
