/** Palacios ↔ the neutral machine: one table, read and written by the same rows; a file of `table/` for each kind of device. */
import { row, type Table } from '../machine-table.js'
import type { PalaciosFields } from './fields.js'
import { apic, ioApic, pic } from './table/interrupts.js'
import { pciFunctions } from './table/pci.js'
import { keyboard, serial } from './table/ports.js'
import { modes, registers } from './table/registers.js'
import { pitChannel, speaker } from './table/timers.js'

export const palaciosTable: Table<PalaciosFields> = [
  ...registers,
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
  ...keyboard,
  row('pci/ADDR_REG', 'pciHost.configAddress'),
  pciFunctions,
]
