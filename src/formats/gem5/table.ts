/**
 * gem5 X86 ↔ the neutral machine: one table, read and written by the same rows.
 * `regVal` has the same order in all layouts (2011: 0–203; v24 adds 204, XCR0). Sources: gem5 src/arch/x86/regs/misc.hh,
 * isa.cc, interrupts.cc; src/dev/x86, src/dev/intel_8254_timer.cc, mc146818.cc.
 */

import { abridgedTags, doubleToExtended, extendedToDouble, fullTags, topOfStack } from '../../isa/x87.js'
import {
  generalRegisters,
  type InterruptController,
  type MachineState,
  type PitChannel,
  type SegmentName,
} from '../../model/machine.js'
import { type CompoundRow, not, type Row, row, rows } from '../machine-table.js'
import type { Gem5Fields } from './fields.js'
import { fromSegAttributes, modeRegister, toSegAttributes } from './segment-attributes.js'

type Fields = Gem5Fields & { readonly timing: Gem5Timing }
/** What a checkpoint does not say and its configuration does. */
export interface Gem5Timing {
  /** Clock of the CPU, which is the rate of its TSC, in Hz. */
  cpuClock: number
  /** Clock of the local APIC's timer, in Hz; undefined when nothing says it. */
  apicClock: number | undefined
}

const TICKS_PER_SECOND = 1_000_000_000_000n
const FLAGS_READABLE = 0x3f7fd5n
/** Microcode's condition registers: PF AF ZF SF | CF OF | DF. */
const ZAPS = 0xd4n
const CFOF = 0x801n
const DIRECTION = 0x400n
const FLAGS_2011 = 0x8d5n

const integer = (raw: Gem5Fields, name: string): bigint => (raw.get(name) as bigint | undefined) ?? 0n
const reg = (index: number) => `isa.regVal[${index}]`
const apic = (index: number) => `apic.regs[${index}]`

/** Neutral MSRs and control registers that are one element of regVal. */
const miscRegisters: readonly (readonly [index: number, path: string])[] = [
  [0, 'control.cr0'],
  [2, 'control.cr2'],
  [3, 'control.cr3'],
  [4, 'control.cr4'],
  ...[0, 1, 2, 3, 6, 7].map(i => [16 + i, `debug.dr${i}`] as const),
  [28, 'msr.sysenterCs'],
  [29, 'msr.sysenterEsp'],
  [30, 'msr.sysenterEip'],
  ...Array.from({ length: 8 }, (_, i) => [39 + i, `mtrr.variable.${i}.base`] as const),
  ...Array.from({ length: 8 }, (_, i) => [47 + i, `mtrr.variable.${i}.mask`] as const),
  ...Array.from({ length: 11 }, (_, i) => [55 + i, `mtrr.fixed.${i}`] as const),
  [66, 'msr.pat'],
  [67, 'mtrr.defaultType'],
  [100, 'msr.efer'],
  [101, 'msr.star'],
  [102, 'msr.lstar'],
  [103, 'msr.cstar'],
  [104, 'msr.sfmask'],
  [105, 'msr.kernelGsBase'],
  [106, 'msr.tscAux'],
  [192, 'mxcsr'],
  [193, 'x87.control'],
  [198, 'x87.instruction'],
  [200, 'x87.data'],
  [201, 'x87.opcode'],
  [202, 'msr.apicBase'],
]

/** Position of a segment within each of the five groups of regVal (selector, base, effective base, limit, attributes). */
const segmentPositions: Readonly<Record<SegmentName, number>> = {
  es: 0,
  cs: 1,
  ss: 2,
  ds: 3,
  fs: 4,
  gs: 5,
  ldtr: 7,
  tr: 11,
}
const GDTR = 8
const IDTR = 12
const SELECTOR = 126
const BASE = 139
const EFFECTIVE_BASE = 152
const LIMIT = 165
const ATTRIBUTES = 178

