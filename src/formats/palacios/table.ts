/**
 * Palacios ↔ the neutral machine: one table, read and written by the same rows.
 * Sources: Palacios vmm_checkpoint.c, vmm_ctrl_regs.c, devices/{8259a,8254,apic,ioapic,serial,keyboard}.c; VMCB: AMD APM 2, B.
 */
import { decodeFxsave, encodeFxsave } from '../../isa/fxsave.js'
import type { MachineState, PitChannel, SegmentName } from '../../model/machine.js'
import { type CompoundRow, type Row, row, type Table } from '../machine-table.js'
import type { PalaciosFields } from './fields.js'

type Fields = PalaciosFields
const PS_PER_SECOND = 1_000_000_000_000n
const PIT_RATE = 1_193_182n

const general = [
  ...(['rdi', 'rsi', 'rbp', 'rsp', 'rbx', 'rdx', 'rcx', 'rax'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
]

/** Bits of the 13-bit descriptor: type, S, DPL, P as in VMX access rights; AVL, L, D/B, G four lower; unusable at 12. */
const fromBits = (bits: number) => {
  const rights = (bits & 0xff) | ((bits & 0xf00) << 4) | ((bits & 0x1000) << 4)
  return rights & 0x80 ? rights : rights | 0x10000
}
const toBits = (rights: number) => (rights & 0xff) | ((rights & 0xf000) >> 4) | ((rights & 0x10000) >> 4)

const segmentTags: Readonly<Record<SegmentName, string>> = {
  cs: 'CS',
  ds: 'DS',
  es: 'ES',
  fs: 'FS',
  gs: 'GS',
  ss: 'SS',
  ldtr: 'LDTR',
  tr: 'TR',
}

const SEGMENT_BYTES = 16
const segments: CompoundRow<Fields> = {
  about:
    'segments: u16 selector, u32 limit, u64 base, 13 bits of attributes; GDTR and IDTR only base and limit',
  read(raw, { cpu }) {
    const parts = (tag: string) => {
      const bytes = raw.bytes(`guest/${tag}`)
      if (bytes === undefined || bytes.length < SEGMENT_BYTES) return undefined
      const view = new DataView(bytes.buffer, bytes.byteOffset, SEGMENT_BYTES)
      return {
        selector: view.getUint16(0, true),
        limit: view.getUint32(2, true),
        base: view.getBigUint64(6, true),
        attributes: fromBits(view.getUint16(14, true)),
      }
    }
    for (const [name, tag] of Object.entries(segmentTags) as [SegmentName, string][])
      Object.assign(cpu.segments[name], parts(tag))
    for (const [table, tag] of [
      [cpu.gdtr, 'GDTR'],
      [cpu.idtr, 'IDTR'],
    ] as const) {
      const { base, limit } = parts(tag) ?? table
      Object.assign(table, { base, limit: limit & 0xffff })
    }
  },
  write({ cpu }, raw) {
    const put = (tag: string, selector: number, limit: number, base: bigint, bits: number) => {
      const bytes = new Uint8Array(SEGMENT_BYTES)
      const view = new DataView(bytes.buffer)
      view.setUint16(0, selector, true)
      view.setUint32(2, limit, true)
      view.setBigUint64(6, base, true)
      view.setUint16(14, bits, true)
      raw.set(`guest/${tag}`, bytes)
    }
    for (const [name, tag] of Object.entries(segmentTags) as [SegmentName, string][]) {
      const { selector, limit, base, attributes } = cpu.segments[name]
      put(tag, selector, limit, base, toBits(attributes))
    }
    put('GDTR', 0, cpu.gdtr.limit, cpu.gdtr.base, 0)
    put('IDTR', 0, cpu.idtr.limit, cpu.idtr.base, 0)
  },
}

/** EFER.SVME belongs to the monitor. */
const SVME = 1n << 12n
const PAGING = 1n << 31n

const controlRegisters: CompoundRow<Fields> = {
  about: 'CR0, CR3, EFER: under shadow paging the guest’s own are GUEST_*; both sets are written equal',
  read(raw, { cpu }) {
    const shadow = usesShadowPaging(raw)
    const prefix = shadow ? 'guest/GUEST_' : 'guest/'
    // Trees up to 2013-05 misspell one of the tags.
    const cr0 = shadow && raw.get('guest/GUEST_CR0') === undefined ? 'guest/GUEST_CRO' : `${prefix}CR0`
    cpu.control.cr0 = raw.integer(cr0)
    cpu.control.cr3 = raw.integer(`${prefix}CR3`)
    cpu.msr.efer = raw.integer(`${prefix}EFER`) & ~SVME
  },
  write({ cpu }, raw) {
    for (const [name, value] of [
      ['CR0', cpu.control.cr0],
      ['CR3', cpu.control.cr3],
      ['EFER', cpu.msr.efer],
    ] as const) {
      raw.set(`guest/${name}`, value)
      raw.set(`guest/GUEST_${name}`, value)
    }
    raw.set('guest/GUEST_CRO', cpu.control.cr0)
  },
}

function usesShadowPaging(raw: Fields): boolean {
  if (raw.timing.paging !== undefined) return raw.timing.paging === 'shadow'
  const guest = raw.integer('guest/GUEST_CR3')
  const enabled = (raw.integer('guest/GUEST_CR0') | raw.integer('guest/GUEST_CRO')) & PAGING
  return guest !== 0n && guest !== raw.integer('guest/CR3') && enabled !== 0n
}

/** Enums of vmm.h. */
const CpuMode = { real: 0n, protected: 1n, pae: 2n, long: 3n, longCompat: 4n } as const
const modes: CompoundRow<Fields> = {
  about: 'what follows from the registers: CPL, mode of the CPU and of memory, CR8; the core runs',
  read(raw, { cpu }) {
    cpu.taskPriority = Number(raw.integer('guest/APIC_TPR') & 0xffn)
  },
  write({ cpu }, raw) {
    const { cr0, cr4 } = cpu.control
    const long = (cpu.msr.efer & 0x400n) !== 0n
    const mode = long
      ? cpu.segments.cs.attributes & 0x2000
        ? CpuMode.long
        : CpuMode.longCompat
      : (cr0 & 1n) === 0n
        ? CpuMode.real
        : cr4 & 0x20n
          ? CpuMode.pae
          : CpuMode.protected
    const cpl = BigInt((cpu.segments.ss.attributes >> 5) & 3)
    raw.set('guest/run_state', 1n)
    raw.set('guest/cpu_mode', mode)
    raw.set('guest/mem_mode', cr0 & PAGING ? 1n : 0n)
    raw.set('guest/CPL', cpl)
    raw.set('guest/CR8', BigInt(cpu.taskPriority >> 4))
    raw.set('guest/APIC_TPR', BigInt(cpu.taskPriority))
    raw.set('apic/TASK_PRIO0', BigInt(cpu.taskPriority))
    raw.set('vmcb/CPL', cpl)
  },
}

const vectors: CompoundRow<Fields> = {
  about: 'x87 and SSE as an FXSAVE64 image, registers in the order of the stack',
  read(raw, { cpu }) {
    const blob = raw.bytes('guest/FP_STATE_BLOB')
    if (blob !== undefined && blob.length >= 416) Object.assign(cpu, decodeFxsave(blob))
  },
  write({ cpu }, raw) {
    const old = raw.bytes('guest/FP_STATE_BLOB')
    raw.set('guest/FP_STATE_BLOB', encodeFxsave(cpu, old?.some(byte => byte !== 0) ? old : undefined))
    raw.set('guest/FP_STATE_TYPE', 1n)
  },
}

/** Tag of `vmcb_data` and place in the VMCB for registers that are nowhere else. */
const onlyInVmcb = [
  ['CSTAR', 0x610, 'cstar'],
  ['SYSENTER_CS', 0x628, 'sysenterCs'],
  ['SYSENTER_ESP', 0x630, 'sysenterEsp'],
  ['SYSENTER_EIP', 0x638, 'sysenterEip'],
  [undefined, 0x668, 'pat'],
] as const
const vmcb: CompoundRow<Fields> = {
  about: 'SVM: CSTAR, SYSENTER_* and PAT live in the VMCB only; its control area stays the template’s',
  read(raw, { cpu }) {
    const block = raw.bytes('vmcb/VMCB_DATA')
    for (const [tag, offset, name] of onlyInVmcb) {
      const tagged = tag && raw.get(`vmcb/${tag}`)
      if (typeof tagged === 'bigint') cpu.msr[name] = tagged
      else if (block !== undefined && block.length >= 4096)
        cpu.msr[name] = new DataView(block.buffer, block.byteOffset).getBigUint64(offset, true)
    }
  },
  write({ cpu }, raw) {
    const block = raw.bytes('vmcb/VMCB_DATA')?.slice()
    const view = block && block.length >= 4096 ? new DataView(block.buffer, block.byteOffset) : undefined
    for (const [tag, offset, name] of onlyInVmcb) {
      const value = cpu.msr[name]
      if (value === undefined) continue
      if (tag) raw.set(`vmcb/${tag}`, value)
      view?.setBigUint64(offset, value, true)
    }
    if (block) raw.set('vmcb/VMCB_DATA', block)
    for (const [tag, value] of [
      ['STAR', cpu.msr.star],
      ['LSTAR', cpu.msr.lstar],
      ['SFMASK', cpu.msr.sfmask],
      ['KERNELGSBASE', cpu.msr.kernelGsBase],
    ] as const)
      raw.set(`vmcb/${tag}`, value)
  },
}

const low32 = {
  read: (raw: bigint) => Number(raw & 0xffffffffn),
  write: (value: unknown) => BigInt(value as number),
}
const shift24 = {
  read: (raw: bigint) => Number((raw >> 24n) & 0xffn),
  write: (value: unknown) => BigInt(value as number) << 24n,
}

const vectorWords = (tag: string, name: 'requested' | 'inService' | 'triggerMode'): CompoundRow<Fields> => ({
  about: `${tag}: bit v % 8 of byte v / 8`,
  read(raw, { cpu }) {
    const bytes = raw.bytes(`apic/${tag}0`)
    if (cpu.apic === undefined || bytes === undefined || bytes.length < 32) return
    const view = new DataView(bytes.buffer, bytes.byteOffset, 32)
    cpu.apic[name] = Array.from({ length: 8 }, (_, i) => view.getUint32(4 * i, true))
  },
  write({ cpu }, raw) {
    if (cpu.apic === undefined) return
    const bytes = new Uint8Array(32)
    const view = new DataView(bytes.buffer)
    for (const [i, word] of cpu.apic[name].entries()) view.setUint32(4 * i, word, true)
    raw.set(`apic/${tag}0`, bytes)
  },
})

const divisor = (divide: number) => 1n << BigInt(((((divide & 8) >> 1) | (divide & 3)) + 1) & 7)

const apic: Row<Fields>[] = [
  row('apic/BASE_ADDR_MSR0', 'cpu.msr.apicBase'),
  row('apic/LAPIC_ID0', 'cpu.apic.id', shift24),
  row('apic/LOG_DST0', 'cpu.apic.logicalDestination'),
  row('apic/DST_FMT0', 'cpu.apic.destinationFormat'),
  row('apic/SPURIOUS_INT0', 'cpu.apic.spurious'),
  row('apic/ERR_STATUS0', 'cpu.apic.errorStatus'),
  row('apic/TMR_VEC_TBL0', 'cpu.apic.lvt.timer'),
  row('apic/THERM_LOC_VEC_TBL0', 'cpu.apic.lvt.thermal'),
  row('apic/PERF_CTR_LOC_VEC_TBL0', 'cpu.apic.lvt.performance'),
  row('apic/LINT0_VEC_TBL0', 'cpu.apic.lvt.lint0'),
  row('apic/LINT1_VEC_TBL0', 'cpu.apic.lvt.lint1'),
  row('apic/ERR_VEC_TBL0', 'cpu.apic.lvt.error'),
  row('apic/TMR_INIT_CNT0', 'cpu.apic.timer.initialCount'),
  row('apic/TMR_DIV_CFG0', 'cpu.apic.timer.divide'),
  vectorWords('INT_REQ_REG', 'requested'),
  vectorWords('INT_SVC_REG', 'inService'),
  vectorWords('TRIG_MODE_REG', 'triggerMode'),
  {
    about: 'ICR is one 64-bit value; the timer’s current count in units of the APIC clock, divided',
    read(raw, { cpu }) {
      if (cpu.apic === undefined) return
      const command = raw.integer('apic/INT_CMD0')
      cpu.apic.commandLow = low32.read(command)
      cpu.apic.commandHigh = low32.read(command >> 32n)
      const { timer } = cpu.apic
      const rate = BigInt(raw.timing.apicClock)
      const counts = raw.integer('apic/TMR_CUR_CNT0') * divisor(timer.divide)
      timer.remaining = counts === 0n ? undefined : (counts * PS_PER_SECOND + rate - 1n) / rate
      timer.rate = raw.timing.apicClock
    },
    write({ cpu }, raw) {
      if (cpu.apic === undefined) return
      const { commandLow, commandHigh, timer } = cpu.apic
      raw.set('apic/INT_CMD0', BigInt(commandLow) | (BigInt(commandHigh) << 32n))
      const unit = PS_PER_SECOND * divisor(timer.divide)
      const scaled = (timer.remaining ?? 0n) * BigInt(raw.timing.apicClock)
      raw.set('apic/TMR_CUR_CNT0', (scaled + unit - 1n) / unit)
    },
  },
]

const ioApic: Row<Fields>[] = [
  row('ioApic/INDEX_REG', 'ioApic.index'),
  row('ioApic/IOAPIC_ID', 'ioApic.id', shift24),
  {
    about: 'the redirection table; an interrupt under way does not cross',
    read(raw, { devices }) {
      const bytes = raw.bytes('ioApic/REDIR_TABLE')
      if (devices.ioApic === undefined || bytes === undefined || bytes.length < 192) return
      const view = new DataView(bytes.buffer, bytes.byteOffset, 192)
      devices.ioApic.redirection = Array.from({ length: 24 }, (_, i) => view.getBigUint64(8 * i, true))
    },
    write({ devices }, raw) {
      if (devices.ioApic === undefined) return
      const bytes = new Uint8Array(192)
      const view = new DataView(bytes.buffer)
      for (const [i, entry] of devices.ioApic.redirection.entries())
        view.setBigUint64(8 * i, entry & ~0x5000n, true)
      raw.set('ioApic/REDIR_TABLE', bytes)
    },
  },
]

/** Palacios counts the initialisation words from 1 and calls the end READY; a fresh chip is in RESET. */
const READY = 5n
const pic = (prefix: 'MASTER' | 'SLAVE', name: 'master' | 'slave'): Row<Fields>[] => [
  row(`pic/${prefix}_IRR`, `pic.${name}.requested`),
  row(`pic/${prefix}_ISR`, `pic.${name}.inService`),
  row(`pic/${prefix}_IMR`, `pic.${name}.mask`),
  row(`pic/${prefix}_ELCR`, `pic.${name}.levelTriggered`),
  row(`pic/${prefix}_ICW2`, `pic.${name}.vectorBase`),
  {
    about: `${prefix}: bits of ICW1, ICW4, OCW3 and the state of initialisation`,
    read(raw, { devices }) {
      const controller = devices.pic?.[name]
      if (controller === undefined) return
      const field = (suffix: string) => raw.integer(`pic/${prefix}_${suffix}`)
      const icw1 = field('ICW1')
      controller.expectsIcw4 = (icw1 & 1n) !== 0n
      controller.single = (icw1 & 2n) !== 0n
      controller.allLevel = (icw1 & 8n) !== 0n
      controller.autoEnd = (field('ICW4') & 2n) !== 0n
      controller.specialFullyNested = (field('ICW4') & 0x10n) !== 0n
      controller.readInService = (field('OCW3') & 3n) === 3n
      const state = field('STATE')
      controller.initialisation = state >= 2n && state < READY ? Number(state) - 1 : 0
    },
    write({ devices }, raw) {
      const controller = devices.pic?.[name]
      if (controller === undefined) return
      const update = (suffix: string, mask: bigint, value: bigint) =>
        raw.set(`pic/${prefix}_${suffix}`, (raw.integer(`pic/${prefix}_${suffix}`) & ~mask) | (value & mask))
      const bits = (...flags: readonly (readonly [on: boolean, bit: bigint])[]) =>
        flags.reduce((sum, [on, bit]) => (on ? sum | bit : sum), 0n)
      update(
        'ICW1',
        0xbn,
        bits([controller.expectsIcw4, 1n], [controller.single, 2n], [controller.allLevel, 8n]),
      )
      update('ICW4', 0x12n, bits([controller.autoEnd, 2n], [controller.specialFullyNested, 0x10n]))
      update('OCW3', 3n, controller.readInService ? 3n : 2n)
      raw.set(
        `pic/${prefix}_STATE`,
        controller.initialisation === 0 ? READY : BigInt(controller.initialisation + 1),
      )
    },
  },
]

const RUNNING = 2n
const pitChannel = (n: number): Row<Fields>[] => {
  const field = (name: string) => `pit/PIT_CH${n}_${name}`
  return [
    row(field('OP_MODE'), `pit.channels.${n}.mode`, { read: raw => Number(raw & 7n), write: low32.write }),
    row(field('LATCH_VALUE'), `pit.channels.${n}.latchedCount`),
    row(field('READ_STATE'), `pit.channels.${n}.readHighNext`),
    {
      about: `PIT channel ${n}: current count instead of time left`,
      read(raw, { devices }) {
        const channel = devices.pit?.channels[n]
        if (channel === undefined) return
        channel.reload = Number(raw.integer(field('RELOAD_VALUE'))) || 65536
        channel.access = Number(raw.integer(field('ACCESS_MODE')) & 3n)
        channel.writeHighNext = raw.integer(field('ACCESS_STATE')) === 2n
        channel.countLatched = raw.integer(field('LATCH_STATE')) === 0n ? 0 : channel.access
        channel.gate = (raw.integer(field('PINS')) & 2n) !== 0n
        const count = raw.integer(field('COUNTER')) || 65536n
        channel.remaining =
          raw.integer(field('RUN_STATE')) === RUNNING
            ? (count * PS_PER_SECOND + PIT_RATE - 1n) / PIT_RATE
            : undefined
      },
      write({ devices }, raw) {
        const channel: PitChannel | undefined = devices.pit?.channels[n]
        if (channel === undefined) return
        raw.set(field('RELOAD_VALUE'), BigInt(channel.reload & 0xffff))
        raw.set(field('ACCESS_MODE'), BigInt(channel.access))
        raw.set(field('ACCESS_STATE'), channel.writeHighNext ? 2n : 0n)
        raw.set(field('LATCH_STATE'), channel.countLatched ? 1n : 0n)
        raw.set(field('PINS'), (raw.integer(field('PINS')) & ~2n) | (channel.gate ? 2n : 0n))
        raw.set(field('RUN_STATE'), channel.remaining === undefined ? 0n : RUNNING)
        const clocks = ((channel.remaining ?? 0n) * PIT_RATE) / PS_PER_SECOND
        raw.set(field('COUNTER'), channel.remaining === undefined ? 0n : clocks > 0n ? clocks & 0xffffn : 1n)
      },
    },
  ]
}

const TRANSMITTER_EMPTY = 8n
const serial: Row<Fields>[] = [
  ...(
    [
      ['RBR', 'received'],
      ['IER', 'interruptEnable'],
      ['IIR', 'interruptIdentification'],
      ['FCR', 'fifoControl'],
      ['LCR', 'lineControl'],
      ['MCR', 'modemControl'],
      ['LSR', 'lineStatus'],
      ['MSR', 'modemStatus'],
      ['SCR', 'scratch'],
    ] as const
  ).map(([tag, name]) => row<Fields>(`serial/COM0_${tag}`, `serial.${name}`)),
  {
    about: 'the divisor in two bytes; a writer that waits for the transmitter is told',
    read(raw, { devices }) {
      if (devices.serial === undefined) return
      devices.serial.divisor = Number(raw.integer('serial/COM0_DLL') | (raw.integer('serial/COM0_DLM') << 8n))
      devices.serial.transmitInterrupt = (raw.integer('serial/COM0_int_state') & TRANSMITTER_EMPTY) !== 0n
    },
    write({ devices }, raw) {
      if (devices.serial === undefined) return
      const { divisor, interruptEnable, transmitInterrupt } = devices.serial
      raw.set('serial/COM0_DLL', BigInt(divisor & 0xff))
      raw.set('serial/COM0_DLM', BigInt(divisor >> 8))
      const state = raw.integer('serial/COM0_int_state') & ~TRANSMITTER_EMPTY
      const waits = transmitInterrupt || (interruptEnable & 2) !== 0
      raw.set('serial/COM0_int_state', waits ? state | TRANSMITTER_EMPTY : state)
    },
  },
]

const guest = (tags: readonly (readonly [tag: string, path: string])[]): Row<Fields>[] =>
  tags.map(([tag, path]) => row<Fields>(`guest/${tag}`, `cpu.${path}`))

const speaker: CompoundRow<Fields> = {
  about: 'the speaker bit of port 0x61 lives in the PIT',
  read(raw, { devices }: MachineState) {
    if (raw.has('pit')) devices.speaker = { data: (raw.integer('pit/PIT_SPEAKER') & 2n) !== 0n }
  },
  write({ devices }, raw) {
    if (devices.speaker) raw.set('pit/PIT_SPEAKER', devices.speaker.data ? 2n : 0n)
  },
}

export const palaciosTable: Table<Fields> = [
  ...guest([['RIP', 'rip'], ...general.map(name => [name.toUpperCase(), `general.${name}`] as const)]),
  ...guest([
    ['RFLAGS', 'rflags'],
    ['CR2', 'control.cr2'],
    ['CR4', 'control.cr4'],
    ...[0, 1, 2, 3, 6, 7].map(i => [`DR${i}`, `debug.dr${i}`] as const),
    ['STAR', 'msr.star'],
    ['LSTAR', 'msr.lstar'],
    ['SFMASK', 'msr.sfmask'],
    ['KERN_GS_BASE', 'msr.kernelGsBase'],
  ]),
  segments,
  controlRegisters,
  vectors,
  vmcb,
  ...apic,
  modes,
  ...ioApic,
  ...pic('MASTER', 'master'),
  ...pic('SLAVE', 'slave'),
  ...pitChannel(0),
  ...pitChannel(1),
  ...pitChannel(2),
  speaker,
  ...serial,
  row('keyboard/CMD_REG', 'keyboard.commandByte'),
  row('keyboard/STATUS_REG', 'keyboard.status'),
  row('keyboard/OUTPUT', 'keyboard.output'),
  row('pci/ADDR_REG', 'pciHost.configAddress'),
]
