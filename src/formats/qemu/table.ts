/**
 * QEMU's PC ↔ the neutral machine: one table, read and written by the same rows. Field names are those of the stream's
 * own description (QEMU 7.2 to 10: target/i386/machine.c, hw/intc, hw/timer, hw/char, hw/input, hw/rtc).
 *
 * Device times are nanoseconds of the virtual clock; "now" is where the template stands, and everything is rebased to it.
 */
import { generalRegisters, type PitChannel, segmentNames } from '../../model/machine.js'
import { type CompoundRow, type Row, row, rows, type Table } from '../machine-table.js'
import type { QemuFields } from './fields.js'
import { hiddenFlags } from './hidden-flags.js'

type Fields = QemuFields
const PS = 1000n
/** Ticks of the APIC timer before division, and of the TSC under -icount, per second. */
export const QEMU_APIC_RATE = 1_000_000_000
const PIT_RATE = 1_193_182n
const NS_PER_SECOND = 1_000_000_000n

const bits = (mask: number) => ({
  read: (raw: bigint) => Number(raw) & mask,
  write: (value: unknown) => BigInt(value as number),
})
/** From the neutral picoseconds to nanoseconds: up, so that nothing happens early. */
const toNs = (ps: bigint) => (ps + PS - 1n) / PS

const ICOUNT = 'timer/timer/icount.qemu_icount'
const BIAS = 'timer/timer/icount.qemu_icount_bias'
const hasIcount = (raw: Fields) => raw.has(ICOUNT)

/** The virtual clock, in ns. */
export function virtualNow(raw: Fields): bigint {
  return hasIcount(raw)
    ? raw.integer(BIAS) + (raw.integer(ICOUNT) << raw.icountShift)
    : raw.integer('timer/cpu_clock_offset')
}

const time: CompoundRow<Fields> = {
  about: 'the virtual clock; under -icount the TSC is that clock, otherwise the host’s plus an offset',
  read(raw, { cpu, devices }) {
    const now = virtualNow(raw)
    devices.time = now * PS
    cpu.tsc = BigInt.asUintN(
      64,
      hasIcount(raw) ? now : raw.integer('timer/cpu_ticks_offset') + raw.integer('cpu/env.tsc'),
    )
    const kHz = raw.integer('cpu/cpu/tsc_khz.env.tsc_khz')
    cpu.tscRate = hasIcount(raw) ? QEMU_APIC_RATE : kHz > 0n ? Number(kHz) * 1000 : undefined
  },
  write({ cpu }, raw) {
    if (cpu.tsc === undefined) return
    if (hasIcount(raw)) {
      raw.set(BIAS, BigInt.asIntN(64, cpu.tsc - (raw.integer(ICOUNT) << raw.icountShift)))
      raw.set('timer/cpu_clock_offset', BigInt.asIntN(64, cpu.tsc))
    } else {
      raw.set('timer/cpu_ticks_offset', BigInt.asIntN(64, cpu.tsc))
      raw.set('cpu/env.tsc', 0n)
    }
  },
}

/** Descriptor bits 8–15 and 20–23 are VMX access rights 0–7 and 12–15. */
const toFlags = (rights: number) => (rights & 0x10000 ? rights & 0xf07f : rights & 0xf0ff) << 8
const fromFlags = (flags: number) => {
  const rights = (flags >>> 8) & 0xf0ff
  return rights & 0x80 ? rights : rights | 0x10000
}
const segmentFields: Readonly<Record<string, string>> = { ldtr: 'env.ldt', tr: 'env.tr' }
const segments: Row<Fields>[] = segmentNames.flatMap((name, i) => {
  const from = `cpu/${segmentFields[name] ?? `env.segs[${i}]`}`
  return [
    row<Fields>(`${from}.selector`, `cpu.segments.${name}.selector`, bits(0xffff)),
    row<Fields>(`${from}.base`, `cpu.segments.${name}.base`),
    row<Fields>(`${from}.limit`, `cpu.segments.${name}.limit`),
    row<Fields>(`${from}.flags`, `cpu.segments.${name}.attributes`, {
      read: raw => fromFlags(Number(raw)),
      write: value => BigInt(toFlags(value as number) >>> 0),
    }),
  ]
})