const segments: CompoundRow<Fields> = {
  about:
    'segments: selector (garbage above bit 15 is dropped), base, limit, attributes; derived: effective base',
  read(raw, { cpu }) {
    for (const [name, at] of Object.entries(segmentPositions) as [SegmentName, number][])
      Object.assign(cpu.segments[name], {
        selector: Number(integer(raw, reg(SELECTOR + at)) & 0xffffn),
        base: integer(raw, reg(BASE + at)),
        limit: Number(integer(raw, reg(LIMIT + at)) & 0xffffffffn),
        attributes: fromSegAttributes(Number(integer(raw, reg(ATTRIBUTES + at)) & 0xffffn)),
      })
    for (const [table, at] of [
      [cpu.gdtr, GDTR],
      [cpu.idtr, IDTR],
    ] as const) {
      table.base = integer(raw, reg(BASE + at))
      // gem5 leaves garbage above bit 15, as in selectors.
      table.limit = Number(integer(raw, reg(LIMIT + at)) & 0xffffn)
    }
  },
  write({ cpu }, raw) {
    const long = (cpu.msr.efer & 0x400n) !== 0n && (cpu.segments.cs.attributes & 0x2000) !== 0
    for (const [name, at] of Object.entries(segmentPositions) as [SegmentName, number][]) {
      const { selector, base, limit, attributes } = cpu.segments[name]
      const flat = long && at < segmentPositions.fs
      raw.set(reg(SELECTOR + at), BigInt(selector))
      raw.set(reg(BASE + at), base)
      raw.set(reg(EFFECTIVE_BASE + at), flat ? 0n : base)
      raw.set(reg(LIMIT + at), BigInt(limit))
      raw.set(reg(ATTRIBUTES + at), BigInt(toSegAttributes(attributes)))
    }
    for (const [table, at] of [
      [cpu.gdtr, GDTR],
      [cpu.idtr, IDTR],
    ] as const) {
      raw.set(reg(BASE + at), table.base)
      raw.set(reg(EFFECTIVE_BASE + at), table.base)
      raw.set(reg(LIMIT + at), BigInt(table.limit))
    }
    raw.set(reg(25), BigInt(modeRegister(cpu)))
  },
}

const flags: CompoundRow<Fields> = {
  about: 'RFLAGS: condition bits live in registers of their own, in 2011 in integer register 32',
  read(raw, { cpu }) {
    const kept = integer(raw, reg(24))
    cpu.rflags = raw.is2011
      ? kept | (integer(raw, 'xc.integer[32]') & FLAGS_2011) | 2n
      : ((kept |
          integer(raw, 'xc.condition[0]') |
          integer(raw, 'xc.condition[1]') |
          integer(raw, 'xc.condition[2]')) &
          FLAGS_READABLE) |
        2n
  },
  write({ cpu }, raw) {
    const { rflags } = cpu
    if (raw.is2011) {
      raw.set('xc.integer[32]', rflags & FLAGS_2011)
      raw.set(reg(24), rflags & ~FLAGS_2011)
      return
    }
    for (const [i, mask] of [ZAPS, CFOF, DIRECTION, 0n, 0n].entries())
      raw.set(`xc.condition[${i}]`, rflags & mask)
    raw.set(reg(24), rflags & ~(ZAPS | CFOF | DIRECTION))
  },
}

const instructionPointer: CompoundRow<Fields> = {
  about: 'RIP: _pc is linear (with CS base); a clean boundary has no micro-op under way',
  read(raw, { cpu }) {
    const long = (integer(raw, reg(100)) & 0x400n) !== 0n
    cpu.rip = BigInt.asUintN(64, integer(raw, 'xc._pc') - (long ? 0n : integer(raw, reg(BASE + 1))))
    cpu.halted = integer(raw, 'xc._status') === 1n
  },
  write({ cpu }, raw) {
    const long = (cpu.msr.efer & 0x400n) !== 0n
    const linear = BigInt.asUintN(64, cpu.rip + (long ? 0n : cpu.segments.cs.base))
    raw.set('xc._pc', linear)
    raw.set('xc._npc', BigInt.asUintN(64, linear + 8n))
    raw.set('xc._upc', 0n)
    raw.set('xc._nupc', 1n)
    raw.set('xc._size', 0n)
    raw.set('xc._status', cpu.halted ? 1n : 0n)
  },
}

/** MMX values lie in the x87 registers with an exponent of all ones, all tags valid and the top of stack at 0. */
const inMmx = (cpu: MachineState['cpu']) => cpu.x87.valid === 0xff && topOfStack(cpu.x87.status) === 0
const MMX_EXPONENT = 0xffffn << 64n

