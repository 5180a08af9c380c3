/** QEMU migration streams, as the table of formats names them. */
import type { MachineFormat } from '../registry.js'

export const qemu: MachineFormat = {
  kind: 'machine',
  name: 'qemu',
  summary: 'QEMU migration stream of a PC (7.2 to 10); written over a template',
  container: 'file',
  probe: ({ head }) =>
    head.length >= 4 && head[0] === 0x51 && Buffer.from(head.subarray(0, 4)).toString() === 'QEVM',
  read: async path => (await import('./machine.js')).readQemu(path),
  write: async (image, path, options) => {
    const { qemuOptions, writeQemu } = await import('./machine.js')
    return writeQemu(image, path, qemuOptions(options))
  },
}
