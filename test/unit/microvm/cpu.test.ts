import { expect, test } from 'vitest'
import { fitXsave, initialXsave } from '../../../src/engines/microvm/cpu.js'
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
