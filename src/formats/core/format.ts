/** The format `core`: ELF cores, imago's own (restartable) and those of the kernel, gdb and gcore. */
import { ET, isElf } from '../../lib/elf-header.js'
import { isZstdFrame } from '../../lib/zstd-magic.js'
import type { ProcessFormat } from '../format.js'

const unpacked = async (path: string) => (await import('./compressed.js')).plain(path)

export const core: ProcessFormat = {
  name: 'core',
  kind: 'process',
  summary: 'ELF core that gdb opens; written by the preload engine, with all that restore needs',
  container: 'file',
  probe: ({ head }) => isElf(head, ET.CORE) || isZstdFrame(head),
  read: async path => (await import('./read.js')).read(await unpacked(path)),
  verify: async path => (await import('./verify.js')).verify(await unpacked(path)),
  copy: async (source, target) => (await import('./write.js')).copyPlain(await unpacked(source), target),
  write: async (image, path, options) => (await import('./write.js')).write(image, path, options),
  rewrite: async (image, path) => (await import('./write.js')).rewrite(image, path),
}
