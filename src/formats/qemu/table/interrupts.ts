/** Local APIC, I/O APIC and the two 8259A. Sources: QEMU hw/intc/{apic,ioapic,i8259}_common.c. */
import { apicDivideShift, lvtNames } from '../../../isa/pc.js'
import { type CompoundRow, type Row, row, rows } from '../../machine-table.js'
import { bits, DUE, type Fields, PS, QEMU_APIC_RATE, toNs, virtualNow } from './clock.js'

/** KVM's multiprocessing state of a CPU that waits in HLT. */
const KVM_HALTED = 3n
/** Interrupt request bit for an external interrupt. */
const HARD = 2n
export const running: CompoundRow<Fields> = {
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

export const apic: Row<Fields>[] = [
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
  ...lvtNames.map((name, i) => row<Fields>(`apic/lvt[${i}]`, `cpu.apic.lvt.${name}`)),
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
      cpu.apic.timer.remaining = expiry === -1n ? undefined : left > 0n ? left * PS : DUE
      cpu.apic.timer.rate = QEMU_APIC_RATE
    },
    write({ cpu }, raw) {
      if (cpu.apic === undefined) return
      const { initialCount, divide, remaining } = cpu.apic.timer
      const shift = BigInt(apicDivideShift(divide))
      const now = virtualNow(raw)
      raw.set('apic/count_shift', shift)
      // QEMU counts through zero (apic_next_timer): with a shorter period it would fire again at once.
      const period = (BigInt(initialCount) + 1n) << shift
      if (remaining === undefined) {
        raw.set('apic/timer_expiry', -1n)
        raw.set('apic/next_time', 0n)
        raw.set('apic/initial_count_load_time', now - period)
      } else {
        const next = now + toNs(remaining)
        raw.set('apic/timer_expiry', next)
        raw.set('apic/next_time', next)
        raw.set('apic/initial_count_load_time', next - period)
      }
    },
  },
]

export const ioApic: Row<Fields>[] = [
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

export const pic = (device: string, name: string): Row<Fields>[] =>
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
