/** Serial port and keyboard controller. Sources: Palacios devices/{serial,keyboard}.c. */
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

type Fields = PalaciosFields

/**
 * A ring of 16 bytes: data stand behind TAIL up to and with HEAD; FULL tells all from none.
 * Source: queue_data and dequeue_data of devices/serial.c.
 */
const fifo = (tag: 'RX' | 'TX', name: 'receiveFifo' | 'transmitFifo'): CompoundRow<Fields> => ({
  about: `the ${tag} FIFO`,
  read(raw, { devices }) {
    const ring = raw.bytes(`serial/COM0_${tag}_DATA`)
    if (devices.serial === undefined || ring === undefined || ring.length !== FIFO_BYTES) return
    const field = (suffix: string) => Number(raw.integer(`serial/COM0_${tag}_${suffix}`)) % FIFO_BYTES
    const [head, tail] = [field('HEAD'), field('TAIL')]
    const used = (head - tail + FIFO_BYTES) % FIFO_BYTES
    const count = raw.integer(`serial/COM0_${tag}_FULL`) !== 0n ? FIFO_BYTES : used
    devices.serial[name] = Uint8Array.from({ length: count }, (_, i) => ring[(tail + 1 + i) % FIFO_BYTES]!)
  },
  write({ devices }, raw) {
    if (devices.serial === undefined) return
    const held = devices.serial[name].subarray(0, FIFO_BYTES)
    const ring = new Uint8Array(FIFO_BYTES)
    for (const [i, byte] of held.entries()) ring[(i + 1) % FIFO_BYTES] = byte
    raw.set(`serial/COM0_${tag}_TAIL`, 0n)
    raw.set(`serial/COM0_${tag}_HEAD`, BigInt(held.length % FIFO_BYTES))
    raw.set(`serial/COM0_${tag}_FULL`, held.length === FIFO_BYTES ? 1n : 0n)
    raw.set(`serial/COM0_${tag}_DATA`, ring)
  },
})
const FIFO_BYTES = 16

const TRANSMITTER_EMPTY = 8n
export const serial: readonly Row<Fields>[] = [
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
  fifo('RX', 'receiveFifo'),
  fifo('TX', 'transmitFifo'),
]

export const keyboard: readonly Row<Fields>[] = [
  row('keyboard/CMD_REG', 'keyboard.commandByte'),
  row('keyboard/STATUS_REG', 'keyboard.status'),
  row('keyboard/OUTPUT', 'keyboard.output'),
  row('keyboard/SCANCODE_SET', 'keyboard.scancodeSet'),
]
