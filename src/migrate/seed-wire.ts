/**
 * The ScratchVM's own network form: the bytes of `vm_image.sav` over plain TCP, nothing before, after or back. So there
 * is no authentication, no encryption, and no word that the guest has arrived: both sides ask for it by name (--seed).
 */
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import { finished } from 'node:stream/promises'
import { decodeScratch, IMAGE_SIZE, IMAGE_SIZE_PACKED } from '../formats/scratchvm/record.js'
import { type ImagoError, PeerError, UnreadableError } from '../lib/errors.js'
import { type ConnectOptions, connectPlain } from './channel.js'

/** A sender that says nothing, or a receiver that takes nothing, for so long is given up. */
const SILENCE_MS = 30_000
const MOST_SENDERS = 8

/** Sends an image; returns its bytes once this host's kernel has taken them all. The image stays. @throws UnreadableError, PeerError */
export async function sendSeed(
  image: string,
  host: string,
  port: number,
  options: ConnectOptions & { onConnect(): void },
): Promise<number> {
  const { size } = fs.statSync(image)
  if (size !== IMAGE_SIZE && size !== IMAGE_SIZE_PACKED)
    throw new UnreadableError('only an image of the ScratchVM travels in its own form', {
      file: image,
      found: `${size} bytes`,
      hint: 'without --seed imago sends its own images, authenticated',
    })
  const bytes = fs.readFileSync(image)
  decodeScratch(bytes, image)
  const socket = await connectPlain(host, port, options)
  options.onConnect()
  socket.setTimeout(SILENCE_MS, () => socket.destroy(new Error('it takes nothing')))
  try {
    socket.end(bytes)
    // Not until it is closed: a ScratchVM may keep the connection while its guest runs.
    await finished(socket, { readable: false })
  } catch (error) {
    throw new PeerError('the connection broke before the image was sent; it is still here', {
      file: image,
      cause: error,
    })
  } finally {
    socket.destroy()
  }
  return bytes.length
}

export interface SeedServer {
  readonly port: number
  /** The first whole image, and how long it took from its connection on. */
  readonly arrival: Promise<{ bytes: Buffer; milliseconds: number }>
  close(): void
}

/** Listens for one image; whatever is none is reported to `onRefused`, and the next one awaited. @throws PeerError */
export async function serveSeed(
  host: string,
  port: number,
  onRefused: (reason: string) => void,
): Promise<SeedServer> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer()
  server.maxConnections = MOST_SENDERS
  const arrival: SeedServer['arrival'] = new Promise(resolve => {
    server.on('connection', socket => {
      const began = performance.now()
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      receive(socket).then(
        bytes => {
          socket.end()
          resolve({ bytes, milliseconds: performance.now() - began })
        },
        (error: ImagoError) => {
          socket.destroy()
          onRefused(error.message)
        },
      )
    })
  })
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new PeerError(`cannot listen on ${host}:${port}`, { found: (error as Error).message, cause: error })
  }
  return {
    port: (server.address() as net.AddressInfo).port,
    arrival,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** As many bytes as the struct has; the packed form ends with the connection. */
async function receive(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  socket.setTimeout(SILENCE_MS, () => socket.destroy(new Error('it says nothing')))
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk)
      length += chunk.length
      if (length >= IMAGE_SIZE) break
    }
  } catch (error) {
    throw new PeerError(`a sender broke off after ${length} bytes: ${(error as Error).message}`)
  }
  const bytes = Buffer.concat(chunks, length)
  decodeScratch(bytes)
  return bytes
}