const vectors: CompoundRow<Fields> = {
  about: 'x87 registers are doubles in gem5 (MMX: raw), XMM pairs of 64 bits',
  read(raw, { cpu }) {
    cpu.x87.status =
      (Number(integer(raw, reg(194)) & 0xffffn) & ~0x3800) | (Number(integer(raw, reg(191)) & 7n) << 11)
    cpu.x87.valid = abridgedTags(Number(integer(raw, reg(195)) & 0xffffn))
    const mmx = inMmx(cpu)
    for (let i = 0; i < 8; i++) {
      const value = integer(raw, `xc.float[${i}]`)
      cpu.x87.registers[i] = mmx ? MMX_EXPONENT | value : doubleToExtended(value)
    }
    for (let i = 0; i < 16; i++)
      cpu.xmm[i] = integer(raw, `xc.float[${8 + 2 * i}]`) | (integer(raw, `xc.float[${9 + 2 * i}]`) << 64n)
  },
  write({ cpu }, raw) {
    raw.set(reg(191), BigInt(topOfStack(cpu.x87.status)))
    raw.set(reg(194), BigInt(cpu.x87.status))
    raw.set(reg(195), BigInt(fullTags(cpu.x87.valid)))
    const mmx = inMmx(cpu)
    for (const [i, value] of cpu.x87.registers.entries())
      raw.set(
        `xc.float[${i}]`,
        mmx && value >> 64n === 0xffffn ? BigInt.asUintN(64, value) : extendedToDouble(value),
      )
    for (const [i, value] of cpu.xmm.entries()) {
      raw.set(`xc.float[${8 + 2 * i}]`, BigInt.asUintN(64, value))
      raw.set(`xc.float[${9 + 2 * i}]`, value >> 64n)
    }
  },
}

const cyclesAt = (tick: bigint, clock: number): bigint => {
  const period = BigInt(Math.round(Number(TICKS_PER_SECOND) / clock))
  return (tick + period - 1n) / period
}

const time: CompoundRow<Fields> = {
  about:
    'curTick is virtual time in ps; the TSC is regVal[26] plus the cycles since tick 0; CR8 and XCR0 follow others',
  read(raw, { cpu, devices }) {
    const tick = integer(raw, 'globals.curTick')
    devices.time = tick
    cpu.tsc = BigInt.asUintN(64, integer(raw, reg(26)) + cyclesAt(tick, raw.timing.cpuClock))
    cpu.tscRate = raw.timing.cpuClock
    cpu.xcr0 = raw.is2011 ? 1n : integer(raw, reg(204)) | 1n
  },
  write({ cpu, devices }, raw) {
    const tick = devices.time ?? integer(raw, 'globals.curTick')
    raw.set('globals.curTick', tick)
    if (cpu.tsc !== undefined)
      raw.set(reg(26), BigInt.asUintN(64, cpu.tsc - cyclesAt(tick, raw.timing.cpuClock)))
    raw.set(reg(8), BigInt(cpu.taskPriority >> 4))
    if (!raw.is2011) raw.set(reg(204), cpu.xcr0 | 1n)
  },
}

const highestVector = (words: readonly number[]): bigint => {
  for (let i = 7; i >= 0; i--) if (words[i] !== 0) return BigInt(32 * i + 31 - Math.clz32(words[i]!))
  return 0n
}

const apicState: CompoundRow<Fields> = {
  about: 'local APIC: constants, summaries of IRR and ISR, the timer as the absolute tick of its event',
  read(raw, { cpu }) {
    if (!raw.has('apic') || cpu.apic === undefined) return
    cpu.taskPriority = Number(integer(raw, apic(2)) & 0xffn)
    cpu.apic.timer.remaining =
      integer(raw, 'apic.apicTimerEventScheduled') !== 0n
        ? integer(raw, 'apic.apicTimerEventTick') - integer(raw, 'globals.curTick')
        : undefined
    cpu.apic.timer.rate = raw.timing.apicClock
  },
  write({ cpu, devices }, raw) {
    raw.set(apic(2), BigInt(cpu.taskPriority))
    if (cpu.apic === undefined) return
    const { requested, inService, spurious, timer } = cpu.apic
    const tick = devices.time ?? integer(raw, 'globals.curTick')
    raw.set(apic(1), 0x50014n)
    raw.set(apic(69), BigInt(spurious & 0x100))
    raw.set('apic.IRRV', highestVector(requested))
    raw.set('apic.ISRV', highestVector(inService))
    raw.set('apic.pendingExtInt', 0n)
    raw.set('apic.pendingIPIs', 0n)
    raw.set('apic.apicTimerEventScheduled', timer.remaining === undefined ? 0n : 1n)
    raw.set('apic.apicTimerEventTick', timer.remaining === undefined ? 0n : tick + timer.remaining)
  },
}

