/**
 * The platforms' differences that a plain copy of fields would get wrong, one test each; the numbers
 * are those of docs/machines.md. 10 (both copies of gem5's APIC) is in gem5.test.ts, 16 (RAM) in ram-layout.test.ts.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blankCheckpoint, type Gem5Era } from '../../../src/formats/gem5/blank-checkpoint.js'
import type { CheckpointText } from '../../../src/formats/gem5/checkpoint-text.js'
import { missingFeatures } from '../../../src/formats/gem5/cpu-features.js'
import { readState, writeState } from '../../../src/formats/gem5/machine.js'
import { restoreScript } from '../../../src/formats/gem5/restore-script.js'
import { lossesBetween, readTable, writeTable } from '../../../src/formats/machine-table.js'
import { PalaciosFields } from '../../../src/formats/palacios/fields.js'
import { blankContexts } from '../../../src/formats/palacios/layout.js'
import { patchContexts } from '../../../src/formats/palacios/machine.js'
import { palaciosTable } from '../../../src/formats/palacios/table.js'
import { QemuFields } from '../../../src/formats/qemu/fields.js'
import { patchDevices } from '../../../src/formats/qemu/machine.js'
import { openStream } from '../../../src/formats/qemu/read-stream.js'
import type { QemuStream } from '../../../src/formats/qemu/stream.js'
import { qemuTable, virtualNow } from '../../../src/formats/qemu/table.js'
import { doubleToExtended, extendedToDouble } from '../../../src/isa/x87.js'
import {
  emptyState,
  kvmMsrNumbers,
  type MachineImage,
  type MachineState,
  setField,
} from '../../../src/model/machine.js'
import { Memory } from '../../../src/model/memory.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { qemuSample } from './samples.js'

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
  test('11. IRRV and ISRV are the highest requested and served vectors', () => {
    const text = gem5(({ cpu }) => {
      cpu.apic!.requested[1] = 0x80000001
      cpu.apic!.inService[7] = 1
    })
    expect(text.get('system.cpu.xc.0', 'IRRV')).toBe('63')
    expect(text.get('system.cpu.interrupts', 'ISRV')).toBe('224')
  })

  test('9. task priority is in CR8 and in the APIC, which gem5 does not link', () => {
    const text = gem5(({ cpu }) => {
      cpu.taskPriority = 0x5a
    })
    expect(misc(text, 8)).toBe(5n)
    expect(apic(text, 2)).toBe(0x5a)
  })

  test('3. CPL is the DPL of CS', () => {
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

  test('7. the TSC is an offset to the cycles since tick 0, at the clock of the CPU', () => {
    for (const clock of [1e9, 2e9]) {
      const text = gem5(({ cpu }) => {
        cpu.tsc = 5_000_000n
      }, clock)
      expect(misc(text, 26)).toBe(5_000_000n - BigInt((1_000_000 * clock) / 1e12))
      expect(readState(text, { cpuClock: clock, apicClock: 1e9 }).cpu.tsc).toBe(5_000_000n)
    }
  })

  test('4. MMX values pass unrounded, x87 values are rounded to doubles', () => {
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

  test('12. masked requests of a PIC are dropped, since gem5 would deliver them', () => {
    const text = gem5(state => {
      setField(state, 'pic.master.requested', 0b11)
      setField(state, 'pic.master.mask', 0b01)
    })
    expect(text.get('system.pc.south_bridge.pic1', 'IRR')).toBe('2')
  })

  test('12. a writer that waits for the UART is woken', () => {
    const text = gem5(state => setField(state, 'serial.interruptEnable', 2))
    expect(text.get('system.pc.com_1', 'txintrwhen')).toBe('1225000')
  })

  test('13. an interrupt under way between the APICs does not cross', () => {
    const text = gem5(state => setField(state, 'ioApic.redirection.4', 0x5021n))
    expect(text.get('system.pc.south_bridge.io_apic', 'redirTableArray')!.split(' ')[4]).toBe(String(0x21))
  })
})

describe('Palacios', () => {
  test('5. FXSAVE holds x87 registers in the order of the stack', () => {
    const blob = palacios(({ cpu }) => {
      cpu.x87.status = 6 << 11
      cpu.x87.registers = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n]
    }).bytes('guest/FP_STATE_BLOB')!
    expect([0, 1, 2].map(i => blob[32 + 16 * i])).toEqual([6, 7, 0])
  })

  test('3. CPL is a field of its own and follows SS', () => {
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

  test('6. time left of the APIC timer becomes counts, rounded up', () => {
    const fields = palacios(({ cpu }) => {
      cpu.apic!.timer = { initialCount: 100, divide: 0, remaining: 5_001n, rate: 1e9 }
    })
    // Divide configuration 0 divides by 2: a count is 2 ns.
    expect(fields.integer('apic/TMR_CUR_CNT0')).toBe(3n)
  })
})

describe('the rate of the APIC timer', () => {
  test('8. is what the script configures: the CPU clock divided, or a clock of its own; 2011 has only the first', () => {
    const rates = (era: Gem5Era, cpuClock: number) => {
      const { timing } = writeState(
        machine(() => {}),
        blankCheckpoint(era),
        { cpuClock, apicClock: 1e9 },
      ).fields
      expect(timing.cpuClock).toBe(cpuClock)
      return timing.apicClock
    }
    const script = (cpuClock: number) =>
      restoreScript({ ramBytes: 2 ** 25, highRamBytes: 0, cpuClock, apicClock: 1e9, era: 'v24' }).content
    expect([rates('v24', 3e9), rates('2011', 3e9)]).toEqual([1e9, 1e9])
    expect(script(3e9)).toContain('APIC_DIVIDER = 3 ')
    expect([rates('v24', 2.6e9), rates('2011', 2.6e9)]).toEqual([1e9, 2.6e9 / 3])
    expect(script(2.6e9)).toMatch(/APIC_DIVIDER = None .*\nAPIC_CLOCK_HZ = 1000000000\n/)
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

  test('4. a mantissa between two doubles is rounded to the nearer, ties to even', () => {
    const one = (0x3fffn << 64n) | (1n << 63n)
    const bits = (value: number) => new DataView(new Float64Array([value]).buffer).getBigUint64(0, true)
    expect(extendedToDouble(one | 0x400n)).toBe(bits(1))
    expect(extendedToDouble(one | 0x401n)).toBe(bits(1 + Number.EPSILON))
    expect(extendedToDouble(one | 0xc00n)).toBe(bits(1 + 2 * Number.EPSILON))
    expect(extendedToDouble((0x7ffen << 64n) | (1n << 63n))).toBe(bits(Number.POSITIVE_INFINITY))
    expect(extendedToDouble((1n << 64n) | (1n << 63n))).toBe(0n)
  })
})

/** Through each platform's records and back. */
const platforms = {
  gem5: (state: MachineState) => {
    const text = blankCheckpoint('v24')
    writeState(state, text, { cpuClock: 1e9, apicClock: 1e9 })
    return readState(text, { cpuClock: 1e9, apicClock: 1e9 })
  },
  palacios: (state: MachineState) => {
    const fields = new PalaciosFields(blankContexts(), { apicClock: 1e9, paging: undefined })
    writeTable(palaciosTable, state, fields)
    return readTable(palaciosTable, fields)
  },
  qemu: (state: MachineState) => {
    const fields = QemuFields.of(template())
    const { changed } = patchDevices(state, fields)
    const devices = template().devices.map(
      device =>
        changed.find(each => each.name === device.name && each.instance === device.instance) ?? device,
    )
    return readTable(qemuTable, new QemuFields(devices))
  },
}
let stream: QemuStream | undefined
function template(): QemuStream {
  if (stream === undefined) {
    const folder = temporaryFolder()
    stream = openStream(qemuSample('busy', folder))
  }
  return stream
}
const names = Object.keys(platforms) as (keyof typeof platforms)[]

