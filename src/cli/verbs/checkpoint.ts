import { engines } from '../../engines/engines.js'
import { type Command, timeOf } from '../command.js'
import { bytesText, durationText } from '../output.js'
import { Progress } from '../progress.js'

export const command: Command = {
  description:
    'The image appears under its name only when it is complete and verified. The program goes on meanwhile, from a copy of it the image is written; with --stop it stands still, and ends when the image is there.',
  arguments: [{ name: 'program', summary: 'a process id, or the name of a running program' }],
  options: [
    {
      flags: '-o, --output <image>',
      summary: 'where it goes (default: as the program was started; else myckpt, where it works)',
    },
    { flags: '--stop', summary: 'end the program once its image is verified' },
    { flags: '--compress', summary: 'compress the image (zstd); gdb cannot open it then' },
    { flags: '--blocking', summary: 'stand still until the image is written' },
    { flags: '--force', summary: 'leave out what cannot be kept, instead of refusing' },
    {
      flags: '--with-files',
      summary: 'keep the content of all files open for writing (otherwise up to 1 MiB)',
    },
    {
      flags: '--patience <time>',
      summary:
        'how long its threads may take to come where they can be frozen, before it goes on without an image (default: 30s)',
    },
    {
      flags: '--engine <engine>',
      summary: 'how it is frozen: from inside (preload, the default where it can) or from outside (criu)',
      choices: engines.map(engine => engine.name),
    },
  ],
  examples: [
    ['imago checkpoint 4711 -o job.ckpt', 'the program goes on'],
    ['imago checkpoint python3 -o job.ckpt --stop', 'by name, and end it'],
  ],
  async run({ args, options, output }) {
    const { checkpointSource } = await import('../../engines/source.js')
    const { pid, engine } = await checkpointSource(args.program!, options.engine as string | undefined)
    const progress = new Progress('checkpoint')
    const result = await engine.checkpoint(pid, {
      output: options.output as string | undefined,
      stop: options.stop === true,
      force: options.force === true,
      blocking: options.blocking === true,
      includeFiles: options.withFiles === true,
      compress: options.compress === true,
      patience: timeOf(options.patience),
      onProgress: (fraction, detail) => progress.update(fraction, detail),
    })
    progress.done()
    if (output.json) return output.value(result)
    output.line(result.path)
    const pause =
      result.pauseMs === undefined
        ? ''
        : `, ${options.stop ? 'standing still' : 'pause'} ${durationText(result.pauseMs)}`
    output.note(`${bytesText(result.bytes)}${pause}, verified after ${durationText(result.totalMs)}`)
  },
}
