/** Local APIC, I/O APIC and the two 8259A. Sources: gem5 src/arch/x86/interrupts.cc, src/dev/x86/i82094aa.cc, i8259.cc. */
import { highestVector, lvtNames } from '../../../isa/pc.js'
import type { InterruptController } from '../../../model/machine.js'
import { type CompoundRow, not, type Row, row, rows } from '../../machine-table.js'
import { type Fields, integer, tickOf } from './common.js'

const apic = (index: number) => `apic.regs[${index}]`

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
    const tick = tickOf(raw, devices)
    raw.set(apic(1), 0x50014n)
    raw.set(apic(69), BigInt(spurious & 0x100))
    raw.set('apic.IRRV', BigInt(highestVector(requested)))
    raw.set('apic.ISRV', BigInt(highestVector(inService)))
    raw.set('apic.pendingExtInt', 0n)
    raw.set('apic.pendingIPIs', 0n)
    raw.set('apic.apicTimerEventScheduled', timer.remaining === undefined ? 0n : 1n)
    raw.set('apic.apicTimerEventTick', timer.remaining === undefined ? 0n : tick + timer.remaining)
  },
}

export const localApic: Row<Fields>[] = [
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
  ...lvtNames.map((name, i) => row<Fields>(apic(60 + i), `cpu.apic.lvt.${name}`)),
  row(apic(66), 'cpu.apic.timer.initialCount'),
  row(apic(68), 'cpu.apic.timer.divide'),
  apicState,
]

/** Delivery status and remote IRR belong to the platform: an interrupt under way does not cross. */
const REDIRECTION_CROSSES = ~0x5000n
const crossing = {
  read: (raw: bigint) => raw,
  write: (value: unknown) => (value as bigint) & REDIRECTION_CROSSES,
}

export const ioApic: Row<Fields>[] = [
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

export const pic = (role: string, name: 'master' | 'slave', cascadeBits: bigint): Row<Fields>[] => [
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
