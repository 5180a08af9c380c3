/** gem5 checkpoint directories, as the table of formats names them. */
import type { MachineFormat } from '../registry.js'

export const gem5: MachineFormat = {
  kind: 'machine',
  name: 'gem5',
  summary: 'gem5 X86 checkpoint: m5.cpt and the RAM beside it (v24 and 2011)',
  container: 'directory',
  probe: ({ entries }) => entries?.includes('m5.cpt') ?? false,
  read: async path => (await import('./machine.js')).readGem5(path),
  write: async (image, path, options) => {
    const { gem5Options, writeGem5 } = await import('./machine.js')
    return writeGem5(image, path, gem5Options(options))
  },
}
