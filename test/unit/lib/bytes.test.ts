import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ByteReader, ByteWriter, isZero } from '../../../src/lib/bytes.js'
import { UnreadableError } from '../../../src/lib/errors.js'

test('what ByteWriter writes, ByteReader reads', () => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(65535),
      fc.nat(0xffffffff),
      fc.bigInt(0n, 2n ** 64n - 1n),
      fc.uint8Array(),
      (a, b, c, d, e) => {
        const reader = new ByteReader(new ByteWriter(1).u8(a).u16(b).u32(c).u64(d).put(e).finish())
        expect([reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.take(e.length)]).toEqual([
          a,
          b,
          c,
          d,
          e,
        ])
        expect(reader.remaining).toBe(0)
      },
    ),
  )
})

test('a short read names the file offset, what is there and what is needed', () => {
  const reader = new ByteReader(new Uint8Array(10), { base: 0x100, file: 'x.img', position: 6 })
  try {
    reader.u64('entry length')
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(UnreadableError)
    expect((error as UnreadableError).describe()).toBe(
      'truncated: entry length runs past the end (x.img, offset 0x106)\n  found:    4 bytes\n  expected: 8 bytes',
    )
  }
})

test('isZero finds a single set bit anywhere', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200_000 }),
      fc.nat(),
      fc.nat(7),
      fc.nat(15),
      (length, at, bit, skew) => {
        const bytes = new Uint8Array(length + skew).subarray(skew)
        expect(isZero(bytes)).toBe(true)
        bytes[at % length] = 1 << bit
        expect(isZero(bytes)).toBe(false)
      },
    ),
    { numRuns: 50 },
  )
})
