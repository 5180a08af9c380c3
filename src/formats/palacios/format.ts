/** Palacios checkpoint directories, as the table of formats names them. */
import type { MachineImage } from '../../model/machine.js'
import type { MachineFormat } from '../format.js'

export const palacios: MachineFormat = {
  kind: 'machine',
  name: 'palacios',
  summary: 'Palacios checkpoint: textfile: or file: directory, the RAM as a raw dump beside it',
  container: 'directory',
  probe: ({ entries }) =>
    entries?.includes('guest_info0') === true && (entries.includes('devices') || entries.includes('header')),
  read: async (path, options) => {
    const { palaciosOptions, readPalacios } = await import('./machine.js')
    return readPalacios(path, palaciosOptions(options ?? { options: {} }))
  },
  write: async (image, path, options) => {
    const { palaciosOptions, writePalacios } = await import('./machine.js')
    return writePalacios(image, path, palaciosOptions(options, image.cpus[0]?.apic?.timer.rate))
  },
  verify: async path => (await import('./verify.js')).verifyPalacios(path),
  hints: (path, image, { store, memoryInside }) => [
    'load it with:',
    `v3_create -b CONFIG.xml NAME`,
    ...(memoryInside
      ? []
      : [
          `v3_guest_mem_access /dev/v3-vmN write 0 ${(image as MachineImage).memory.byteCount} < ${path}.mem`,
        ]),
    `v3_load /dev/v3-vmN KEYED_STREAM ${store ?? 'textfile'}:${path} ${memoryInside ? 0 : 1}`,
    'v3_launch /dev/v3-vmN',
    'v3_stream /dev/v3-vmN STREAM',
  ],
}