const lvt = ['timer', 'thermal', 'performance', 'lint0', 'lint1', 'error'] as const

const localApic: Row<Fields>[] = [
  row(apic(0), 'cpu.apic.id', {
    read: raw => Number((raw >> 24n) & 0xffn),
    write: id => BigInt(id as number) << 24n,
  }),
  row(apic(6), 'cpu.apic.logicalDestination'),
  row(apic(7), 'cpu.apic.destinationFormat'),
  row(apic(8), 'cpu.apic.spurious'),
  ...rows<Fields>(
    8,
    i => apic(9 + i),
    i => `cpu.apic.inService.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => apic(25 + i),
    i => `cpu.apic.triggerMode.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => apic(41 + i),
    i => `cpu.apic.requested.${i}`,
  ),
  row(apic(57), 'cpu.apic.errorStatus'),
  row(apic(58), 'cpu.apic.commandLow'),
  row(apic(59), 'cpu.apic.commandHigh'),
  ...lvt.map((name, i) => row<Fields>(apic(60 + i), `cpu.apic.lvt.${name}`)),
  row(apic(66), 'cpu.apic.timer.initialCount'),
  row(apic(68), 'cpu.apic.timer.divide'),
]

/** Delivery status and remote IRR belong to the platform: an interrupt under way does not cross. */
const REDIRECTION_CROSSES = ~0x5000n
const crossing = {
  read: (raw: bigint) => raw,
  write: (value: unknown) => (value as bigint) & REDIRECTION_CROSSES,
}

const ioApic: Row<Fields>[] = [
  row('ioApic.regSel', 'ioApic.index'),
  row('ioApic.id', 'ioApic.id'),
  row('ioApic.arbId', 'ioApic.id'),
  ...rows<Fields>(
    24,
    i => `ioApic.redirTableArray[${i}]`,
    i => `ioApic.redirection.${i}`,
    crossing,
  ),
]

const pic = (role: string, name: 'master' | 'slave', cascadeBits: bigint): Row<Fields>[] => [
  row(`${role}.ISR`, `pic.${name}.inService`),
  row(`${role}.IMR`, `pic.${name}.mask`),
  row(`${role}.vectorOffset`, `pic.${name}.vectorBase`),
  row(`${role}.cascadeMode`, `pic.${name}.single`, not),
  row(`${role}.edgeTriggered`, `pic.${name}.allLevel`),
  row(`${role}.readIRR`, `pic.${name}.readInService`, not),
  row(`${role}.expectICW4`, `pic.${name}.expectsIcw4`),
  row(`${role}.initControlWord`, `pic.${name}.initialisation`),
  row(`${role}.autoEOI`, `pic.${name}.autoEnd`),
  {
    about: `${role}: requests are only kept unmasked; the wiring of the cascade`,
    read(raw, { devices }) {
      if (devices.pic) devices.pic[name].requested = Number(integer(raw, `${role}.IRR`) & 0xffn)
    },
    write({ devices }, raw) {
      const controller: InterruptController | undefined = devices.pic?.[name]
      if (controller === undefined) return
      raw.set(`${role}.IRR`, BigInt(controller.requested & ~controller.mask))
      raw.set(`${role}.cascadeBits`, controller.single ? 0n : cascadeBits)
    },
  },
]

