/** Serial port and keyboard controller; what makes the loaded machine run. Sources: QEMU hw/char/serial.c, hw/input/pckbd.c. */
import type { Devices } from '../../../model/machine.js'
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import { bits, type Fields, virtualNow } from './clock.js'

export const serial: Row<Fields>[] = (
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
  ] as const
)
  .map(([field, path]): Row<Fields> => row<Fields>(`serial/state.${field}`, `serial.${path}`))
  .concat([
    {
      about:
        'the interrupt of the transmitter, which IIR says where no subsection does; what waits in both directions',
      read(raw, { devices }) {
        const { serial } = devices
        if (serial === undefined) return
        const own = raw.get(part('thr_ipending', 'thr_ipending'))
        serial.transmitInterrupt = own === undefined ? saysEmpty(serial) : own !== 0n
        serial.receiveFifo = fifoOf(raw, 'recv_fifo')
        serial.transmitFifo = fifoOf(raw, 'xmit_fifo')
        if (raw.integer(part('tsr', 'tsr_retry')) === 0n) return
        serial.transmitting = Number(raw.integer(part('tsr', 'tsr')))
        if (holdsOne(serial)) serial.transmitFifo = Uint8Array.of(Number(raw.integer(part('tsr', 'thr'))))
      },
      write({ devices }, raw) {
        const { serial } = devices
        if (serial === undefined) return
        if (serial.transmitInterrupt !== saysEmpty(serial))
          raw.addPartOf(part('thr_ipending', 'thr_ipending'))
        raw.set(part('thr_ipending', 'thr_ipending'), serial.transmitInterrupt ? 1n : 0n)
        const sends = serial.transmitting !== undefined
        const held = sends && holdsOne(serial)
        raw.set(part('tsr', 'tsr_retry'), sends ? 1n : 0n)
        raw.set(part('tsr', 'tsr'), BigInt(serial.transmitting ?? 0))
        raw.set(part('tsr', 'thr'), held ? BigInt(serial.transmitFifo[0] ?? 0) : 0n)
        setFifo(raw, 'recv_fifo', serial.receiveFifo)
        setFifo(raw, 'xmit_fifo', held ? new Uint8Array() : serial.transmitFifo)
        // The guest is told of fewer bytes than it asked for when no more come for a while.
        if (serial.receiveFifo.length > 0 && (serial.fifoControl & FIFO_ON) !== 0)
          raw.set(part('fifo_timeout_timer', 'fifo_timeout_timer'), virtualNow(raw) + RECEIVE_TIMEOUT_NS)
      },
    },
  ])

/** A field of a subsection of the port. */
const part = (name: string, field: string) => `serial/state.serial/${name}.${field}`
/** Four characters of 115200 baud. */
const RECEIVE_TIMEOUT_NS = 350_000n
const FIFO_ON = 1
/** LSR: the holding register is empty. */
export const HOLDING_EMPTY = 0x20
/** IIR bits 1–2: 1 is "transmitter empty". */
const saysEmpty = ({ interruptIdentification }: Serial) => (interruptIdentification & 6) === 2
/** Without FIFOs a byte may wait behind the one that is sent. */
const holdsOne = ({ fifoControl, lineStatus }: Serial) =>
  (fifoControl & FIFO_ON) === 0 && (lineStatus & HOLDING_EMPTY) === 0

type Serial = NonNullable<Devices['serial']>
type FifoName = 'recv_fifo' | 'xmit_fifo'
const fifoField = (name: FifoName, field: string) => part(name, `${name}.${field}`)
const FIFO_BYTES = 16

/** A ring of 16 bytes: `num` of them from `head` on. Only there when it holds something. */
function fifoOf(raw: Fields, name: FifoName): Uint8Array {
  const ring = raw.get(fifoField(name, 'data'))
  if (!(ring instanceof Uint8Array) || ring.length !== FIFO_BYTES) return new Uint8Array()
  const head = Number(raw.integer(fifoField(name, 'head')))
  const count = Math.min(FIFO_BYTES, Number(raw.integer(fifoField(name, 'num'))))
  return Uint8Array.from({ length: count }, (_, i) => ring[(head + i) % FIFO_BYTES]!)
}

function setFifo(raw: Fields, name: FifoName, held: Uint8Array): void {
  const ring = new Uint8Array(FIFO_BYTES)
  ring.set(held.subarray(0, FIFO_BYTES))
  raw.set(fifoField(name, 'num'), BigInt(Math.min(FIFO_BYTES, held.length)))
  raw.set(fifoField(name, 'data'), ring)
  raw.set(fifoField(name, 'head'), 0n)
}

export const keyboard: Row<Fields>[] = [
  row('pckbd/kbd.mode', 'keyboard.commandByte'),
  row('pckbd/kbd.status', 'keyboard.status'),
  row('pckbd/kbd.write_cmd', 'keyboard.pendingCommand'),
  row('pckbd/kbd.pckbd/extended_state.obdata', 'keyboard.output'),
  row('ps2kbd/scan_enabled', 'keyboard.scanning'),
  row('ps2kbd/scancode_set', 'keyboard.scancodeSet', bits(0xff)),
  row('ps2mouse/mouse_status', 'mouse.status'),
  row('ps2mouse/mouse_resolution', 'mouse.resolution'),
  row('ps2mouse/mouse_sample_rate', 'mouse.sampleRate'),
]

/** What a machine made of another one needs besides its state. */
export const awake: CompoundRow<Fields> = {
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
