/** Local APIC, I/O APIC and the two 8259A. Sources: Palacios devices/{apic,ioapic,8259a}.c. */
import { apicDivideShift, PS_PER_SECOND } from '../../../isa/pc.js'
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

type Fields = PalaciosFields

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

export const apic: Row<Fields>[] = [
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
      const counts = raw.integer('apic/TMR_CUR_CNT0') * (1n << BigInt(apicDivideShift(timer.divide)))
      timer.remaining = counts === 0n ? undefined : (counts * PS_PER_SECOND + rate - 1n) / rate
      timer.rate = raw.timing.apicClock
    },
    write({ cpu }, raw) {
      if (cpu.apic === undefined) return
      const { commandLow, commandHigh, timer } = cpu.apic
      raw.set('apic/INT_CMD0', BigInt(commandLow) | (BigInt(commandHigh) << 32n))
      const unit = PS_PER_SECOND * (1n << BigInt(apicDivideShift(timer.divide)))
      const scaled = (timer.remaining ?? 0n) * BigInt(raw.timing.apicClock)
      raw.set('apic/TMR_CUR_CNT0', (scaled + unit - 1n) / unit)
    },
  },
]

export const ioApic: Row<Fields>[] = [
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
export const pic = (prefix: 'MASTER' | 'SLAVE', name: 'master' | 'slave'): Row<Fields>[] => [
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
