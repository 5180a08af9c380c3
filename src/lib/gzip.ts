/**
 * Gzip files of any size in constant memory. Reading unpacks into a nameless sparse file (holes for zeros), so that
 * memory extents can point into it. Writing makes one gzip member of each mebibyte, several at a time on zlib's threads;
 * readers (gzip, zlib, gem5) take members that follow each other as one file. Zeros share one member made beforehand.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { writeFully } from './atomic-file.js'
import { type ByteSource, FileSource } from './byte-source.js'
import { isZero } from './bytes.js'
import { UnreadableError } from './errors.js'

const BLOCK_BYTES = 1 << 20
/** Granularity of holes in the unpacked file. */
const HOLE_BYTES = 64 * 1024
/** Members under way at once: enough for zlib's four threads. */
const MEMBERS_AHEAD = 8

/**
 * Opens a file whose content may be gzipped; a plain one is opened as it is.
 * The file ends at `limit` bytes: what comes after is not unpacked. One that is cut short ends where it breaks off.
 */
export async function openMaybeGzipped(file: string, limit: number): Promise<ByteSource> {
  const source = new FileSource(file)
  const magic = source.size >= 2 ? source.read(0, 2) : new Uint8Array(2)
  if (magic[0] !== 0x1f || magic[1] !== 0x8b) return source
  source.close()
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-'))
  const unpacked = path.join(folder, path.basename(file))
  const fd = fs.openSync(unpacked, 'wx', 0o600)
  try {
    const size = await unpackInto(fd, file, limit)
    fs.ftruncateSync(fd, size)
    return new FileSource(unpacked)
  } finally {
    // The descriptor that FileSource holds keeps the bytes; the name is not needed any more.
    fs.closeSync(fd)
    fs.rmSync(folder, { recursive: true })
  }
}

async function unpackInto(fd: number, file: string, limit: number): Promise<number> {
  const stream = fs
    .createReadStream(file, { highWaterMark: HOLE_BYTES })
    .pipe(zlib.createGunzip({ chunkSize: BLOCK_BYTES }))
  let at = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const wanted = chunk.subarray(0, limit - at)
      for (let from = 0; from < wanted.length; from += HOLE_BYTES) {
        const part = wanted.subarray(from, from + HOLE_BYTES)
        if (!isZero(part)) writeFully(fd, part, at + from)
      }
      at += wanted.length
      if (at >= limit) break
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'Z_BUF_ERROR')
      throw new UnreadableError(`not a whole gzip file: ${(error as Error).message}`, { file, offset: at })
  } finally {
    stream.destroy()
  }
  return at
}

const deflate = promisify<Uint8Array, zlib.ZlibOptions, Buffer>(zlib.gzip)

/** Writes the bytes that `blocks` gives (undefined: a block of zeros of the given length) as gzip to `fd`. */
export async function writeGzip(
  fd: number,
  blocks: Iterable<{ readonly length: number; readonly bytes: Uint8Array | undefined }>,
): Promise<void> {
  const zeros = new Map<number, Promise<Buffer>>()
  const member = (length: number, bytes: Uint8Array | undefined) => {
    if (bytes !== undefined && !isZero(bytes)) return deflate(bytes, { level: 1 })
    let known = zeros.get(length)
    if (known === undefined) {
      known = deflate(new Uint8Array(length), { level: 9 })
      zeros.set(length, known)
    }
    return known
  }
  let at = 0
  const pending: Promise<Buffer>[] = []
  const put = async () => {
    const bytes = await pending.shift()!
    writeFully(fd, bytes, at)
    at += bytes.length
  }
  for (const { length, bytes } of blocks) {
    pending.push(member(length, bytes))
    if (pending.length >= MEMBERS_AHEAD) await put()
  }
  if (pending.length === 0 && at === 0) pending.push(deflate(new Uint8Array(), {}))
  while (pending.length > 0) await put()
}

export { BLOCK_BYTES as GZIP_BLOCK_BYTES }
