import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { emptyState, getField, machineLeaves, setField } from '../../../src/model/machine.js'
import { anyState } from '../../helpers/random-machine.js'

describe('the schema of the neutral machine', () => {
  test('every field can be set and read back by its path, and no path shadows another', () => {
    fc.assert(
      fc.property(anyState, state => {
        const copy = emptyState()
        for (const path of machineLeaves.keys()) setField(copy, path, getField(state, path))
        expect(copy).toEqual(state)
      }),
      { numRuns: 20 },
    )
  })

  test('a machine after reset has no devices and the reset values of the Intel SDM', () => {
    const state = emptyState()
    expect(state.devices.pit).toBeUndefined()
    expect(state.cpu.control.cr0).toBe(0x60000010n)
    expect(state.cpu.rflags).toBe(2n)
  })

  test('setting a field of an absent device creates it in its reset state', () => {
    const state = emptyState()
    setField(state, 'ioApic.id', 3)
    expect(state.devices.ioApic?.redirection).toEqual(new Array(24).fill(0x10000n))
  })

  test('two machines do not share the lists of the schema', () => {
    const first = emptyState()
    first.cpu.xmm[0] = 7n
    expect(emptyState().cpu.xmm[0]).toBe(0n)
  })
})
