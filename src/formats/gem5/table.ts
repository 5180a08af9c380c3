/**
 * gem5 X86 ↔ the neutral machine: one table, read and written by the same rows; a file of `table/` for each kind of device.
 * `regVal` has the same order in all layouts (2011: 0–203; v24 adds 204, XCR0).
 */
import { type Row, row } from '../machine-table.js'
import { type Fields, reg } from './table/common.js'
import { ioApic, localApic, pic } from './table/interrupts.js'
import { pciFunctions } from './table/pci.js'
import { keyboard, ps2, serial, speaker } from './table/ports.js'
import { registers } from './table/registers.js'
import { pitChannel, rtc } from './table/timers.js'

export type { Gem5Timing } from './table/common.js'
export { gem5Modes } from './table/timers.js'

/** In order: rows that create a device come before those that refine it; the PIT before the speaker. */
export const gem5Table: readonly Row<Fields>[] = [
  ...registers,
  ...localApic,
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
  ...ps2,
  pciFunctions,
]