const pitChannel = (n: number): CompoundRow<Fields> => ({
  about: `PIT channel ${n}: a 16-bit period and the ticks (2011: the tick) of its next event`,
  read(raw, { devices }) {
    const field = (key: string) => integer(raw, `pit.pit.counter${n}.${key}`)
    if (raw.string('pit', `pit.counter${n}.mode`) === undefined) return
    const channel = pitOf(devices)[n]!
    channel.reload = Number(field('initial_count') & 0xffffn) || 65536
    channel.mode = Number(field('mode') & 7n)
    // Never programmed: gem5 knows only low-then-high access.
    channel.access = field('initial_count') === 0n && field('period') === 0n ? 0 : 3
    channel.latchedCount = Number(field('latched_count') & 0xffffn)
    channel.countLatched = field('latch_on') ? 3 : 0
    channel.readHighNext = field('read_byte') !== 0n
    channel.writeHighNext = field('write_byte') !== 0n
    const left = raw.is2011
      ? field('event_tick') - integer(raw, 'globals.curTick')
      : field('event_tick_offset')
    channel.remaining = field('period') > 0n && left > 0n ? left : undefined
  },
  write({ devices }, raw) {
    const channel = devices.pit?.channels[n]
    if (channel === undefined) return
    const set = (key: string, value: number | bigint) => raw.set(`pit.pit.counter${n}.${key}`, BigInt(value))
    const { reload, mode, remaining } = channel
    const periodic = mode === 2 || mode === 3
    set('initial_count', reload & 0xffff)
    set('mode', gem5Modes.has(mode) ? mode : 0)
    set('latched_count', channel.latchedCount)
    set('latch_on', channel.countLatched ? 1 : 0)
    set('read_byte', channel.readHighNext ? 1 : 0)
    set('write_byte', channel.writeHighNext ? 1 : 0)
    set('output_high', 0)
    set('period', remaining === undefined ? 0 : periodic ? reload - 1 : reload & 0xffff)
    const now = devices.time ?? integer(raw, 'globals.curTick')
    if (raw.is2011) set('event_tick', remaining === undefined ? 0n : now + remaining)
    else set('event_tick_offset', remaining ?? 0n)
  },
})
/** Others make gem5 panic when they are programmed. */
export const gem5Modes: ReadonlySet<number> = new Set([0, 2, 3])

function pitOf(devices: MachineState['devices']): PitChannel[] {
  devices.pit ??= {
    channels: Array.from({ length: 3 }, () => ({
      reload: 65536,
      mode: 3,
      bcd: false,
      gate: true,
      access: 3,
      remaining: undefined,
      countLatched: 0,
      latchedCount: 0,
      statusLatched: false,
      latchedStatus: 0,
      readHighNext: false,
      writeHighNext: false,
      writeLatch: 0,
    })),
  }
  return devices.pit.channels
}

const PERIODIC_INTERRUPT = 0x40
const rtc: Row<Fields>[] = [
  ...rows<Fields>(
    128,
    i => `cmos.regs[${i}]`,
    i => `rtc.cmos.${i}`,
  ),
  row('cmos.address', 'rtc.index'),
  {
    about: 'the clock bytes and registers A and B are kept apart; the update and the periodic event',
    read(raw, { devices }) {
      const { rtc } = devices
      if (rtc === undefined) return
      for (let i = 0; i < 10; i++) rtc.cmos[i] = Number(integer(raw, `cmos.rtc.clock_data[${i}]`) & 0xffn)
      rtc.cmos[10] = Number(integer(raw, 'cmos.rtc.stat_regA') & 0xffn)
      rtc.cmos[11] = Number(integer(raw, 'cmos.rtc.stat_regB') & 0xffn)
      rtc.nextUpdate = integer(raw, 'cmos.rtcClockTickOffset') || undefined
      if (rtc.cmos[11]! & PERIODIC_INTERRUPT)
        rtc.nextPeriodic = integer(raw, 'cmos.rtcTimerInterruptTickOffset') || undefined
    },
    write({ devices }, raw) {
      const { rtc } = devices
      if (rtc === undefined) return
      for (let i = 0; i < 10; i++) raw.set(`cmos.rtc.clock_data[${i}]`, BigInt(rtc.cmos[i]!))
      raw.set('cmos.rtc.stat_regA', BigInt(rtc.cmos[10]! & 0x7f))
      raw.set('cmos.rtc.stat_regB', BigInt(rtc.cmos[11]!))
      raw.set('cmos.rtcClockTickOffset', rtc.nextUpdate ?? TICKS_PER_SECOND / 2n)
      if (rtc.nextPeriodic !== undefined) raw.set('cmos.rtcTimerInterruptTickOffset', rtc.nextPeriodic)
    },
  },
]

