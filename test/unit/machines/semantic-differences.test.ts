/** The platforms' differences that a plain copy of fields would get wrong, one test each. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blankCheckpoint } from '../../../src/formats/gem5/blank-checkpoint.js'
import type { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { readState, writeState } from '../../../src/formats/gem5/machine.js'
import { writeTable } from '../../../src/formats/machine-table.js'
import { PalaciosFields } from '../../../src/formats/palacios/fields.js'
import { blankContexts } from '../../../src/formats/palacios/layout.js'
import { palaciosTable } from '../../../src/formats/palacios/table.js'
import { doubleToExtended, extendedToDouble } from '../../../src/isa/x87.js'
import { emptyState, type MachineState, setField } from '../../../src/model/machine.js'

function machine(change: (state: MachineState) => void): MachineState {
  const state = emptyState()
  setField(state, 'cpu.apic.id', 0)
  state.devices.time = 1_000_000n
  change(state)
  return state
}

function gem5(change: (state: MachineState) => void, cpuClock = 1e9): CheckpointText {
  const text = blankCheckpoint('v24')
  writeState(machine(change), text, { cpuClock, apicClock: 1e9 })
  return text
}

function palacios(change: (state: MachineState) => void): PalaciosFields {
  const fields = new PalaciosFields(blankContexts(), { apicClock: 1e9, paging: undefined })
  writeTable(palaciosTable, machine(change), fields)
  return fields
}

const misc = (text: CheckpointText, index: number) =>
  BigInt(text.get('system.cpu.isa', 'regVal')!.split(' ')[index]!)
const apic = (text: CheckpointText, index: number) =>
  Number(text.get('system.cpu.xc.0', 'regs')!.split(' ')[index]!)

describe('gem5', () => {
  test('IRRV and ISRV are the highest requested and served vectors', () => {
    const text = gem5(({ cpu }) => {
      cpu.apic!.requested[1] = 0x80000001
      cpu.apic!.inService[7] = 1
    })
    expect(text.get('system.cpu.xc.0', 'IRRV')).toBe('63')
    expect(text.get('system.cpu.interrupts', 'ISRV')).toBe('224')
  })

  test('task priority is in CR8 and in the APIC, which gem5 does not link', () => {
    const text = gem5(({ cpu }) => {
      cpu.taskPriority = 0x5a
    })
    expect(misc(text, 8)).toBe(5n)
    expect(apic(text, 2)).toBe(0x5a)
  })

  test('CPL is the DPL of CS', () => {
    const text = gem5(({ cpu }) => {
      cpu.segments.cs.attributes = 0xa0fb
      cpu.segments.ss.attributes = 0xc0f3
    })
    expect(misc(text, 179) & 3n).toBe(3n)
  })

  test('effective bases of ES, CS, SS, DS are 0 in 64-bit mode and real otherwise', () => {
    const with64 = (attributes: number) =>
      gem5(({ cpu }) => {
        cpu.msr.efer = 0x500n
        cpu.segments.cs.attributes = attributes
        cpu.segments.ds.base = 0x1000n
        cpu.segments.fs.base = 0x2000n
      })
    expect([misc(with64(0xa09b), 155), misc(with64(0xa09b), 156)]).toEqual([0n, 0x2000n])
    expect(misc(with64(0xc09b), 155)).toBe(0x1000n)
  })

  test('the mode register of a 64-bit kernel and of its user is what gem5 itself computes', () => {
    const mode = (dpl: number) =>
      misc(
        gem5(({ cpu }) => {
          cpu.msr.efer = 0x500n
          cpu.control.cr0 = 0x80000001n
          cpu.segments.cs.attributes = 0xa09b | (dpl << 5)
        }),
        25,
      )
    expect([mode(0), mode(3)]).toEqual([0x3b6c0n, 0x3b6f0n])
  })

  test('the TSC is an offset to the cycles since tick 0, at the clock of the CPU', () => {
    for (const clock of [1e9, 2e9]) {
      const text = gem5(({ cpu }) => {
        cpu.tsc = 5_000_000n
      }, clock)
      expect(misc(text, 26)).toBe(5_000_000n - BigInt((1_000_000 * clock) / 1e12))
      expect(readState(text, { cpuClock: clock, apicClock: 1e9 }).cpu.tsc).toBe(5_000_000n)
    }
  })

  test('MMX values pass unrounded, x87 values are rounded to doubles', () => {
    const mmx = (0xffffn << 64n) | 0x123456789abcdef1n
    const long = (0x4013n << 64n) | 0xb71afffffffd1107n
    const through = (valid: number, value: bigint) => {
      const text = gem5(({ cpu }) => {
        cpu.x87.valid = valid
        cpu.x87.registers.fill(value)
      })
      return readState(text).cpu.x87.registers[3]
    }
    expect(through(0xff, mmx)).toBe(mmx)
    expect(through(0x0f, long)).toBe((0x4013n << 64n) | 0xb71afffffffd1000n)
  })

  test('masked requests of a PIC are dropped, since gem5 would deliver them', () => {
    const text = gem5(state => {
      setField(state, 'pic.master.requested', 0b11)
      setField(state, 'pic.master.mask', 0b01)
    })
    expect(text.get('system.pc.south_bridge.pic1', 'IRR')).toBe('2')
  })

  test('a writer that waits for the UART is woken', () => {
    const text = gem5(state => setField(state, 'serial.interruptEnable', 2))
    expect(text.get('system.pc.com_1', 'txintrwhen')).toBe('1225000')
  })

  test('an interrupt under way between the APICs does not cross', () => {
    const text = gem5(state => setField(state, 'ioApic.redirection.4', 0x5021n))
    expect(text.get('system.pc.south_bridge.io_apic', 'redirTableArray')!.split(' ')[4]).toBe(String(0x21))
  })
})

describe('Palacios', () => {
  test('FXSAVE holds x87 registers in the order of the stack', () => {
    const blob = palacios(({ cpu }) => {
      cpu.x87.status = 6 << 11
      cpu.x87.registers = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n]
    }).bytes('guest/FP_STATE_BLOB')!
    expect([0, 1, 2].map(i => blob[32 + 16 * i])).toEqual([6, 7, 0])
  })

  test('CPL is a field of its own and follows SS', () => {
    const fields = palacios(({ cpu }) => {
      cpu.segments.ss.attributes = 0xc0f3
    })
    expect([fields.integer('guest/CPL'), fields.integer('vmcb/CPL')]).toEqual([3n, 3n])
  })

  test('registers that only the VMCB holds go there, and its control area stays', () => {
    const fields = palacios(({ cpu }) => {
      cpu.msr.sysenterEip = 0x1122334455667788n
    })
    const block = fields.bytes('vmcb/VMCB_DATA')!
    expect(fields.integer('vmcb/SYSENTER_EIP')).toBe(0x1122334455667788n)
    expect(Buffer.from(block).readBigUInt64LE(0x638)).toBe(0x1122334455667788n)
    expect(block.subarray(0, 0x400).every(byte => byte === 0)).toBe(true)
  })

  test('time left of the APIC timer becomes counts, rounded up', () => {
    const fields = palacios(({ cpu }) => {
      cpu.apic!.timer = { initialCount: 100, divide: 0, remaining: 5_001n, rate: 1e9 }
    })
    // Divide configuration 0 divides by 2: a count is 2 ns.
    expect(fields.integer('apic/TMR_CUR_CNT0')).toBe(3n)
  })
})

describe('80-bit numbers', () => {
  test('every double survives, and agrees with what JavaScript makes of it', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), bits => {
        expect(extendedToDouble(doubleToExtended(bits))).toBe(bits)
      }),
      { numRuns: 2000 },
    )
  })

  test('a mantissa between two doubles is rounded to the nearer, ties to even', () => {
    const one = (0x3fffn << 64n) | (1n << 63n)
    const bits = (value: number) => new DataView(new Float64Array([value]).buffer).getBigUint64(0, true)
    expect(extendedToDouble(one | 0x400n)).toBe(bits(1))
    expect(extendedToDouble(one | 0x401n)).toBe(bits(1 + Number.EPSILON))
    expect(extendedToDouble(one | 0xc00n)).toBe(bits(1 + 2 * Number.EPSILON))
    expect(extendedToDouble((0x7ffen << 64n) | (1n << 63n))).toBe(bits(Number.POSITIVE_INFINITY))
    expect(extendedToDouble((1n << 64n) | (1n << 63n))).toBe(0n)
  })
})