describe.each(names)('%s', name => {
  const through = (change: (state: MachineState) => void) => platforms[name](machine(change))

  test('1. RFLAGS comes back whole: condition bits, direction, interrupts, IOPL', () => {
    for (const rflags of [0x246n, 0xed7n, 0x3297n, 0x200202n])
      expect(
        through(({ cpu }) => {
          cpu.rflags = rflags
        }).cpu.rflags,
      ).toBe(rflags)
  })

  test('3. CPL of a user and of a kernel is told by CS and SS alike', () => {
    for (const dpl of [0, 3]) {
      const { segments } = through(({ cpu }) => {
        cpu.segments.cs.attributes = 0xa09b | (dpl << 5)
        cpu.segments.ss.attributes = 0xc093 | (dpl << 5)
      }).cpu
      expect([(segments.cs.attributes >> 5) & 3, (segments.ss.attributes >> 5) & 3]).toEqual([dpl, dpl])
    }
  })

  test('5. x87 registers stay in their places, whatever the top of the stack', () => {
    const one = 0x3fff8000000000000000n
    const { x87 } = through(({ cpu }) => {
      cpu.x87.status = 5 << 11
      cpu.x87.valid = 0b01100000
      cpu.x87.registers[5] = one
      cpu.x87.registers[6] = one + (1n << 64n)
    }).cpu
    expect([x87.registers[5], x87.registers[6], x87.valid]).toEqual([one, one + (1n << 64n), 0b01100000])
  })

  test('6. times left are kept, whatever the unit: never early, at most a count late', () => {
    const left = 123_456_789n
    const { remaining } = through(state => {
      setField(state, 'cpu.apic.timer.initialCount', 1_000_000)
      setField(state, 'cpu.apic.timer.divide', 0b1011)
      setField(state, 'cpu.apic.timer.remaining', left)
    }).cpu.apic!.timer
    expect(remaining! - left).toBeGreaterThanOrEqual(0n)
    expect(remaining! - left).toBeLessThan(1000n)
  })

  test('9. the task priority is one for CR8 and the APIC', () => {
    expect(
      through(({ cpu }) => {
        cpu.taskPriority = 0x7c
      }).cpu.taskPriority,
    ).toBe(0x7c)
  })

  test('13. an interrupt under way between the APICs does not cross, one that is requested or served does', () => {
    const { cpu, devices } = through(state => {
      setField(state, 'ioApic.redirection.9', 0x5031n)
      state.cpu.apic!.requested[2] = 0x10
      state.cpu.apic!.inService[1] = 0x8000
    })
    expect(devices.ioApic!.redirection[9]).toBe(0x31n)
    expect([cpu.apic!.requested[2], cpu.apic!.inService[1]]).toEqual([0x10, 0x8000])
  })

  test('14. CR4 bits that a platform does not know are kept', () => {
    const cr4 = 0x3006f0n
    expect(
      through(({ cpu }) => {
        cpu.control.cr4 = cr4
      }).cpu.control.cr4,
    ).toBe(cr4)
  })
})

