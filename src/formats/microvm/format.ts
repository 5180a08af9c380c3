/** The entry of the format `microvm` in the table of formats. */
import type { MachineFormat } from '../format.js'
import { MAGIC } from './header.js'

export const microvm: MachineFormat = {
  name: 'microvm',
  kind: 'machine',
  summary: "a guest of imago's own monitor, with its open files",
  container: 'file',
  probe: ({ head }) => Buffer.from(head.subarray(0, MAGIC.length)).equals(MAGIC),
  read: async path => (await import('./model.js')).readMicroVm(path),
  write: async (image, path) => (await import('./write.js')).writeMicroVm(image, path),
  verify: async path => (await import('./image-file.js')).verifyMicroVmFile(path),
}