const msrs: readonly (readonly [field: string, path: string])[] = [
  ['efer', 'msr.efer'],
  ['star', 'msr.star'],
  ['lstar', 'msr.lstar'],
  ['cstar', 'msr.cstar'],
  ['fmask', 'msr.sfmask'],
  ['kernelgsbase', 'msr.kernelGsBase'],
  ['sysenter_cs', 'msr.sysenterCs'],
  ['sysenter_esp', 'msr.sysenterEsp'],
  ['sysenter_eip', 'msr.sysenterEip'],
  ['pat', 'msr.pat'],
  ['tsc_aux', 'msr.tscAux'],
  ['mtrr_deftype', 'mtrr.defaultType'],
  ['xcr0', 'xcr0'],
  ['mxcsr', 'mxcsr'],
  ['fpuc', 'x87.control'],
  ['fpus_vmstate', 'x87.status'],
]

const pair: (low: string, high: string, path: 'xmm' | 'ymmHigh', i: number) => CompoundRow<Fields> = (
  low,
  high,
  path,
  i,
) => ({
  about: `${path}[${i}] in two halves`,
  read(raw, { cpu }) {
    cpu[path][i] = raw.integer(low) | (raw.integer(high) << 64n)
  },
  write({ cpu }, raw) {
    raw.set(low, BigInt.asUintN(64, cpu[path][i]!))
    raw.set(high, cpu[path][i]! >> 64n)
  },
})

const vectors: Row<Fields>[] = [
  row('cpu/env.fptag_vmstate', 'cpu.x87.valid', bits(0xff)),
  row('cpu/cpu/fpop_ip_dp.env.fpop', 'cpu.x87.opcode'),
  row('cpu/cpu/fpop_ip_dp.env.fpip', 'cpu.x87.instruction'),
  row('cpu/cpu/fpop_ip_dp.env.fpdp', 'cpu.x87.data'),
  {
    about: 'x87 registers: mantissa, then sign and exponent, big endian',
    read(raw, { cpu }) {
      for (let i = 0; i < 8; i++) {
        const bytes = raw.get(`cpu/env.fpregs[${i}].tmp`)
        if (!(bytes instanceof Uint8Array) || bytes.length !== 10) continue
        const view = new DataView(bytes.buffer, bytes.byteOffset, 10)
        cpu.x87.registers[i] = view.getBigUint64(0) | (BigInt(view.getUint16(8)) << 64n)
      }
    },
    write({ cpu }, raw) {
      for (const [i, value] of cpu.x87.registers.entries()) {
        const bytes = new Uint8Array(10)
        const view = new DataView(bytes.buffer)
        view.setBigUint64(0, BigInt.asUintN(64, value))
        view.setUint16(8, Number(value >> 64n))
        raw.set(`cpu/env.fpregs[${i}].tmp`, bytes)
      }
      // x87 and SSE are not in their initial state: a KVM template would otherwise reset them.
      raw.set('cpu/env.xstate_bv', raw.integer('cpu/env.xstate_bv') | 3n)
    },
  },
  ...Array.from({ length: 16 }, (_, i) => [
    pair(`cpu/env.xmm_regs[0][${i}]._q_ZMMReg[0]`, `cpu/env.xmm_regs[0][${i}]._q_ZMMReg[1]`, 'xmm', i),
    pair(`cpu/env.xmm_regs[1][${i}]._q_ZMMReg[2]`, `cpu/env.xmm_regs[1][${i}]._q_ZMMReg[3]`, 'ymmHigh', i),
  ]).flat(),
]

/** KVM's multiprocessing state of a CPU that waits in HLT. */
const KVM_HALTED = 3n
/** Interrupt request bit for an external interrupt. */
const HARD = 2n
const running: CompoundRow<Fields> = {
  about: 'HLT, and that the CPU must look at its interrupts',
  read(raw, { cpu }) {
    cpu.halted = raw.integer('cpu_common/halted') !== 0n || raw.integer('cpu/env.mp_state') === KVM_HALTED
  },
  write({ cpu }, raw) {
    raw.set('cpu_common/halted', cpu.halted ? 1n : 0n)
    const pending = cpu.apic?.requested.some(word => word !== 0) ?? false
    raw.set('cpu_common/interrupt_request', pending ? HARD : 0n)
  },
}

const shiftOf = (divide: number) => BigInt(((((divide & 8) >> 1) | (divide & 3)) + 1) & 7)

