import { HostError, UsageError } from '../../lib/errors.js'
import { parseTime } from '../../lib/quantities.js'
import type { Command } from '../command.js'
import { bytesText, durationText } from '../output.js'

export const command: Command = {
  description:
    'Starts the program with libckpt.so inside (LD_PRELOAD). It runs as ever, at no cost, until it is asked for a checkpoint: by imago checkpoint, or by kill -12 PID, which writes the image myckpt in its working directory.',
  arguments: [{ name: 'prog', summary: 'the program and its arguments', variadic: true }],
  passThrough: true,
  options: [
    {
      flags: '-o, --output <image>',
      summary: 'name of its images; %p is the pid, %n the number of the checkpoint',
    },
    { flags: '--interval <time>', summary: 'take a checkpoint again and again: 30s, 10m' },
    { flags: '--compress', summary: 'compress the images that --interval takes (zstd)' },
    {
      flags: '--signal <number>',
      summary: 'signal that asks for a checkpoint (12, SIGUSR2), for programs that use it themselves',
    },
    {
      flags: '--until <place>',
      summary:
        'run it to an address, or through the first call of a function, and leave it there, stopped; prints its PID',
    },
    { flags: '--force', summary: 'leave out what cannot be kept, instead of refusing' },
    { flags: '--blocking', summary: 'stand still until the image is written' },
    {
      flags: '--with-files',
      summary: 'keep the content of all files open for writing (otherwise up to 1 MiB)',
    },
  ],
  examples: [
    ['imago run -- python3 train.py', 'start it; later: imago checkpoint python3 -o train.ckpt --stop'],
    [
      'imago run --until 0x50146f ./bt',
      'the debugger of the cross-ISA notes: stopped at that address; kill -CONT goes on',
    ],
    ['imago run -o job-%n.ckpt --interval 10m -- ./job', 'an image every ten minutes'],
  ],
  async run({ args, options, output }) {
    const { assertCanCarryLibrary, environmentFor, findProgram } = await import(
      '../../engines/preload/run.js'
    )
    if (args.rest.length === 0) throw new UsageError('no program given', { hint: 'imago run -- PROGRAM…' })
    const file = findProgram(args.rest[0]!)
    const { becomeProgram, takeInheritance } = await import('../../engines/preload/libc.js')
    const inherited = takeInheritance()
    if (options.until !== undefined) {
      const { runUntil } = await import('../../engines/run-until.js')
      const pid = runUntil(file, args.rest, options.until as string)
      if (output.json) output.value({ pid })
      else output.line(String(pid))
      return
    }
    assertCanCarryLibrary(file)
    const chosen = {
      output: options.output as string | undefined,
      signal: signalNumber(options.signal as string | undefined),
      force: options.force === true,
      blocking: options.blocking === true,
      includeFiles: options.withFiles === true,
    }
    if (options.interval === undefined) {
      if (options.compress)
        throw new UsageError('--compress goes with --interval', {
          hint: 'imago checkpoint --compress for one image',
        })
      const errno = becomeProgram(file, args.rest, environmentFor(chosen), inherited)
      throw new HostError(`cannot start it: errno ${errno}`, { file })
    }
    const intervalMs = parseTime(options.interval as string)
    if (intervalMs === 0) throw new UsageError('--interval is more than 0')
    const { keepRunning } = await import('../../engines/preload/keep-running.js')
    return await keepRunning(file, args.rest, {
      ...chosen,
      intervalMs,
      inherited,
      compress: options.compress === true,
      onCheckpoint: result =>
        output.note(
          `imago: ${result.path} (${bytesText(result.bytes)}, pause ${durationText(result.pauseMs ?? 0)})`,
        ),
      onFailure: error => output.warn(error.message),
    })
  },
}

function signalNumber(word: string | undefined): number | undefined {
  if (word === undefined) return undefined
  const number = Number(word)
  if (Number.isInteger(number) && number >= 1 && number <= 64 && ![9, 19, 33].includes(number)) return number
  throw new UsageError('--signal is a number from 1 to 64, not 9, 19 or 33', { found: word })
}