describe('6. the timers of QEMU', () => {
  test.each(['timer', 'timer-min', 'timer-10'] as const)('%s: fire again when QEMU’s own would', name => {
    const stream = openStream(qemuSample(name, temporaryFolder()))
    const before = QemuFields.of(stream)
    const after = QemuFields.of(stream)
    writeTable(qemuTable, readTable(qemuTable, before), after)
    // The APIC counts through zero: its period is a count longer than the register says.
    const period = before.integer('apic/initial_count') + 1n
    for (const fields of [before, after])
      expect(
        (fields.integer('apic/next_time') - fields.integer('apic/initial_count_load_time')) % period,
      ).toBe(0n)
    for (const field of ['apic/timer_expiry', 'i8254/channels[0].next_transition_time'])
      expect([field, after.integer(field)]).toEqual([field, before.integer(field)])
  })

  test('what is due when it is frozen is due when it wakes up, after gem5 as well', () => {
    const stream = openStream(qemuSample('timer-10', temporaryFolder()))
    const due = QemuFields.of(stream)
    for (const field of ['timer_expiry', 'next_time']) due.set(`apic/${field}`, virtualNow(due))
    const after = QemuFields.of(stream)
    writeTable(qemuTable, platforms.gem5(readTable(qemuTable, due)), after)
    expect(after.integer('apic/timer_expiry')).toBe(virtualNow(after))
  })
})