const apic: Row<Fields>[] = [
  row('apic/apicbase', 'cpu.msr.apicBase'),
  row('apic/tpr', 'cpu.taskPriority'),
  row('apic/id', 'cpu.apic.id'),
  row('apic/spurious_vec', 'cpu.apic.spurious'),
  row('apic/log_dest', 'cpu.apic.logicalDestination', {
    read: raw => Number(raw << 24n),
    write: value => BigInt((value as number) >>> 24),
  }),
  row('apic/dest_mode', 'cpu.apic.destinationFormat', {
    read: raw => Number(((raw & 15n) << 28n) | 0x0fffffffn),
    write: value => BigInt((value as number) >>> 28),
  }),
  ...rows<Fields>(
    8,
    i => `apic/isr[${i}]`,
    i => `cpu.apic.inService.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => `apic/tmr[${i}]`,
    i => `cpu.apic.triggerMode.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => `apic/irr[${i}]`,
    i => `cpu.apic.requested.${i}`,
  ),
  ...(['timer', 'thermal', 'performance', 'lint0', 'lint1', 'error'] as const).map((name, i) =>
    row<Fields>(`apic/lvt[${i}]`, `cpu.apic.lvt.${name}`),
  ),
  row('apic/esr', 'cpu.apic.errorStatus'),
  row('apic/icr[0]', 'cpu.apic.commandLow'),
  row('apic/icr[1]', 'cpu.apic.commandHigh'),
  row('apic/initial_count', 'cpu.apic.timer.initialCount'),
  row('apic/divide_conf', 'cpu.apic.timer.divide'),
  {
    about: 'APIC timer: absolute ns of its next expiry, −1 when off; 1 GHz before division',
    read(raw, { cpu }) {
      if (cpu.apic === undefined) return
      const expiry = raw.integer('apic/timer_expiry')
      const left = expiry - virtualNow(raw)
      // An expiry in the past is one that is due.
      cpu.apic.timer.remaining = expiry === -1n ? undefined : (left > 0n ? left : 1n) * PS
      cpu.apic.timer.rate = QEMU_APIC_RATE
    },
    write({ cpu }, raw) {
      if (cpu.apic === undefined) return
      const { initialCount, divide, remaining } = cpu.apic.timer
      const shift = shiftOf(divide)
      const now = virtualNow(raw)
      raw.set('apic/count_shift', shift)
      const period = BigInt(initialCount) << shift
      if (remaining === undefined) {
        raw.set('apic/timer_expiry', -1n)
        raw.set('apic/next_time', 0n)
        raw.set('apic/initial_count_load_time', now - period - (initialCount ? 1n << shift : 0n))
      } else {
        const next = now + toNs(remaining)
        raw.set('apic/timer_expiry', next)
        raw.set('apic/next_time', next)
        raw.set('apic/initial_count_load_time', next - period)
      }
    },
  },
]

const ioApic: Row<Fields>[] = [
  row('ioapic/id', 'ioApic.id'),
  row('ioapic/ioregsel', 'ioApic.index'),
  row('ioapic/irr', 'ioApic.requested', bits(0xffffff)),
  ...rows<Fields>(
    24,
    i => `ioapic/ioredtbl[${i}]`,
    i => `ioApic.redirection.${i}`,
    // Delivery status and remote IRR belong to the platform: an interrupt under way does not cross.
    { read: raw => raw, write: value => (value as bigint) & ~0x5000n },
  ),
]

const pic = (device: string, name: string): Row<Fields>[] =>
  (
    [
      ['irr', 'requested'],
      ['isr', 'inService'],
      ['imr', 'mask'],
      ['last_irr', 'lines'],
      ['priority_add', 'lowestPriority', bits(7)],
      ['irq_base', 'vectorBase'],
      ['read_reg_select', 'readInService'],
      ['poll', 'poll'],
      ['special_mask', 'specialMask'],
      ['init_state', 'initialisation', bits(3)],
      ['auto_eoi', 'autoEnd'],
      ['rotate_on_auto_eoi', 'rotateOnAutoEnd'],
      ['special_fully_nested_mode', 'specialFullyNested'],
      ['init4', 'expectsIcw4'],
      ['single_mode', 'single'],
      ['elcr', 'levelTriggered'],
      ['i8259/ltim.ltim', 'allLevel'],
    ] as const
  ).map(([field, path, conversion]) => row<Fields>(`${device}/${field}`, `pic.${name}.${path}`, conversion))

/** Clocks of the PIT in ns, rounded up to the ns at which QEMU has counted them. */
const clocksToNs = (clocks: bigint) => (clocks * NS_PER_SECOND + PIT_RATE - 1n) / PIT_RATE
const isPeriodic = (mode: number) => mode === 2 || mode === 3

