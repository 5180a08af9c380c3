/** zstd of the host's library, a block at a time. Node 20 has none of its own. */
import { createRequire } from 'node:module'
import { HostError, PeerError } from '../lib/errors.js'
import { MOST_PAYLOAD } from './frames.js'

const LEVEL = 1

interface Zstd {
  compress(into: Uint8Array, room: number, from: Uint8Array, length: number, level: number): number
  decompress(into: Uint8Array, room: number, from: Uint8Array, length: number): number
  isError(result: number): number
}

let library: Zstd | undefined

function zstd(): Zstd {
  if (library !== undefined) return library
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    const loaded = koffi.load('libzstd.so.1')
    library = {
      compress: loaded.func(
        'size_t ZSTD_compress(void *into, size_t room, void *from, size_t length, int level)',
      ),
      decompress: loaded.func('size_t ZSTD_decompress(void *into, size_t room, void *from, size_t length)'),
      isError: loaded.func('unsigned int ZSTD_isError(size_t result)'),
    } as unknown as Zstd
    return library
  } catch (cause) {
    throw new HostError('libzstd is not installed', {
      hint: 'apt-get install libzstd1, or send without --compress',
      cause,
    })
  }
}

/** The compressed bytes, or undefined where that saves nothing. */
export function compress(bytes: Uint8Array): Uint8Array | undefined {
  const { compress: run, isError } = zstd()
  const into = Buffer.alloc(bytes.length)
  const length = run(into, into.length, bytes, bytes.length, LEVEL)
  return isError(length) !== 0 ? undefined : into.subarray(0, Number(length))
}

/** @throws PeerError when it is not zstd, or grows beyond a frame. */
export function decompress(bytes: Uint8Array): Buffer {
  const { decompress: run, isError } = zstd()
  const into = Buffer.allocUnsafe(MOST_PAYLOAD)
  const length = run(into, into.length, bytes, bytes.length)
  if (isError(length) !== 0) throw new PeerError('a compressed frame cannot be read')
  return into.subarray(0, Number(length))
}
