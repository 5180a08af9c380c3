/**
 * The source's side of the protocol drawn in receive-machine.ts: a machine at rest (an image), or one that runs and
 * whose memory goes ahead in rounds (pre-copy) while it does.
 */

import { encodeHeader } from '../formats/microvm/header.js'
import type { MicroVmFile } from '../formats/microvm/image-file.js'
import type { MicroVmRecord } from '../formats/microvm/record.js'
import { isZero } from '../lib/bytes.js'
import { PeerError } from '../lib/errors.js'
import { PAGE_SIZE } from '../model/memory.js'
import { FRAME, type FrameStream, PROTOCOL, parseJson } from './frames.js'
import type { Incoming } from './incoming.js'
import type { Standing } from './receive-machine.js'

const CHUNK = 1 << 20
/** So many frames go to a target before it syncs what it wrote: at the end little is left, and it is never silent for long. */
const FRAMES_A_ROUND = 128
/** Pre-copy ends when so little is left, or when rounds no longer help. */
const SMALL_ENOUGH = 256
const MOST_ROUNDS = 10

export interface SendOptions {
  readonly compress: boolean
}

/** Where frames go: a connection, or an image on this host (`recordTo`). */
export interface FrameSink {
  send(type: number, payload?: Uint8Array, compressed?: boolean): Promise<void>
}

export interface Welcome {
  readonly standing: Standing
  readonly frames: number
  readonly store: string
}

/** Says hello; hears what the target already has. */
export async function greet(stream: FrameStream, id: string, totalSize: number): Promise<Welcome> {
  await stream.sendJson(FRAME.hello, { protocol: PROTOCOL, id, totalSize })
  const answer = parseJson((await stream.expect(FRAME.ready)).payload)
  const { standing, frames, store } = answer
  if (!['none', 'partial', 'verified', 'started'].includes(String(standing)) || !Number.isSafeInteger(frames))
    throw new PeerError('the other side does not follow the protocol')
  return { standing: standing as Standing, frames: Number(frames), store: String(store) }
}

/** Sends an image from frame number `from` on, up to and including its header. */
export async function sendImage(
  stream: FrameStream,
  image: MicroVmFile,
  from: number,
  options: SendOptions,
): Promise<void> {
  const { record, source, memoryOffset } = image
  let frame = 0
  for (const extent of record.extents)
    for (let done = 0; done < Number(extent.length); done += CHUNK) {
      if (frame++ < from) continue
      const address = extent.address + BigInt(done)
      const bytes = source.read(memoryOffset + Number(address), Math.min(CHUNK, Number(extent.length) - done))
      await sendPages(stream, address, bytes, options)
      if (frame % FRAMES_A_ROUND === 0) await stream.send(FRAME.round)
    }
  for (const [i, file] of record.files.entries()) {
    if (file.contentOffset === 0n) continue
    const total = Number(file.contentLength)
    for (let done = 0; done < total || done === 0; done += CHUNK) {
      if (frame++ < from) continue
      const bytes = source.read(Number(file.contentOffset) + done, Math.min(CHUNK, total - done))
      await sendContent(stream, i, done, total, bytes)
    }
  }
  await stream.send(FRAME.header, bareHeader(record))
}

/** The header without what the target fills in itself. */
function bareHeader(record: MicroVmRecord): Uint8Array {
  const { leastHeader: _, ...rest } = record
  return encodeHeader({
    ...rest,
    extents: [],
    files: record.files.map(file => ({
      ...file,
      contentOffset: 0n,
      contentLength: 0n,
      contentDigest: new Uint8Array(32),
    })),
  })
}

async function sendPages(
  stream: FrameSink,
  address: bigint,
  bytes: Uint8Array,
  options: SendOptions,
): Promise<void> {
  const payload = Buffer.allocUnsafe(8 + bytes.length)
  payload.writeBigUInt64LE(address, 0)
  payload.set(bytes, 8)
  const packed = options.compress ? (await import('./zstd.js')).compress(payload) : undefined
  await stream.send(FRAME.pages, packed ?? payload, packed !== undefined)
}

async function sendZeros(stream: FrameSink, address: bigint, length: number): Promise<void> {
  const payload = Buffer.alloc(16)
  payload.writeBigUInt64LE(address, 0)
  payload.writeBigUInt64LE(BigInt(length), 8)
  await stream.send(FRAME.zeros, payload)
}