const pitChannel = (n: number): Row<Fields>[] => {
  const field = (name: string) => `i8254/channels[${n}].${name}`
  const path = (name: string) => `pit.channels.${n}.${name}`
  return [
    row(field('count'), path('reload')),
    row(field('latched_count'), path('latchedCount')),
    row(field('count_latched'), path('countLatched'), bits(3)),
    row(field('status_latched'), path('statusLatched')),
    row(field('status'), path('latchedStatus')),
    row(field('rw_mode'), path('access'), bits(3)),
    row(field('mode'), path('mode'), bits(7)),
    row(field('bcd'), path('bcd')),
    row(field('gate'), path('gate')),
    {
      about: `PIT channel ${n}: which byte is next; when the count was loaded, and the next edge of its output`,
      read(raw, { devices }) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        channel.readHighNext = raw.integer(field('read_state')) === 4n
        channel.writeHighNext = raw.integer(field('write_state')) === 4n
        channel.writeLatch = channel.writeHighNext ? Number(raw.integer(field('write_latch'))) : 0
        // A channel that was never programmed, or whose gate is low, does not count.
        const counts = channel.access !== 0 && channel.gate
        channel.remaining = counts
          ? remainingOf(channel, virtualNow(raw) - raw.integer(field('count_load_time')))
          : undefined
      },
      write({ devices }, raw) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        const { access, remaining, reload, mode } = channel
        const now = virtualNow(raw)
        // States of a byte: 1 low, 2 high, 3 low of a word, 4 high of a word (RW_STATE_* of i8254).
        raw.set(field('read_state'), BigInt(access === 3 ? (channel.readHighNext ? 4 : 3) : access))
        raw.set(field('write_state'), BigInt(access === 3 ? (channel.writeHighNext ? 4 : 3) : access))
        raw.set(field('write_latch'), BigInt(channel.writeLatch))
        const period = clocksToNs(BigInt(reload))
        const loaded = remaining === undefined ? now - 10n * NS_PER_SECOND : now + toNs(remaining) - period
        raw.set(field('count_load_time'), loaded)
        if (n !== 0) return
        const edge = remaining === undefined ? -1n : nextEdge(reload, mode, loaded, now)
        raw.set(field('next_transition_time'), edge)
        raw.set(`${field('next_transition_time')}#2`, edge)
        raw.set('i8254/channels[0].irq_disabled', 0n)
      },
    },
  ]
}

/** Time to the end of this period, or of the count; undefined when that is over. */
function remainingOf({ mode, reload }: PitChannel, elapsed: bigint): bigint | undefined {
  const count = BigInt(reload)
  if (elapsed < 0n) return (clocksToNs(count) - elapsed) * PS
  const rounds = (elapsed * PIT_RATE) / NS_PER_SECOND / count
  if (!isPeriodic(mode)) return rounds > 0n ? undefined : (clocksToNs(count) - elapsed) * PS
  const left = clocksToNs((rounds + 1n) * count) - elapsed
  return (left > 0n ? left : 1n) * PS
}

/** When the output of channel 0 changes next: mode 2 is low for the last clock, mode 3 for the second half. */
function nextEdge(reload: number, mode: number, loaded: bigint, now: bigint): bigint {
  const end = loaded + clocksToNs(BigInt(reload))
  if (!isPeriodic(mode)) return end
  const middle = loaded + clocksToNs(BigInt(mode === 2 ? reload - 1 : (reload + 1) >> 1))
  return middle > now ? middle : end > now ? end : now + 1n
}

const CLOCK_BYTES = 10
const REGISTER_C = 12
const rtc: Row<Fields>[] = [
  row('mc146818rtc/cmos_index', 'rtc.index'),
  {
    about:
      'CMOS: the clock itself follows the host (or -rtc), so its bytes and flags stay those of the template',
    read(raw, { devices }) {
      const bytes = raw.get('mc146818rtc/cmos_data')
      if (devices.rtc && bytes instanceof Uint8Array) devices.rtc.cmos = [...bytes]
    },
    write({ devices }, raw) {
      const old = raw.get('mc146818rtc/cmos_data')
      if (devices.rtc === undefined || !(old instanceof Uint8Array)) return
      raw.set(
        'mc146818rtc/cmos_data',
        Uint8Array.from(devices.rtc.cmos, (byte, i) =>
          i < CLOCK_BYTES || i === REGISTER_C ? old[i]! : byte,
        ),
      )
    },
  },
]