describe('between platforms', () => {
  test('12. a serial writer that gem5 left waiting is woken in QEMU: by the I/O APIC, or by the PIC', () => {
    const waiting = (state: MachineState) => {
      setField(state, 'serial.interruptEnable', 2)
      setField(state, 'serial.transmitInterrupt', true)
    }
    const byApic = platforms.qemu(
      machine(state => {
        waiting(state)
        setField(state, 'ioApic.redirection.4', 0x34n)
      }),
    )
    expect(byApic.cpu.apic!.requested[1]).toBe(1 << 20)
    expect(byApic.devices.serial).toMatchObject({ interruptIdentification: 2, transmitInterrupt: true })
    const byPic = platforms.qemu(
      machine(state => {
        waiting(state)
        setField(state, 'pic.master.mask', 0)
      }),
    )
    expect(byPic.devices.pic!.master.requested).toBe(1 << 4)
    // A machine that shows its interrupt already is left alone.
    const shown = platforms.qemu(
      machine(state => {
        waiting(state)
        setField(state, 'serial.interruptIdentification', 2)
        setField(state, 'ioApic.redirection.4', 0x34n)
      }),
    )
    expect(shown.cpu.apic!.requested[1]).toBe(0)
  })

  test('14. a guest that uses PCID is refused by gem5, whose page walk knows none', () => {
    const image = { ...imageOf(machine(() => {})), cpuFeatures: new Set<string>() }
    image.cpus[0]!.control.cr4 = 0x20000n
    expect(missingFeatures(image)).toEqual(['pcid'])
  })

  test('15. PCI functions that the target has not are told, with what they are', () => {
    const state = machine(({ devices }) => {
      const network = new Uint8Array(256)
      network.set([0x86, 0x80, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 2])
      devices.pciFunctions = new Map([['00:03.0', network]])
    })
    for (const name of names)
      expect(lossesBetween(state, platforms[name](state))).toContainEqual({
        kind: 'dropped',
        subject: 'PCI 00:03.0',
        field: 'configuration',
        detail: '8086:100e network; no function there',
      })
  })

  test('17. the PAM registers of the host bridge, which say what is RAM below 1 MiB, go from QEMU to QEMU', () => {
    const from = QemuFields.of(template())
    const state = readTable(qemuTable, from)
    const bridge = state.devices.pciFunctions!.get('00:00.0')!.slice()
    bridge.set([0x10, 0x11, 0x11], 0x59)
    state.devices.pciFunctions = new Map([...state.devices.pciFunctions!, ['00:00.0', bridge]])
    expect(platforms.qemu(state).devices.pciFunctions!.get('00:00.0')!.slice(0x59, 0x5c)).toEqual(
      Uint8Array.of(0x10, 0x11, 0x11),
    )
  })

  test('18. version registers are the target’s own', () => {
    const text = gem5(() => {})
    expect(apic(text, 1)).toBe(0x50014)
    const fields = palacios(() => {})
    expect([fields.integer('apic/APIC_VER0'), fields.integer('ioApic/IOAPIC_VER')]).toEqual([
      0x80050010n,
      0x170011n,
    ])
  })

  test('19. a guest that takes its time from KVM is refused by gem5, and loses it in Palacios', () => {
    const state = machine(({ cpu }) => {
      cpu.otherMsrs = new Map([
        [kvmMsrNumbers.systemTime, 0x1234001n],
        [kvmMsrNumbers.wallClock, 0x5000n],
      ])
    })
    expect(missingFeatures({ ...imageOf(state), cpuFeatures: new Set<string>() })).toEqual(['kvmclock'])
    expect(platforms.qemu(state).cpu.otherMsrs).toEqual(state.cpu.otherMsrs)
    const losses = lossesBetween(state, platforms.palacios(state)).map(({ field }) => field)
    expect(losses).toEqual(expect.arrayContaining(['MSR 0x4b564d01', 'MSR 0x4b564d00']))
  })
})

describe('asleep', () => {
  test('2. a core asleep in HLT is written at the instruction for Palacios and read behind it', () => {
    const state = machine(({ cpu }) => {
      cpu.halted = true
      cpu.rip = 0x1001n
      cpu.rflags = 0x202n
      cpu.control.cr0 = 0x11n
    })
    const image = imageOf(state, [0x1000n, 0xf4])
    const contexts = blankContexts()
    const losses = patchContexts(image, contexts, { apicClock: 1e9, paging: undefined })
    expect(new PalaciosFields(contexts, { apicClock: 1e9, paging: undefined }).integer('guest/RIP')).toBe(
      0x1000n,
    )
    expect(losses.filter(({ field }) => field === 'rip' || field === 'halted')).toEqual([])
    // Where no HLT stands there, the core wakes up: an idle loop takes that, and the report says so.
    const other = patchContexts(imageOf(state, [0x1000n, 0x90]), blankContexts(), {
      apicClock: 1e9,
      paging: undefined,
    })
    expect(other.map(({ field }) => field)).toContain('halted')
  })
})

function imageOf(state: MachineState, byte?: readonly [address: bigint, value: number]): MachineImage {
  return {
    isa: 'x86-64',
    cpus: [state.cpu],
    devices: state.devices,
    notUnderstood: [],
    origin: { format: 'gem5', path: '', notes: {} },
    memory:
      byte === undefined
        ? Memory.empty
        : Memory.from([
            { address: byte[0], length: 1, content: { kind: 'bytes', bytes: Uint8Array.of(byte[1]) } },
          ]),
  }
}
