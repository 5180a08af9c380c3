/** Random machine states made from the schema itself, so that a new field is tested the day it is added. */
import fc from 'fast-check'
import { emptyState, type MachineState, machineLeaves, setField } from '../../src/model/machine.js'
import type { Leaf } from '../../src/model/machine-schema.js'

function arbitraryOf(leaf: Leaf<unknown>): fc.Arbitrary<unknown> {
  const value = ((): fc.Arbitrary<unknown> => {
    switch (leaf.kind) {
      case 'flag':
        return fc.boolean()
      case 'duration':
        return fc.bigInt({ min: 1n, max: 10n ** 13n })
      case 'frequency':
        return fc.constantFrom(1_000_000_000, 62_500_000, 2_600_000_000)
      case 'bytes':
        return fc.uint8Array({ maxLength: leaf.width })
      case 'integer':
        return leaf.width <= 32
          ? fc.nat(2 ** leaf.width - 1)
          : fc.bigInt({ min: 0n, max: (1n << BigInt(leaf.width)) - 1n })
    }
  })()
  return leaf.optional ? fc.option(value, { nil: undefined }) : value
}

const paths = [...machineLeaves.keys()]
const values = fc.tuple(...[...machineLeaves.values()].map(arbitraryOf))

/** Any value that fits each field: for codecs that must hold anything. All devices are present. */
export const anyState: fc.Arbitrary<MachineState> = values.map(all => {
  const state = emptyState()
  for (const [i, path] of paths.entries()) setField(state, path, all[i])
  return state
})
