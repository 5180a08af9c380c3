/** The target's side of `vm serve` at a terminal: waits for one machine, and lets it run here. */
import type { AddressInfo } from 'node:net'
import type { MicroVm } from '../../engines/microvm/micro-vm.js'
import { ExitCode } from '../../lib/errors.js'
import { type Key, listen, readKey } from '../../migrate/channel.js'
import { FrameStream } from '../../migrate/frames.js'
import { type Arrival, Receiver } from '../../migrate/receive-machine.js'
import { noteTransfer, type Output } from '../output.js'
import { printBlock, runSession, type SessionOptions } from './session.js'
import { unlessInterrupted } from './wishes.js'

export interface ListenOptions {
  readonly host: string
  /** 0: one that the system chooses. */
  readonly port: number
}

/** @param key file with the key; undefined: the user's own. @param store folder for images that arrive */
export async function serveGuest(
  at: ListenOptions & { readonly key: string | undefined },
  wakeUp: (image: string) => Promise<MicroVm>,
  session: SessionOptions,
  store: string,
  output: Output,
): Promise<number> {
  const key = readKey(at.key)
  const receiver = new Receiver(store, wakeUp)
  for (const image of receiver.unfinished())
    output.note(
      `imago: a machine that was given to this host has not ended; if it does not run: imago vm restore ${image}`,
    )
  const server = await openTo(receiver, key, at, output)
  output.note(`Waiting for VM image on port ${server.port}...`)
  const arrival = await unlessInterrupted(server.arrival)
  try {
    if (arrival === undefined) return ExitCode.interrupted
    noteTransfer('Received', arrival, output)
    await printBlock(arrival.image, output)
    const code = await runSession(arrival.guest, session, output)
    receiver.forget(arrival.id)
    return code
  } finally {
    server.close()
    await receiver.close()
    // One that arrives after the interrupt is not run: its image stays in the store.
    if (arrival === undefined) void server.arrival.then(({ guest }) => guest.release())
    else await arrival.guest.release()
  }
}

/** Lets sources in; `arrival` is the first machine that its source has given up. */
async function openTo(receiver: Receiver<MicroVm>, key: Key, at: ListenOptions, output: Output) {
  let arrived: (arrival: Arrival<MicroVm>) => void
  const arrival = new Promise<Arrival<MicroVm>>(resolve => {
    arrived = resolve
  })
  const sockets = new Set<{ destroy(): void }>()
  const server = await listen(key, at.host, at.port, socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    const stream = new FrameStream(socket)
    receiver
      .serve(stream)
      .then(machine => {
        if (machine !== undefined) arrived(machine)
        stream.close()
      })
      .catch((error: Error) => {
        output.note(`imago: a machine did not arrive: ${error.message}`)
        stream.destroy()
      })
  })
  return {
    port: (server.address() as AddressInfo).port,
    arrival,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
