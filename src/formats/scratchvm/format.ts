/** The entry of the format `scratchvm` in the table of formats. */
import fs from 'node:fs'
import type { MachineFormat } from '../format.js'
import { looksLikeScratch } from './record.js'

export const scratchvm: MachineFormat = {
  name: 'scratchvm',
  kind: 'machine',
  summary: "the ScratchVM's vm_image.sav",
  container: 'file',
  probe: ({ path, head, entries }) => entries === undefined && looksLikeScratch(fs.statSync(path).size, head),
  read: async path => (await import('./model.js')).readScratch(path),
  write: async (image, path) => (await import('./write.js')).writeScratch(image, path),
}
