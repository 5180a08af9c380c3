/** Serial port, speaker and keyboard controller. Sources: gem5 src/dev/serial/uart8250.cc, src/dev/x86/{speaker,i8042}.cc. */
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { Gem5Fields } from '../fields.js'
import { type Fields, integer, tickOf } from './common.js'

/** Ticks after which gem5's UART says that its transmitter is empty. */
const TRANSMIT_TICKS = 225_000n
const TRANSMIT_ENABLED = 2
const DIVISOR_LATCH = 0x80
export const serial: Row<Fields>[] = [
  row('com.IER', 'serial.interruptEnable'),
  row('com.LCR', 'serial.lineControl', {
    read: Number,
    write: value => BigInt((value as number) & ~DIVISOR_LATCH),
  }),
  row('com.MCR', 'serial.modemControl'),
  {
    about:
      'a writer that waits for the transmitter must be woken: arm the event when its interrupt is enabled',
    read(raw, { devices }) {
      if (devices.serial)
        devices.serial.transmitInterrupt =
          (integer(raw, 'com.status') & 2n) !== 0n || integer(raw, 'com.txintrwhen') !== 0n
    },
    write({ devices }, raw) {
      if (devices.serial === undefined) return
      const now = tickOf(raw, devices)
      raw.set('com.status', 0n)
      raw.set('com.rxintrwhen', 0n)
      const waits = devices.serial.interruptEnable & TRANSMIT_ENABLED
      raw.set('com.txintrwhen', waits ? now + TRANSMIT_TICKS : 0n)
    },
  },
]

export const speaker: CompoundRow<Fields> = {
  about: 'the speaker register: gate of PIT channel 2, data',
  read(raw, { devices }) {
    if (!raw.has('speaker')) return
    const control = integer(raw, `speaker.${speakerKey(raw)}`)
    devices.speaker = { data: (control & 2n) !== 0n }
    if (devices.pit) devices.pit.channels[2]!.gate = (control & 1n) !== 0n
  },
  write({ devices }, raw) {
    const gate = devices.pit?.channels[2]?.gate ? 1n : 0n
    if (devices.speaker) raw.set(`speaker.${speakerKey(raw)}`, gate | (devices.speaker.data ? 2n : 0n))
  },
}
const speakerKey = (raw: Gem5Fields) => (raw.is2011 ? 'controlValData' : 'controlVal')

const NOTHING_PENDING = 0xffffn
export const keyboard: Row<Fields>[] = [
  row('keyboard.statusReg', 'keyboard.status', undefined, raw => !raw.is2011),
  row('keyboard.commandByte', 'keyboard.commandByte', undefined, raw => !raw.is2011),
  row('keyboard.statusRegData', 'keyboard.status', undefined, raw => raw.is2011),
  row('keyboard.commandByteData', 'keyboard.commandByte', undefined, raw => raw.is2011),
  row('keyboard.dataReg', 'keyboard.output'),
  row('keyboard.lastCommand', 'keyboard.pendingCommand', {
    read: raw => (raw === NOTHING_PENDING ? 0 : Number(raw & 0xffn)),
    write: value => (value === 0 ? NOTHING_PENDING : BigInt(value as number)),
  }),
]

/** The devices behind the 8042: sections of their own in v24; in 2011 only the mouse has state, within the controller's. */
export const ps2: readonly Row<Fields>[] = [
  row('ps2Keyboard.enabled', 'keyboard.scanning'),
  ...(['status', 'resolution', 'sampleRate'] as const).flatMap(name => [
    row<Fields>(`ps2Mouse.${name}`, `mouse.${name}`),
    row<Fields>(`keyboard.mouse.${name}`, `mouse.${name}`, undefined, raw => raw.is2011),
  ]),
]
