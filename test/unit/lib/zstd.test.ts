/** Files packed by zstd: what comes back, and what is said of a damaged one. */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { UnreadableError } from '../../../src/lib/errors.js'
import { compressFile, decompressFile } from '../../../src/lib/zstd.js'
import { sharedFolder } from '../../helpers/temporary-folder.js'

const folder = sharedFolder()
const [plain, packed, unpacked] = ['plain', 'packed', 'unpacked'].map(name => path.join(folder, name)) as [
  string,
  string,
  string,
]

const content = Buffer.concat([
  randomBytes(30_000),
  Buffer.alloc(100_000),
  Buffer.alloc(40_000, 'some words '),
])
fs.writeFileSync(plain, content)
compressFile(plain, packed)
const frame = fs.readFileSync(packed)

it('a packed file comes back whole', () => {
  decompressFile(packed, unpacked)
  expect(fs.readFileSync(unpacked).equals(content)).toBe(true)
})

/** Whether it was unpacked; what was not leaves nothing behind. */
function unpacks(bytes: Buffer): boolean {
  fs.rmSync(unpacked, { force: true })
  fs.writeFileSync(packed, bytes)
  try {
    decompressFile(packed, unpacked)
    return true
  } catch (error) {
    expect(error).toBeInstanceOf(UnreadableError)
    expect(fs.existsSync(unpacked)).toBe(false)
    return false
  }
}

it('a damaged file is refused, or comes back whole when the change means nothing', () => {
  fc.assert(
    fc.property(fc.nat(frame.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = Buffer.from(frame)
      damaged[at]! ^= change
      if (unpacks(damaged)) expect(fs.readFileSync(unpacked).equals(content)).toBe(true)
    }),
    { numRuns: 100 },
  )
})

it('a damaged checksum is refused in words of the library', () => {
  const damaged = Buffer.from(frame)
  damaged[frame.length - 1]! ^= 1
  fs.writeFileSync(packed, damaged)
  expect(() => decompressFile(packed, unpacked)).toThrow(
    expect.objectContaining({
      details: expect.objectContaining({ found: expect.stringMatching(/checksum/) }),
    }),
  )
})

it('a file cut short is refused', () => {
  fc.assert(
    fc.property(fc.nat(frame.length - 1), length => {
      expect(unpacks(frame.subarray(0, length))).toBe(false)
    }),
    { numRuns: 100 },
  )
})
