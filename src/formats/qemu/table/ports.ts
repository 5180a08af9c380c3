/** Serial port and keyboard controller; what makes the loaded machine run. Sources: QEMU hw/char/serial.c, hw/input/pckbd.c. */
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { Fields } from './clock.js'

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
    ['serial/thr_ipending.thr_ipending', 'transmitInterrupt'],
  ] as const
).map(([field, path]) => row<Fields>(`serial/state.${field}`, `serial.${path}`))

export const keyboard: Row<Fields>[] = [
  row('pckbd/kbd.mode', 'keyboard.commandByte'),
  row('pckbd/kbd.status', 'keyboard.status'),
  row('pckbd/kbd.write_cmd', 'keyboard.pendingCommand'),
  row('pckbd/kbd.pckbd/extended_state.obdata', 'keyboard.output'),
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
