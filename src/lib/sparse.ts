/**
 * Sparse files: where a file has data and where holes, and copying a range without reading it into this process
 * (reflink or in-kernel copy where the file system can, so the bytes are shared or moved once).
 */
import fs from 'node:fs'
import { writeFileAtomically, writeFully } from './atomic-file.js'
import { isZero } from './bytes.js'
import { fileCalls } from './libc.js'

const SEEK_DATA = 3
const SEEK_HOLE = 4
const BLOCK = 1024 * 1024

export interface FileRange {
  readonly offset: number
  readonly length: number
}

/** The ranges within [start, end) of an open file that hold data; the rest are holes, which read as zeros. */
export function* dataRanges(fd: number, start: number, end: number): Generator<FileRange> {
  const { lseek } = fileCalls()
  let at = start
  while (at < end) {
    const data = lseek(fd, at, SEEK_DATA)
    if (data < 0 || data >= end) return
    const hole = Math.min(lseek(fd, data, SEEK_HOLE), end)
    yield { offset: data, length: hole - data }
    at = hole
  }
}

/** Copies `length` bytes between open files. Holes and zero blocks of the source stay holes in a fresh target. */
export function copyRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): void {
  for (const range of dataRanges(from, fromOffset, fromOffset + length))
    copyData(from, range.offset, to, toOffset + (range.offset - fromOffset), range.length)
}

/** Copies a file; holes stay holes. The copy appears whole or not at all. */
export function copySparse(source: string, target: string): void {
  const from = fs.openSync(source, 'r')
  try {
    const { size } = fs.fstatSync(from)
    writeFileAtomically(target, fd => {
      fs.ftruncateSync(fd, size)
      copyRange(from, 0, fd, 0, size)
    })
  } finally {
    fs.closeSync(from)
  }
}

function copyData(from: number, fromOffset: number, to: number, toOffset: number, length: number): void {
  const { copyFileRange } = fileCalls()
  let done = 0
  while (done < length) {
    const copied = copyFileRange(from, [fromOffset + done], to, [toOffset + done], length - done, 0)
    if (copied <= 0) break
    done += copied
  }
  // Another file system, a file shorter than it was, or a kernel without the call: read and write what is left.
  const block = Buffer.allocUnsafe(Math.min(BLOCK, length - done))
  while (done < length) {
    const count = fs.readSync(from, block, 0, Math.min(block.length, length - done), fromOffset + done)
    if (count === 0) return
    const bytes = block.subarray(0, count)
    if (!isZero(bytes)) writeFully(to, bytes, toOffset + done)
    done += count
  }
}
