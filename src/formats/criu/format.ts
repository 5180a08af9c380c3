/** CRIU's image directories, as the table of formats sees them. */
import fs from 'node:fs'
import path from 'node:path'
import type { ProcessFormat } from '../registry.js'

export const criu: ProcessFormat = {
  name: 'criu',
  summary: "CRIU's image directory (x86-64 and aarch64; other ISAs by record)",
  container: 'directory',
  kind: 'process',
  probe: ({ path: folder, entries }) => {
    if (entries === undefined || !entries.includes('pstree.img')) return false
    const magics = [0x50273030, 0x54564319]
    const head = fs.readFileSync(path.join(folder, 'pstree.img')).subarray(0, 4)
    return head.length === 4 && magics.includes(head.readUInt32LE(0))
  },
  write: async (image, target) => (await import('./write.js')).writeCriu(image, target),
  verify: async folder => (await import('./verify.js')).verifyCriu(folder),
  read: async folder => (await import('./read.js')).readCriu(folder),
}
