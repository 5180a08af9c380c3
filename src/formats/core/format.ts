/** The format `core`: ELF cores, imago's own (restartable) and those of the kernel, gdb and gcore. */
import { ET, isElf } from '../../lib/elf-header.js'
import type { ProcessFormat } from '../format.js'

export const core: ProcessFormat = {
  name: 'core',
  kind: 'process',
  summary: 'ELF core that gdb opens; written by the preload engine, with all that restore needs',
  container: 'file',
  probe: ({ head }) => isElf(head, ET.CORE),
  read: async path => (await import('./read.js')).read(path),
  verify: async path => (await import('./verify.js')).verify(path),
  write: async (image, path, options) => (await import('./write.js')).write(image, path, options),
}
