/**
 * Any machine, through any platform's records and back: what the platform holds is identical, what it cannot hold is
 * exactly what the loss report says. `cannotHold` is the list of the documentation; a field that is lost without
 * being on it fails the test.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { blankCheckpoint } from '../../../src/formats/gem5/blank-checkpoint.js'
import { readState, writeState } from '../../../src/formats/gem5/machine.js'
import {
  lossesBetween,
  placeOf,
  readTable,
  sameValue,
  writeTable,
} from '../../../src/formats/machine-table.js'
import { PalaciosFields } from '../../../src/formats/palacios/fields.js'
import { blankContexts } from '../../../src/formats/palacios/layout.js'
import { formatText, parseText } from '../../../src/formats/palacios/records.js'
import { palaciosTable } from '../../../src/formats/palacios/table.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { patchDevices } from '../../../src/formats/qemu/machine.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import type { QemuStream } from '../../../src/formats/qemu/stream.js'
import { qemuTable } from '../../../src/formats/qemu/table.js'
import { withSerialAtWork } from '../../../src/formats/qemu/wake.js'
import { getField, type MachineState, machineLeaves } from '../../../src/model/machine.js'
import { anyState } from '../../helpers/random-machine.js'
import { rounds } from '../../helpers/rounds.js'
import { qemuSample } from './samples.js'

/** A state as a real machine may have it: invariants of the model, and registers with fixed bits. */
const realState = anyState.map(state => {
  const { cpu, devices } = state
  for (const segment of Object.values(cpu.segments))
    segment.attributes =
      segment.attributes & 0x80 ? segment.attributes & 0xf0ff : (segment.attributes & 0xf0ff) | 0x10000
  cpu.rflags = (cpu.rflags & 0x3d7fd5n) | 2n
  cpu.xcr0 |= 1n
  cpu.msr.efer &= ~0x1000n
  cpu.msr.apicBase &= 0xffffffffn
  if (cpu.msr.sysenterCs !== undefined) cpu.msr.sysenterCs &= 0xffffffffn
  cpu.tscRate = 1e9
  cpu.apic!.timer.rate = 1e9
  cpu.apic!.logicalDestination = (cpu.apic!.logicalDestination & 0xff000000) >>> 0
  cpu.apic!.destinationFormat = (cpu.apic!.destinationFormat | 0x0fffffff) >>> 0
  devices.time = 7_000_000_000n
  for (const entry of devices.ioApic!.redirection.keys()) devices.ioApic!.redirection[entry]! &= ~0x5000n
  const { serial } = devices
  // Without FIFOs one byte waits at most.
  if ((serial!.fifoControl & 1) === 0) serial!.transmitFifo = serial!.transmitFifo.subarray(0, 1)
  for (const channel of devices.pit!.channels) {
    channel.reload = (channel.reload % 65535) + 1
    channel.access = 3
    channel.gate = true
  }
  return state
})

const differing = (before: MachineState, after: MachineState) =>
  [...machineLeaves.keys()].filter(path => !sameValue(getField(before, path), getField(after, path)))

/** Fields differ only where `cannotHold` allows, and each difference is in the report. */
function check(before: MachineState, after: MachineState, cannotHold: RegExp): void {
  const fields = differing(before, after)
  // What the machine does not say is defaulted; everything else must be allowed.
  const lost = fields.filter(path => getField(before, path) !== undefined && !cannotHold.test(path))
  expect(lost).toEqual([])
  const reported = new Set(lossesBetween(before, after).map(({ subject, field }) => `${subject} ${field}`))
  const silent = fields.filter(path => {
    const { subject, field } = placeOf(path)
    const value = getField(before, path)
    return (
      !reported.has(`${subject} ${field}`) && !reported.has(`${subject} all`) && value !== 0n && value !== 0
    )
  })
  expect(silent).toEqual([])
}

const unheldPic = 'pic\\.\\w+\\.(requested|levelTriggered|lines|lowestPriority|poll|special\\w+|rotate\\w+)'
const unheldUart =
  'serial\\.(divisor|received|interruptIdentification|fifoControl|line\\w+|modemStatus|scratch|transmit\\w+|receiveFifo)'

