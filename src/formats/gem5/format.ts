/** gem5 checkpoint directories, as the table of formats names them. */
import type { MachineFormat, ProcessFormat } from '../format.js'

export const gem5: MachineFormat = {
  kind: 'machine',
  name: 'gem5',
  summary: 'gem5 X86 checkpoint: m5.cpt and the RAM beside it (v24 and 2011)',
  container: 'directory',
  probe: ({ entries }) => entries?.includes('m5.cpt') ?? false,
  read: async (path, options) => {
    const { gem5Options, readGem5 } = await import('./machine.js')
    const { clock } = gem5Options(options ?? { options: {} })
    return readGem5(path, clock === undefined ? {} : { clock })
  },
  write: async (image, path, options) => {
    const { gem5Options, writeGem5 } = await import('./machine.js')
    return writeGem5(image, path, gem5Options(options))
  },
  verify: async path => (await import('./verify.js')).verifyGem5(path),
  hints: (path, _, { gem5Version }) =>
    gem5Version === '2011'
      ? [`restore it as ${path}/restore.txt says`]
      : [`restore it with  GEM5_ROOT=… gem5.fast -d out ${path}/restore.py`],
}

/** Written from process images; what gem5 writes itself is read as a machine. */
export const gem5Se: ProcessFormat = {
  kind: 'process',
  name: 'gem5-se',
  summary: 'gem5 SE-mode checkpoint of one process (written from a core or CRIU image)',
  container: 'directory',
  probe: () => false,
  write: async (image, path, { options }) => {
    const { writeGem5Process } = await import('./process.js')
    return writeGem5Process(image, path, typeof options.binary === 'string' ? { binary: options.binary } : {})
  },
  hints: path => [`restore it with  gem5.fast -d out ${path}/restore.py`],
}