/** Ticks after which gem5's UART says that its transmitter is empty. */
const TRANSMIT_TICKS = 225_000n
const TRANSMIT_ENABLED = 2
const DIVISOR_LATCH = 0x80
const serial: Row<Fields>[] = [
  row('com.IER', 'serial.interruptEnable'),
  row('com.LCR', 'serial.lineControl', {
    read: Number,
    write: value => BigInt((value as number) & ~DIVISOR_LATCH),
  }),
  row('com.MCR', 'serial.modemControl'),
  {
    about:
      'a writer that waits for the transmitter must be woken: arm the event when its interrupt is enabled',
    read(raw, { devices }) {
      if (devices.serial)
        devices.serial.transmitInterrupt =
          (integer(raw, 'com.status') & 2n) !== 0n || integer(raw, 'com.txintrwhen') !== 0n
    },
    write({ devices }, raw) {
      if (devices.serial === undefined) return
      const now = devices.time ?? integer(raw, 'globals.curTick')
      raw.set('com.status', 0n)
      raw.set('com.rxintrwhen', 0n)
      const waits = devices.serial.interruptEnable & TRANSMIT_ENABLED
      raw.set('com.txintrwhen', waits ? now + TRANSMIT_TICKS : 0n)
    },
  },
]

const speaker: CompoundRow<Fields> = {
  about: 'the speaker register: gate of PIT channel 2, data',
  read(raw, { devices }) {
    if (!raw.has('speaker')) return
    const control = integer(raw, `speaker.${speakerKey(raw)}`)
    devices.speaker = { data: (control & 2n) !== 0n }
    if (devices.pit) devices.pit.channels[2]!.gate = (control & 1n) !== 0n
  },
  write({ devices }, raw) {
    const gate = devices.pit?.channels[2]?.gate ? 1n : 0n
    if (devices.speaker) raw.set(`speaker.${speakerKey(raw)}`, gate | (devices.speaker.data ? 2n : 0n))
  },
}
const speakerKey = (raw: Gem5Fields) => (raw.is2011 ? 'controlValData' : 'controlVal')

const NOTHING_PENDING = 0xffffn
const keyboard: Row<Fields>[] = [
  row('keyboard.statusReg', 'keyboard.status', undefined, raw => !raw.is2011),
  row('keyboard.commandByte', 'keyboard.commandByte', undefined, raw => !raw.is2011),
  row('keyboard.statusRegData', 'keyboard.status', undefined, raw => raw.is2011),
  row('keyboard.commandByteData', 'keyboard.commandByte', undefined, raw => raw.is2011),
  row('keyboard.dataReg', 'keyboard.output'),
  row('keyboard.lastCommand', 'keyboard.pendingCommand', {
    read: raw => (raw === NOTHING_PENDING ? 0 : Number(raw & 0xffn)),
    write: value => (value === 0 ? NOTHING_PENDING : BigInt(value as number)),
  }),
]

/** In order: rows that create a device come before those that refine it; the PIT before the speaker. */
export const gem5Table: readonly Row<Fields>[] = [
  ...rows<Fields>(
    16,
    i => `xc.integer[${i}]`,
    i => `cpu.general.${generalRegisters[i]}`,
  ),
  ...miscRegisters.map(([index, path]) => row<Fields>(reg(index), `cpu.${path}`, widths(path))),
  segments,
  flags,
  instructionPointer,
  vectors,
  time,
  ...localApic,
  apicState,
  row(reg(203), 'pciHost.configAddress'),
  ...ioApic,
  ...pic('pic1', 'master', 4n),
  ...pic('pic2', 'slave', 2n),
  pitChannel(0),
  pitChannel(1),
  pitChannel(2),
  ...rtc,
  ...serial,
  speaker,
  ...keyboard,
]

/** regVal elements are 64 bits; narrow registers keep their own width. */
function widths(path: string) {
  const width =
    path === 'mxcsr' ? 0xffffffffn : path === 'x87.control' || path === 'x87.opcode' ? 0xffffn : 0n
  if (width === 0n) return undefined
  return { read: (raw: bigint) => Number(raw & width), write: (value: unknown) => BigInt(value as number) }
}
