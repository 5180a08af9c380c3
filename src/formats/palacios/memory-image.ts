/**
 * The context `memory_img` (a checkpoint saved without mask 1): `region_size` u64, `num_regions` u32, then
 * `memory_img0` … of region_size bytes each; trees of 2012 have one record `memory_img` with all memory.
 * Binary: extents point into the file. Text: two digits a byte, unpacked once into a nameless sparse file.
 * Written as a stream, with as many regions as Palacios has memory blocks; zeros of the binary form are holes.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { writeFully } from '../../lib/atomic-file.js'
import { FileSource } from '../../lib/byte-source.js'
import { isZero } from '../../lib/bytes.js'
import { UnreadableError } from '../../lib/errors.js'
import { blocksOf } from '../../model/machine-memory.js'
import { type Extent, Memory } from '../../model/memory.js'
import { formatBinary, formatText, isBinary, MAX_TAG_BYTES, newContext } from './records.js'

const RAM_TAG = /^memory_img\d*$/
const CHUNK_BYTES = 1 << 20

/** The memory in a `memory_img` of either form. @throws UnreadableError */
export function memoryImage(file: string): Memory {
  const source = new FileSource(file)
  let memory = Memory.empty
  try {
    memory = isBinary(source.read(0, Math.min(4, source.size))) ? binaryImage(source) : textImage(source)
    return memory
  } finally {
    const pointedTo = memory.extents.some(
      ({ content }) => content.kind === 'slice' && content.source === source,
    )
    if (!pointedTo) source.close()
  }
}

function binaryImage(source: FileSource): Memory {
  const extents: Extent[] = []
  let address = 0n
  for (let at = 0; at + 12 <= source.size; ) {
    const tagLength = lengthAt(source, at + 4)
    const tag = Buffer.from(source.read(at + 12, Math.min(tagLength, MAX_TAG_BYTES))).toString('latin1')
    const length = lengthAt(source, at + 12 + tagLength)
    const start = at + 20 + tagLength
    if (RAM_TAG.test(tag)) {
      extents.push({ address, length, content: { kind: 'slice', source, offset: start } })
      address += BigInt(length)
    }
    at = start + length
  }
  return Memory.from(extents)
}

function lengthAt(source: FileSource, at: number): number {
  const length = Buffer.from(source.read(at, 8)).readBigInt64LE()
  if (length < 0n || length > BigInt(source.size - at - 8))
    throw new UnreadableError('a record of impossible length', {
      file: source.path,
      offset: at,
      found: length,
    })
  return Number(length)
}

/** Streams the digits: a value may be gigabytes on one line. */
function textImage(source: FileSource): Memory {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-'))
  const unpacked = path.join(folder, 'memory')
  const fd = fs.openSync(unpacked, 'wx', 0o600)
  try {
    const size = unpackText(source, fd)
    fs.ftruncateSync(fd, size)
    const memory = new FileSource(unpacked)
    return Memory.from([{ address: 0n, length: size, content: { kind: 'slice', source: memory, offset: 0 } }])
  } finally {
    fs.closeSync(fd)
    fs.rmSync(folder, { recursive: true })
  }
}

function unpackText(source: FileSource, fd: number): number {
  let written = 0
  let tag = ''
  let inValue = false
  let carry = ''
  for (let at = 0; at < source.size; at += CHUNK_BYTES) {
    let text = Buffer.from(source.read(at, Math.min(CHUNK_BYTES, source.size - at))).toString('latin1')
    while (text !== '') {
      if (!inValue) {
        const split = text.indexOf('=')
        tag += split < 0 ? text : text.slice(0, split)
        if (tag.length > 2 * MAX_TAG_BYTES)
          throw new UnreadableError('no tag in the memory image', { file: source.path, offset: at })
        text = split < 0 ? '' : text.slice(split + 1)
        inValue = split >= 0
        continue
      }
      const end = text.indexOf('\n')
      const digits = carry + (end < 0 ? text : text.slice(0, end)).trim()
      carry = digits.length % 2 === 0 ? '' : digits.slice(-1)
      if (RAM_TAG.test(tag.slice(tag.lastIndexOf('\n') + 1).trim())) {
        const bytes = Buffer.from(digits.slice(0, digits.length - carry.length), 'hex')
        if (bytes.length * 2 !== digits.length - carry.length)
          throw new UnreadableError('the memory image holds other characters than digits', {
            file: source.path,
            offset: at,
          })
        if (!isZero(bytes)) writeFully(fd, bytes, written)
        written += bytes.length
      }
      text = end < 0 ? '' : text.slice(end + 1)
      if (end >= 0) {
        inValue = false
        tag = ''
        carry = ''
      }
    }
  }
  return written
}

/** Palacios' usual size of a memory block (V3_CONFIG_MEM_BLOCK_SIZE). */
const BLOCK_BYTES = 128 * 2 ** 20
export const MEMORY_KEY = 'memory_img'

/** Writes RAM from 0 to `length` as the context `memory_img` of a directory. */
export function writeMemoryImage(
  memory: Memory,
  length: number,
  file: string,
  form: 'text' | 'binary',
): void {
  const region = length % BLOCK_BYTES === 0 ? BLOCK_BYTES : length
  const count = region === 0 ? 0 : length / region
  const head = Buffer.alloc(12)
  head.writeBigUInt64LE(BigInt(region))
  head.writeUInt32LE(count, 8)
  const context = newContext(MEMORY_KEY, [
    ['region_size', head.subarray(0, 8)],
    ['num_regions', head.subarray(8)],
  ])
  const fd = fs.openSync(file, 'wx', 0o600)
  let at = 0
  const put = (bytes: Uint8Array) => {
    writeFully(fd, bytes, at)
    at += bytes.length
  }
  try {
    put(form === 'text' ? formatText(context) : formatBinary(context))
    for (let i = 0; i < count; i++) {
      put(form === 'text' ? Buffer.from(`${MEMORY_KEY}${i}=`) : recordHead(`${MEMORY_KEY}${i}`, region))
      for (const { length: size, bytes } of blocksOf(memory, BigInt(i * region), region, CHUNK_BYTES))
        if (form === 'text') put(Buffer.from(Buffer.from(bytes ?? new Uint8Array(size)).toString('hex')))
        else if (bytes === undefined) at += size
        else put(bytes)
      if (form === 'text') put(Buffer.from('\n'))
    }
    fs.ftruncateSync(fd, at)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** The head of a binary record whose data follow: what `formatBinary` writes before them. */
function recordHead(tag: string, bytes: number): Uint8Array {
  const empty = Buffer.from(formatBinary(newContext('', [[tag, new Uint8Array()]])))
  empty.writeBigInt64LE(BigInt(bytes), empty.length - 8)
  return empty
}