async function sendContent(
  stream: FrameSink,
  index: number,
  offset: number,
  total: number,
  bytes: Uint8Array,
): Promise<void> {
  const payload = Buffer.alloc(20 + bytes.length)
  payload.writeUInt32LE(index, 0)
  payload.writeBigUInt64LE(BigInt(offset), 4)
  payload.writeBigUInt64LE(BigInt(total), 12)
  payload.set(bytes, 20)
  await stream.send(FRAME.content, payload)
}

/** What pre-copy needs of a running guest. */
export interface LiveGuest {
  viewMemory(): Buffer
  follow(on: boolean): Promise<void>
  changedPages(): Promise<number[]>
  /** Returns when the guest stands still. */
  freeze(): Promise<void>
  describe(withFiles: boolean): Promise<{ header: Uint8Array; contents: ReadonlyMap<number, Uint8Array> }>
}

export interface Round {
  readonly pages: number
  readonly milliseconds: number
  /** Pages that the guest wrote meanwhile. */
  readonly dirtied: number
}

export interface LiveReport {
  readonly rounds: readonly Round[]
  /** performance.now() at which the guest stood still. */
  readonly frozenAt: number
}

/** Sends a running guest's memory in rounds, freezes it when the rest is small, and sends the rest and the header. */
export async function sendLive(
  stream: FrameSink,
  guest: LiveGuest,
  withFiles: boolean,
  options: SendOptions,
  onRound: (round: Round, number: number) => void,
): Promise<LiveReport> {
  await guest.follow(true)
  const rounds: Round[] = []
  let pages: number[] | undefined
  let frozenAt = 0
  try {
    for (;;) {
      const began = performance.now()
      const count = await sendChanged(stream, guest.viewMemory(), pages, options)
      await stream.send(FRAME.round)
      const milliseconds = performance.now() - began
      pages = await guest.changedPages()
      const round = { pages: count, milliseconds, dirtied: pages.length }
      rounds.push(round)
      onRound(round, rounds.length)
      const before = rounds.at(-1)!.pages
      // The second round is compared with nothing: the first sent everything.
      const noProgress = rounds.length > 2 && pages.length > before * 0.8
      if (pages.length <= SMALL_ENOUGH || rounds.length >= MOST_ROUNDS || noProgress) break
    }
    await guest.freeze()
    frozenAt = performance.now()
    const rest = new Set([...pages, ...(await guest.changedPages())])
    await sendChanged(
      stream,
      guest.viewMemory(),
      [...rest].sort((a, b) => a - b),
      options,
    )
    const { header, contents } = await guest.describe(withFiles)
    for (const [i, content] of contents)
      for (let done = 0; done < content.length || done === 0; done += CHUNK)
        await sendContent(stream, i, done, content.length, content.subarray(done, done + CHUNK))
    await stream.send(FRAME.header, header)
  } finally {
    await guest.follow(false)
  }
  return { rounds, frozenAt }
}

/** Frames written to an image on this host, whole when the header has come. The caller closes it. */
export function recordTo(incoming: Incoming, image: string): FrameSink {
  return {
    async send(type, payload = new Uint8Array()) {
      const header = incoming.take(type, Buffer.from(payload.buffer, payload.byteOffset, payload.length))
      if (header !== undefined) incoming.finish(header, image)
    },
  }
}

/** Sends pages as they are at this moment: undefined means all that are not zero. Returns how many. */
async function sendChanged(
  stream: FrameSink,
  memory: Buffer,
  pages: readonly number[] | undefined,
  options: SendOptions,
): Promise<number> {
  let count = 0
  const all = pages === undefined
  const total = all ? memory.length / PAGE_SIZE : pages.length
  let i = 0
  while (i < total) {
    const first = all ? i : pages[i]!
    const zero = isZero(pageOf(memory, first))
    let length = 1
    while (
      i + length < total &&
      length * PAGE_SIZE < CHUNK &&
      (all || pages[i + length] === first + length) &&
      isZero(pageOf(memory, first + length)) === zero
    )
      length++
    i += length
    const address = BigInt(first) * BigInt(PAGE_SIZE)
    if (!zero) {
      // Copied: the guest may write it while it waits to be sent.
      const from = first * PAGE_SIZE
      await sendPages(stream, address, Buffer.from(memory.subarray(from, from + length * PAGE_SIZE)), options)
      count += length
    } else if (!all) {
      await sendZeros(stream, address, length * PAGE_SIZE)
      count += length
    }
  }
  return count
}

const pageOf = (memory: Buffer, page: number) => memory.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)
