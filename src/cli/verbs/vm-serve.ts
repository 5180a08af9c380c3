import path from 'node:path'
import { ExitCode, UsageError } from '../../lib/errors.js'
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
    const { listen, readKey } = await import('../../migrate/channel.js')
    const { FrameStream } = await import('../../migrate/frames.js')
    const { Receiver } = await import('../../migrate/receive-machine.js')
    const { MicroVm } = await import('../../engines/microvm/micro-vm.js')
    const { noteTransfer } = await import('../output.js')
    const { printBlock, runSession } = await import('../vm/session.js')
    const { unlessInterrupted } = await import('../vm/wishes.js')
    const host = options.host as string
    const port = portOf(options.port as string)
    const store = path.resolve(options.store as string)
    const session = sessionFrom(options, 'received.vm')
    const guest = await guestFrom(options, output)
    const wakeUp = (image: string) => MicroVm.start({ ...guest, start: imageFrom(options, image, '.') })
    if (options.seed === true) {
      const { serveSeedGuest } = await import('../vm/seed.js')
      return serveSeedGuest({ host, port }, wakeUp, session, store, output)
    }
    const key = readKey(options.key as string | undefined)
    const receiver = new Receiver(store, wakeUp)
    for (const image of receiver.unfinished())
      output.note(
        `imago: a machine that was given to this host has not ended; if it does not run: imago vm restore ${image}`,
      )
    type Arrival = NonNullable<Awaited<ReturnType<typeof receiver.serve>>>
    let arrived: (arrival: Arrival) => void
    const arrival = new Promise<Arrival>(resolve => {
      arrived = resolve
    })
    const sockets = new Set<{ destroy(): void }>()
    const server = await listen(key, host, port, socket => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      const stream = new FrameStream(socket)
      receiver
        .serve(stream)
        .then(guest => {
          if (guest !== undefined) arrived(guest)
          stream.close()
        })
        .catch((error: Error) => {
          output.note(`imago: a machine did not arrive: ${error.message}`)
          stream.destroy()
        })
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new UsageError('no port')
    output.note(`Waiting for VM image on port ${address.port}...`)
    const first = await unlessInterrupted(arrival)
    try {
      if (first === undefined) return ExitCode.interrupted
      noteTransfer('Received', first, output)
      await printBlock(first.image, output)
      const code = await runSession(first.guest, session, output)
      receiver.forget(first.id)
      return code
    } finally {
      server.close()
      for (const socket of sockets) socket.destroy()
      await receiver.close()
      // One that arrives after the interrupt is not run: its image stays in the store.
      if (first === undefined) void arrival.then(({ guest }) => guest.release())
      else await first.guest.release()
    }
  },
}
