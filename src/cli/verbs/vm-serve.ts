import path from 'node:path'
import type { Command } from '../command.js'
import {
  guestFrom,
  imageFrom,
  imageOptions,
  keyOption,
  portOf,
  sessionFrom,
  sessionOptions,
} from '../vm/options.js'

export const command: Command = {
  description:
    'Waits for one machine, lets it run here when its source has given it up, and ends with its exit code. Whoever sends must have the same key. Images that arrive are kept in the store until their guest has ended; a guest never starts twice.',
  options: [
    { flags: '--port <number>', summary: 'TCP port', default: '4040' },
    { flags: '--host <address>', summary: 'address to listen on', default: '127.0.0.1' },
    keyOption,
    {
      flags: '--seed',
      summary:
        "take the ScratchVM's own form: vm_image.sav over plain TCP, WITHOUT authentication or encryption: whoever reaches the port runs a guest here, confined to --root",
    },
    { flags: '--store <folder>', summary: 'where images arrive', default: '.imago-store' },
    ...imageOptions,
    ...sessionOptions,
  ],
  examples: [['imago vm serve --port 4040', 'take a guest from this host']],
  async run({ options, output }) {
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const at = { host: options.host as string, port: portOf(options.port as string) }
    const store = path.resolve(options.store as string)
    const session = sessionFrom(options, 'received.vm')
    const guest = await guestFrom(options, output)
    const wakeUp = (image: string) => MicroVm.start({ ...guest, start: imageFrom(options, image, '.') })
    if (options.seed === true) {
      const { serveSeedGuest } = await import('../vm/seed.js')
      return serveSeedGuest(at, wakeUp, session, store, output)
    }
    const { serveGuest } = await import('../vm/arrival.js')
    return serveGuest({ ...at, key: options.key as string | undefined }, wakeUp, session, store, output)
  },
}
