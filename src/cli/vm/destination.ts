/** Where `vm send` sends to, and how it is reached. */
import { connect, readKey } from '../../migrate/channel.js'
import { FrameStream } from '../../migrate/frames.js'
import type { Output } from '../output.js'

/** How often a cut connection is made anew. */
export const ATTEMPTS = 30

export interface Destination {
  readonly host: string
  readonly port: number
  readonly key: string | undefined
  readonly compress: boolean
  readonly retries: number | undefined
}

export function dialer(
  destination: Destination,
  output: Output,
  signal?: AbortSignal,
): () => Promise<FrameStream> {
  const key = readKey(destination.key)
  return async () => {
    const socket = await connect(key, destination.host, destination.port, {
      retries: destination.retries,
      signal,
      onRetry: () => output.note('connect failed, retry in 1 second...'),
    })
    output.note(`Connected to VMM in ${destination.host}:${destination.port}`)
    return new FrameStream(socket)
  }
}

export const onCut = (output: Output) => (error: Error, decided: boolean) =>
  output.note(`imago: ${error.message}; ${decided ? 'asking the target whether it runs' : 'going on'}`)
