/**
 * RAM of a gem5 checkpoint. v24: `[….physmem] nbr_of_stores=N` and `[….physmem.storeI] filename, range_size`, store 0
 * from address 0, store 1 from 4 GiB. 2011: `[….physmem] filename, _size`. A file is gzip of the raw bytes, or the raw
 * bytes themselves (gem5 reads through zlib, which takes both); a short file ends in zeros.
 */
import fs from 'node:fs'
import path from 'node:path'
import { writeFully } from '../../lib/atomic-file.js'
import { LossError, UnreadableError } from '../../lib/errors.js'
import { GZIP_BLOCK_BYTES, openMaybeGzipped, writeGzip } from '../../lib/gzip.js'
import { blocksOf, FOUR_GIB, ramRanges } from '../../model/machine-memory.js'
import { type Extent, Memory, ZERO } from '../../model/memory.js'
import type { CheckpointText } from './checkpoint-text.js'

const MAX_RAM_BYTES = 2 ** 46

interface Store {
  readonly section: string
  readonly sizeKey: 'range_size' | '_size'
  readonly start: bigint
}

function storesOf(text: CheckpointText): Store[] {
  const stores = text
    .names()
    .filter(name => /\.store\d+$/.test(name) && text.get(name, 'range_size') !== undefined)
    .sort((a, b) => storeNumber(a) - storeNumber(b))
  if (stores.length > 0)
    return stores.map((section, i) => ({
      section,
      sizeKey: 'range_size' as const,
      start: i === 0 ? 0n : FOUR_GIB,
    }))
  const old = text
    .names()
    .find(name => text.get(name, '_size') !== undefined && text.get(name, 'filename') !== undefined)
  return old === undefined ? [] : [{ section: old, sizeKey: '_size', start: 0n }]
}

const storeNumber = (name: string) => Number(/\d+$/.exec(name)![0])

/** @throws UnreadableError for a size or file name that cannot be, or a missing file. */
export async function readRam(text: CheckpointText, directory: string): Promise<Memory> {
  const extents: Extent[] = []
  const stores = storesOf(text)
  if (stores.length > 2) throw new LossError('more than two memory stores', { file: directory })
  for (const { section, sizeKey, start } of stores) {
    const size = Number(text.get(section, sizeKey))
    const name = text.get(section, 'filename') ?? ''
    if (!Number.isSafeInteger(size) || size <= 0 || size > MAX_RAM_BYTES)
      throw new UnreadableError(`[${section}] has an impossible size`, {
        file: directory,
        found: text.get(section, sizeKey),
      })
    if (name === '' || name !== path.basename(name) || name === '..')
      throw new UnreadableError(`[${section}] names a file outside the checkpoint`, {
        file: directory,
        found: JSON.stringify(name),
      })
    const source = await openMaybeGzipped(path.join(directory, name), size)
    const held = Math.min(source.size, size)
    extents.push({ address: start, length: held, content: { kind: 'slice', source, offset: 0 } })
    extents.push({ address: start + BigInt(held), length: size - held, content: ZERO })
  }
  return Memory.from(extents)
}

/**
 * Writes the RAM beside `m5.cpt` and its size into the text.
 * @param raw sparse and uncompressed: quick, and gem5 reads it as well; falls back to gzip where it would be mistaken.
 * @throws LossError when the skeleton's machine has another amount of RAM.
 */
export async function writeRam(
  text: CheckpointText,
  memory: Memory,
  directory: string,
  options: { readonly raw: boolean; readonly sizeIsFixed: boolean },
): Promise<void> {
  const stores = storesOf(text)
  const ranges = ramRanges(memory)
  for (const range of ranges)
    if (!stores.some(store => store.start === range.start))
      throw new LossError('the target has no RAM there', {
        address: range.start,
        found: `${range.length} bytes of RAM in the image`,
        hint: 'gem5 has RAM from 0 to at most 3 GiB and on from 4 GiB; capture with such a machine',
      })
  for (const { section, sizeKey, start } of stores) {
    const length = ranges.find(range => range.start === start)?.length ?? 0
    const old = Number(text.get(section, sizeKey))
    if (options.sizeIsFixed && old !== length)
      throw new LossError('the skeleton has another amount of RAM', {
        found: `${length} bytes in the image`,
        expected: `${old} bytes`,
        hint: 'make the skeleton with the same memory size, or leave --skeleton out',
      })
    text.set(section, sizeKey, String(length))
    await writeStore(memory, start, length, path.join(directory, text.get(section, 'filename')!), options.raw)
  }
}

async function writeStore(
  memory: Memory,
  start: bigint,
  length: number,
  file: string,
  raw: boolean,
): Promise<void> {
  const fd = fs.openSync(file, 'wx', 0o600)
  try {
    const head = memory.tryRead(start, 2)
    const looksGzipped = head?.[0] === 0x1f && head[1] === 0x8b
    if (!raw || looksGzipped) {
      await writeGzip(fd, blocksOf(memory, start, length, GZIP_BLOCK_BYTES))
      return
    }
    for (const { offset, bytes } of blocksOf(memory, start, length, GZIP_BLOCK_BYTES))
      if (bytes !== undefined) writeFully(fd, bytes, offset)
    fs.ftruncateSync(fd, length)
  } finally {
    fs.closeSync(fd)
  }
}
