import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fitXsave, initialXsave } from '../../../src/engines/microvm/cpu.js'
import { rearrangeXsave, STANDARD_XSAVE, type XsaveLayout } from '../../../src/isa/x86-64-xsave.js'
import { HostError } from '../../../src/lib/errors.js'

/** An area that says that `components` are in use, with `value` at each of `offsets`. */
function area(components: bigint, ...offsets: number[]): Uint8Array {
  const xsave = initialXsave()
  new DataView(xsave.buffer).setBigUint64(512, components, true)
  for (const offset of offsets) xsave[offset] = 0xa5
  return xsave
}
const componentsOf = (xsave: Uint8Array) => new DataView(xsave.buffer).getBigUint64(512, true)

test('protection keys that the kernel hands out are not taken for state of the guest', () => {
  const fitted = fitXsave(area(0x207n, 576, 2688), 7n)
  expect(componentsOf(fitted)).toBe(7n)
  expect(fitted[576]).toBe(0xa5)
})

test('x87 and SSE are always there, and the area given is not changed', () => {
  const given = area(0n)
  expect(componentsOf(fitXsave(given, 3n))).toBe(3n)
  expect(componentsOf(given)).toBe(0n)
})

test('vector registers that nobody uses do not keep a guest from a smaller CPU', () => {
  expect(componentsOf(fitXsave(area(0xe7n, 576), 7n))).toBe(7n)
  expect(componentsOf(fitXsave(area(7n), 3n))).toBe(3n)
})

test('a guest that uses AVX-512 or AVX is refused where the CPU lacks them', () => {
  expect(() => fitXsave(area(0xe7n, 1152), 7n)).toThrow(HostError)
  expect(() => fitXsave(area(7n, 576), 3n)).toThrow(HostError)
})

/** As AMD's Zen 4 says in CPUID leaf 0xD: nothing where Intel keeps the bounds of MPX. */
const zen4: XsaveLayout = new Map([
  [2, { offset: 576, size: 256 }],
  [5, { offset: 832, size: 64 }],
  [6, { offset: 896, size: 512 }],
  [7, { offset: 1408, size: 1024 }],
])

test('AVX-512 registers of a CPU that keeps them elsewhere are moved to their places and back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2432, maxLength: 2432 }), area => {
      const standard = rearrangeXsave(area, zen4, STANDARD_XSAVE)
      expect(standard.subarray(0, 832)).toEqual(area.subarray(0, 832))
      expect(standard.subarray(1088, 1152)).toEqual(area.subarray(832, 896))
      expect(standard.subarray(1664, 2688)).toEqual(area.subarray(1408, 2432))
      expect(rearrangeXsave(standard, STANDARD_XSAVE, zen4).subarray(0, 2432)).toEqual(area)
    }),
    { numRuns: 50 },
  )
})

test('a component that a CPU lacks is not written over another one', () => {
  const standard = new Uint8Array(2688).fill(7)
  const small = rearrangeXsave(standard, STANDARD_XSAVE, new Map([[2, { offset: 576, size: 256 }]]))
  expect(small.subarray(832).every(byte => byte === 0)).toBe(true)
})