describe('random machines through gem5', () => {
  const cannotHold = (more: string) =>
    new RegExp(
      `^(cpu\\.(x87\\.registers|ymmHigh)|ioApic\\.requested|${unheldPic}|${unheldUart}|pit\\.channels\\.\\d\\.(mode|bcd|gate|access|remaining|countLatched|status\\w+|latchedStatus|writeLatch)|rtc\\.(cmos\\.10|next\\w+)|keyboard\\.scancodeSet${more})`,
    )
  test.each(['v24', '2011'] as const)('%s', era => {
    // 2011 has no XCR0 and does not say whether the keyboard sends.
    const allowed = cannotHold(era === '2011' ? '|cpu\\.xcr0|keyboard\\.scanning' : '')
    fc.assert(
      fc.property(realState, state => {
        const text = blankCheckpoint(era)
        writeState(state, text, { cpuClock: 1e9, apicClock: 1e9 })
        check(state, readState(text, { cpuClock: 1e9, apicClock: 1e9 }), allowed)
      }),
      { numRuns: rounds(1000, 40), endOnFailure: true },
    )
  })

  test('what gem5 holds survives a second time without any change', () => {
    fc.assert(
      fc.property(realState, state => {
        const [first, second] = [blankCheckpoint('v24'), blankCheckpoint('v24')]
        const timing = { cpuClock: 1e9, apicClock: 1e9 }
        writeState(state, first, timing)
        const middle = readState(first, timing)
        writeState(middle, second, timing)
        // Time left on the RTC's periodic event is only kept where its interrupt is enabled.
        const after = readState(second, timing)
        expect(differing(middle, after).filter(path => !/^(rtc\.next|serial\.transmit)/.test(path))).toEqual(
          [],
        )
      }),
      { numRuns: rounds(500, 20), endOnFailure: true },
    )
  })
})

describe('random machines through Palacios', () => {
  const cannotHold =
    /^(time|rtc|cpu\.(mtrr|msr\.tscAux|tsc|xcr0|ymmHigh|halted|apic\.timer\.remaining)|ioApic\.requested|pic\.\w+\.(lines|lowestPriority|poll|specialMask|rotate\w+)|serial\.transmit(Interrupt|ting)|keyboard\.(pending\w+|scanning)|mouse|pit\.channels\.\d\.(remaining|bcd|countLatched|status\w+|latchedStatus|writeLatch)|pciHost)/
  test('textfile form', () => {
    const timing = { apicClock: 1e9, paging: undefined } as const
    fc.assert(
      fc.property(realState, state => {
        const fields = new PalaciosFields(blankContexts(), timing)
        writeTable(palaciosTable, state, fields)
        const again = fields.contexts.map(context => parseText(formatText(context), context.key))
        check(state, readTable(palaciosTable, new PalaciosFields(again, timing)), cannotHold)
      }),
      { numRuns: rounds(1000, 40), endOnFailure: true },
    )
  })
})

describe('random machines through QEMU', () => {
  let template: QemuStream
  beforeAll(() => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-test-'))
    template = openStream(qemuSample('busy', folder))
    // The open descriptor keeps the bytes.
    fs.rmSync(folder, { recursive: true })
  })
  const cannotHold =
    /^(time|cpu\.(tscRate|apic\.timer\.remaining)|pic\.\w+\.allLevel|rtc\.(next\w+|cmos\.([0-9]|12)$)|pit\.channels\.\d\.(remaining|writeLatch))/
  test('over a template', () => {
    fc.assert(
      fc.property(realState, machine => {
        const fields = QemuFields.of(template)
        const { changed } = patchDevices(machine, fields)
        const state = withSerialAtWork(machine)
        const devices = template.devices.map(
          device =>
            changed.find(each => each.name === device.name && each.instance === device.instance) ?? device,
        )
        const after = readTable(qemuTable, new QemuFields(devices))
        check({ ...state, devices: { ...state.devices, time: after.devices.time } }, after, cannotHold)
        // Times are rounded up to the nanosecond, never down.
        const [before, left] = [state.cpu.apic!.timer.remaining, after.cpu.apic!.timer.remaining]
        if (before !== undefined) expect(left! - before).toBeLessThan(1000n)
      }),
      { numRuns: rounds(1000, 40), endOnFailure: true },
    )
  })
})
