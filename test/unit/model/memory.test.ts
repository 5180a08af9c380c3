import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BufferSource } from '../../../src/lib/byte-source.js'
import { type Content, type Extent, Memory, ZERO } from '../../../src/model/memory.js'

const SPACE = 256

/** Random extents within a small address space that may overlap. */
const someExtents = fc.array(
  fc.record({
    address: fc.nat(SPACE - 1),
    length: fc.integer({ min: 1, max: 40 }),
    kind: fc.constantFrom('zero', 'bytes', 'slice'),
    seed: fc.nat(255),
  }),
  { maxLength: 12 },
)

function makeExtent({
  address,
  length,
  kind,
  seed,
}: {
  address: number
  length: number
  kind: string
  seed: number
}): Extent {
  const bytes = Uint8Array.from({ length }, (_, i) => (seed + i) & 255)
  const content: Content =
    kind === 'zero'
      ? ZERO
      : kind === 'bytes'
        ? { kind: 'bytes', bytes }
        : { kind: 'slice', source: new BufferSource(bytes), offset: 0 }
  return { address: BigInt(address), length, content }
}

/** What is at each address: undefined for a gap. */
function flatten(memory: Memory): (number | undefined)[] {
  return Array.from({ length: SPACE + 40 }, (_, at) => memory.tryRead(BigInt(at), 1)?.[0])
}

describe('Memory', () => {
  test('overlay shows the newest bytes at every address, and older ones elsewhere', () => {
    fc.assert(
      fc.property(someExtents, layers => {
        const extents = layers.map(makeExtent)
        const memory = extents.reduce((below, extent) => below.overlay([extent]), Memory.empty)
        const expected: (number | undefined)[] = new Array(SPACE + 40).fill(undefined)
        for (const extent of extents)
          for (let i = 0; i < extent.length; i++)
            expected[Number(extent.address) + i] = Memory.from([extent]).read(
              extent.address + BigInt(i),
              1,
            )[0]
        expect(flatten(memory)).toEqual(expected)
      }),
    )
  })

  test('without leaves exactly the bytes outside the range', () => {
    fc.assert(
      fc.property(someExtents, fc.nat(SPACE), fc.nat(40), (layers, start, length) => {
        const memory = layers.map(makeExtent).reduce((below, extent) => below.overlay([extent]), Memory.empty)
        const before = flatten(memory)
        const after = flatten(memory.without(BigInt(start), BigInt(start + length)))
        expect(after).toEqual(
          before.map((byte, at) => (at >= start && at < start + length ? undefined : byte)),
        )
      }),
    )
  })

  test('neighbouring slices of one source become one extent', () => {
    const source = new BufferSource(new Uint8Array(8192))
    const memory = Memory.from([
      { address: 4096n, length: 4096, content: { kind: 'slice', source, offset: 4096 } },
      { address: 0n, length: 4096, content: { kind: 'slice', source, offset: 0 } },
    ])
    expect(memory.extents).toHaveLength(1)
  })

  test('overlapping pieces are refused with the address', () => {
    expect(() =>
      Memory.from([
        { address: 0n, length: 8192, content: ZERO },
        { address: 4096n, length: 4096, content: ZERO },
      ]),
    ).toThrow(/overlap/)
  })

  test('a read across a gap is refused', () => {
    const memory = Memory.from([
      { address: 0n, length: 16, content: ZERO },
      { address: 32n, length: 16, content: ZERO },
    ])
    expect(() => memory.read(8n, 16)).toThrow(/does not hold/)
    expect(memory.tryRead(8n, 16)).toBeUndefined()
  })
})
