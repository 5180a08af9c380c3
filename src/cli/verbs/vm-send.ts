import path from 'node:path'
import { UsageError } from '../../lib/errors.js'
import { type Command, timeOf } from '../command.js'
import {
  guestFrom,
  hostAndPort,
  keyOption,
  programFrom,
  programOptions,
  sessionFrom,
  sessionOptions,
} from '../vm/options.js'

export const command: Command = {
  description:
    'Sends a saved machine, or with --run a program that is started here: at system call 400, at SIGUSR2, or after --after. The source gives its guest up only when the target has it, whole and ready; when the target fails, the guest goes on here. With --live memory goes ahead while the guest runs.',
  arguments: [
    { name: 'image-or-target', summary: 'a microvm image; with --run already HOST:PORT' },
    {
      name: 'rest',
      summary: 'HOST:PORT; with --run the arguments of the program',
      optional: true,
      variadic: true,
    },
  ],
  options: [
    { flags: '--run <program>', summary: 'start this program and send it' },
    { flags: '--live', summary: 'send memory in rounds while the guest runs (KVM; with --run)' },
    { flags: '--after <time>', summary: 'with --run: send after this time (--live: 0)' },
    {
      flags: '--seed',
      summary:
        "the ScratchVM's own form: vm_image.sav as it is over plain TCP, WITHOUT authentication, encryption or acknowledgement; the image stays here",
    },
    { flags: '--compress', summary: 'compress pages with zstd' },
    keyOption,
    ...programOptions,
    { flags: '--retries <number>', summary: 'how often to try while nobody listens (default: for ever)' },
    ...sessionOptions,
  ],
  examples: [
    ['imago vm send --seed vm_image.sav 127.0.0.1:4040', 'to a server of the ScratchVM, or vm serve --seed'],
    ['imago vm send prog.vm 127.0.0.1:4040', 'send a saved machine'],
    [
      'imago vm send --run ./prog --live 127.0.0.1:4040',
      'send a running one, standing still for milliseconds',
    ],
  ],
  passThrough: true,
  async run({ args, options, output }) {
    const { sendRestingImage, sendRunning } = await import('../vm/departure.js')
    const program = options.run as string | undefined
    const [target, words] =
      program === undefined ? [args.rest[0], args.rest.slice(1)] : [args.imageOrTarget, args.rest]
    if (target === undefined || (program === undefined && words.length > 0))
      throw new UsageError(target === undefined ? 'where to?' : `what is '${words[0]}'?`, {
        expected: 'imago vm send [options] IMAGE HOST:PORT',
      })
    const session = sessionFrom(options, `${path.basename(program ?? 'guest')}.vm`)
    const common = {
      ...hostAndPort(target),
      key: options.key as string | undefined,
      compress: options.compress === true,
      retries: options.retries === undefined ? undefined : Number(options.retries),
    }
    if (options.seed === true) {
      if (options.live === true || options.after !== undefined || options.compress === true)
        throw new UsageError('the form of the ScratchVM knows neither --live, --after nor --compress')
      const { sendSeedImage, sendSeedRun } = await import('../vm/seed.js')
      if (program === undefined) return sendSeedImage(path.resolve(args.imageOrTarget!), common, output)
      const guest = await guestFrom(options, output)
      return sendSeedRun(programFrom(options, program, words), guest, session, common, output)
    }
    if (program === undefined) {
      if (options.live === true)
        throw new UsageError('--live needs a running guest', { hint: 'add --run PROGRAM' })
      return sendRestingImage(path.resolve(args.imageOrTarget!), common, output)
    }
    return sendRunning(
      programFrom(options, program, words),
      {
        ...common,
        ...(await guestFrom(options, output)),
        ...session,
        live: options.live === true,
        afterMs: timeOf(options.after) ?? (options.live === true ? 0 : undefined),
      },
      output,
    )
  },
}
