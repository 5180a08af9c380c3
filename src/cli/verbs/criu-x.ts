import { UsageError } from '../../lib/errors.js'
import type { Command } from '../command.js'

const listings = ['ps', 'fds', 'mems', 'rss', 'sk'] as const

export const command: Command = {
  description:
    'ps: the process tree; fds: open files; mems: mappings; rss: pages and the mappings they are in; sk: sockets.',
  arguments: [
    { name: 'dir', summary: 'an image directory' },
    { name: 'what', summary: listings.join(', ') },
  ],
  examples: [['imago criu x DIR fds', 'open files of each process']],
  async run({ args, output }) {
    const what = listings.find(each => each === args.what)
    if (what === undefined)
      throw new UsageError(`there is no listing '${args.what}'`, { expected: listings.join(', ') })
    const { CriuDirectory } = await import('../../formats/criu/directory.js')
    const { explore } = await import('../../formats/criu/explore.js')
    for (const line of explore(new CriuDirectory(args.dir!), what)) output.line(line)
  },
}