const serial: Row<Fields>[] = (
  [
    ['divider', 'divisor'],
    ['rbr', 'received'],
    ['ier', 'interruptEnable'],
    ['iir', 'interruptIdentification'],
    ['lcr', 'lineControl'],
    ['mcr', 'modemControl'],
    ['lsr', 'lineStatus'],
    ['msr', 'modemStatus'],
    ['scr', 'scratch'],
    ['fcr_vmstate', 'fifoControl'],
    ['serial/thr_ipending.thr_ipending', 'transmitInterrupt'],
  ] as const
).map(([field, path]) => row<Fields>(`serial/state.${field}`, `serial.${path}`))

const keyboard: Row<Fields>[] = [
  row('pckbd/kbd.mode', 'keyboard.commandByte'),
  row('pckbd/kbd.status', 'keyboard.status'),
  row('pckbd/kbd.write_cmd', 'keyboard.pendingCommand'),
  row('pckbd/kbd.pckbd/extended_state.obdata', 'keyboard.output'),
]

/** What a machine made of another one needs besides its state. */
const awake: CompoundRow<Fields> = {
  about: 'the machine runs when it is loaded; no patch of a BIOS that this RAM does not hold',
  read() {},
  write(_, raw) {
    // 100 bytes in QEMU 7.2, 32 and a gap in 10.
    const runstate = raw.get('globalstate/runstate')
    if (runstate instanceof Uint8Array) {
      const name = new Uint8Array(runstate.length)
      name.set(Buffer.from('running'))
      raw.set('globalstate/runstate', name)
      raw.set('globalstate/size', 8n)
    }
    for (const field of ['state', 'rom_state_paddr', 'rom_state_vaddr', 'vapic_paddr'])
      if (raw.has(`kvm-tpr-opt/${field}`)) raw.set(`kvm-tpr-opt/${field}`, 0n)
  },
}

/** `time` first: under -icount it sets what "now" is for all that follow. */
export const qemuTable: Table<Fields> = [
  time,
  ...rows<Fields>(
    16,
    i => `cpu/env.regs[${i}]`,
    i => `cpu.general.${generalRegisters[i]}`,
  ),
  row('cpu/env.eip', 'cpu.rip'),
  {
    about: 'the mode that the translator keeps beside the registers',
    read() {},
    write(state, raw) {
      raw.set('cpu/env.hflags', hiddenFlags(state, raw.integer('cpu/env.hflags')))
    },
  },
  row('cpu/env.eflags', 'cpu.rflags'),
  ...segments,
  row('cpu/env.gdt.base', 'cpu.gdtr.base'),
  row('cpu/env.gdt.limit', 'cpu.gdtr.limit', bits(0xffff)),
  row('cpu/env.idt.base', 'cpu.idtr.base'),
  row('cpu/env.idt.limit', 'cpu.idtr.limit', bits(0xffff)),
  ...[0, 2, 3, 4].map(i => row<Fields>(`cpu/env.cr[${i}]`, `cpu.control.cr${i}`)),
  ...[0, 1, 2, 3, 6, 7].map(i => row<Fields>(`cpu/env.dr[${i}]`, `cpu.debug.dr${i}`)),
  ...msrs.map(([field, path]) => row<Fields>(`cpu/env.${field}`, `cpu.${path}`)),
  ...rows<Fields>(
    11,
    i => `cpu/env.mtrr_fixed[${i}]`,
    i => `cpu.mtrr.fixed.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => `cpu/env.mtrr_var[${i}].base`,
    i => `cpu.mtrr.variable.${i}.base`,
  ),
  ...rows<Fields>(
    8,
    i => `cpu/env.mtrr_var[${i}].mask`,
    i => `cpu.mtrr.variable.${i}.mask`,
  ),
  ...vectors,
  ...apic,
  running,
  ...ioApic,
  ...pic('i8259', 'master'),
  ...pic('i8259#1', 'slave'),
  ...pitChannel(0),
  ...pitChannel(1),
  ...pitChannel(2),
  ...rtc,
  ...serial,
  ...keyboard,
  row('pcspk/data_on', 'speaker.data'),
  row('PCIHost/config_reg', 'pciHost.configAddress'),
  awake,
]

/** Devices that the table reads. */
export const understoodDevices: ReadonlySet<string> = new Set([
  ...[
    'timer',
    'cpu_common',
    'cpu',
    'apic',
    'ioapic',
    'i8259',
    'i8254',
    'mc146818rtc',
    'serial',
    'pckbd',
    'pcspk',
  ],
  ...['PCIHost', 'globalstate', 'kvm-tpr-opt', 'port92', 'ram'],
])
