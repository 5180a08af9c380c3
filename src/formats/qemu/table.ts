/**
 * QEMU's PC ↔ the neutral machine: one table, read and written by the same rows; a file of `table/` for each kind of
 * device. Field names are those of the stream's own description (QEMU 7.2 to 10).
 *
 * Device times are nanoseconds of the virtual clock; "now" is where the template stands, and everything is rebased to it.
 */
import { row, type Table } from '../machine-table.js'
import { type Fields, time } from './table/clock.js'
import { apic, ioApic, pic, running } from './table/interrupts.js'
import { pciFunctions } from './table/pci.js'
import { awake, keyboard, serial } from './table/ports.js'
import { registers } from './table/registers.js'
import { pitChannel, rtc } from './table/timers.js'

export { QEMU_APIC_RATE, virtualNow } from './table/clock.js'

/** `time` first: under -icount it sets what "now" is for all that follow. */
export const qemuTable: Table<Fields> = [
  time,
  ...registers,
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
  pciFunctions,
  awake,
]

/** Devices of which the table reads all that matters. */
const understood: ReadonlySet<string> = new Set(
  (
    'timer cpu_common cpu apic ioapic i8259 i8254 mc146818rtc serial pckbd ps2kbd ps2mouse pcspk PCIHost ' +
    'globalstate kvm-tpr-opt port92 ram'
  ).split(' '),
)

/** The host bridge has nothing but its configuration space. */
export const isUnderstood = (device: string): boolean =>
  understood.has(device) || /^[0-9a-f:.]+\/I440FX$/.test(device)
