import { expect, it } from 'vitest'
import { readTable } from '../../../src/formats/machine-table.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { hiddenFlags } from '../../../src/formats/qemu/hidden-flags.js'
import { readStream } from '../../../src/formats/qemu/read-stream.js'
import { qemuTable } from '../../../src/formats/qemu/table.js'
import { qemuSampleSource, qemuSamples } from '../../helpers/qemu-samples.js'

it.each(qemuSamples)('%s: the mode flags worked out from the registers are those that QEMU kept', name => {
  const stream = readStream(qemuSampleSource(name))
  const state = readTable(qemuTable, QemuFields.of(stream))
  const kept = stream.requireDevice('cpu').integer('env.hflags')
  // From a template that stands in real mode: nothing may be left of it.
  expect(hiddenFlags(state, 0x40n)).toBe(kept)
})

it('a 32-bit protected mode with flat segments has neither long mode nor counting bases', () => {
  const stream = readStream(qemuSampleSource('timer'))
  const state = readTable(qemuTable, QemuFields.of(stream))
  state.cpu.msr.efer = 0n
  state.cpu.segments.cs.attributes = 0xc09b
  expect(hiddenFlags(state, 0n) & 0xc0f0n).toBe(0xb0n)
  state.cpu.segments.ds.base = 0x1000n
  expect(hiddenFlags(state, 0n) & 0x40n).toBe(0x40n)
})
