import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { copyRange, dataRanges } from '../../../src/lib/sparse.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const PAGE = 4096

/** Data in blocks 1 and 4 of eight, holes elsewhere. */
function sparseFile(folder: string): number {
  const fd = fs.openSync(path.join(folder, 'sparse'), 'w+')
  fs.ftruncateSync(fd, 8 * PAGE)
  fs.writeSync(fd, Buffer.alloc(PAGE, 1), 0, PAGE, PAGE)
  fs.writeSync(fd, Buffer.alloc(PAGE, 4), 0, PAGE, 4 * PAGE)
  return fd
}

test('dataRanges names the blocks with data and leaves out the holes', () => {
  const fd = sparseFile(temporaryFolder())
  expect([...dataRanges(fd, 0, 8 * PAGE)]).toEqual([
    { offset: PAGE, length: PAGE },
    { offset: 4 * PAGE, length: PAGE },
  ])
  fs.closeSync(fd)
})

test('copyRange copies the bytes and keeps the holes', () => {
  const folder = temporaryFolder()
  const from = sparseFile(folder)
  const to = fs.openSync(path.join(folder, 'copy'), 'w+')
  fs.ftruncateSync(to, 7 * PAGE)
  copyRange(from, PAGE, to, 0, 7 * PAGE)
  const expected = Buffer.alloc(7 * PAGE)
  expected.fill(1, 0, PAGE)
  expected.fill(4, 3 * PAGE, 4 * PAGE)
  expect(fs.readFileSync(path.join(folder, 'copy')).equals(expected)).toBe(true)
  expect(fs.fstatSync(to).blocks * 512).toBeLessThanOrEqual(2 * PAGE)
  fs.closeSync(from)
  fs.closeSync(to)
})
