/** QEMU migration streams, as the table of formats names them. */
import type { MachineImage } from '../../model/machine.js'
import type { MachineFormat } from '../format.js'

export const qemu: MachineFormat = {
  kind: 'machine',
  name: 'qemu',
  summary: 'QEMU migration stream of a PC (7.2 to 10); written over a template',
  container: 'file',
  probe: ({ head }) =>
    head.length >= 4 && head[0] === 0x51 && Buffer.from(head.subarray(0, 4)).toString() === 'QEVM',
  read: async (path, options) => {
    const cpu = options?.options.cpu
    return (await import('./machine.js')).readQemu(path, typeof cpu === 'string' ? { cpu } : {})
  },
  write: async (image, path, options) => {
    const { qemuOptions, writeQemu } = await import('./machine.js')
    return writeQemu(image, path, qemuOptions(options))
  },
  verify: async path => (await import('./verify.js')).verifyQemu(path),
  hints: async (path, image, { template }) =>
    (await import('./machine.js')).resumeHints(path, image as MachineImage, template as string),
}
