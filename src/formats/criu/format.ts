/** CRIU's image directories, as the table of formats sees them. */
import fs from 'node:fs'
import path from 'node:path'
import type { ProcessFormat } from '../format.js'

export const criu: ProcessFormat = {
  name: 'criu',
  summary: "CRIU's image directory (x86-64 and aarch64; other ISAs by record)",
  container: 'directory',
  kind: 'process',
  probe: ({ path: folder, entries }) => {
    if (entries === undefined || !entries.includes('pstree.img')) return false
    const magics = [0x50273030, 0x54564319]
    const head = Buffer.alloc(4)
    const fd = fs.openSync(path.join(folder, 'pstree.img'), 'r')
    try {
      return fs.readSync(fd, head, 0, 4, 0) === 4 && magics.includes(head.readUInt32LE(0))
    } finally {
      fs.closeSync(fd)
    }
  },
  write: async (image, target) => (await import('./write.js')).writeCriu(image, target),
  verify: async folder => (await import('./verify.js')).verifyCriu(folder),
  read: async folder => (await import('./read.js')).readCriu(folder),
}
