/** Serial port and keyboard controller. Sources: Palacios devices/{serial,keyboard}.c. */
import { type Row, row } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

type Fields = PalaciosFields

const TRANSMITTER_EMPTY = 8n
export const serial: Row<Fields>[] = [
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

export const keyboard: readonly Row<Fields>[] = [
  row('keyboard/CMD_REG', 'keyboard.commandByte'),
  row('keyboard/STATUS_REG', 'keyboard.status'),
  row('keyboard/OUTPUT', 'keyboard.output'),
]
