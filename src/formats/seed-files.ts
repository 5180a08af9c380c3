/** A guest's image as the ScratchVM leaves one: `vm_image.sav`, and `mem2.txt`, the memory as it is. */
import path from 'node:path'
import { writeFileAtomically, writeFully } from '../lib/atomic-file.js'
import { FileSource } from '../lib/byte-source.js'
import { LossError } from '../lib/errors.js'
import { withImages } from './registry.js'
import { decodeScratch } from './scratchvm/record.js'
import { SEED_MEMORY } from './scratchvm/seed-layout.js'
import { writeScratch } from './scratchvm/write.js'

/** @throws LossError when the guest does not fit. */
export async function writeSeedFiles(image: string, folder: string): Promise<void> {
  const saved = path.join(folder, 'vm_image.sav')
  await withImages([image], read => {
    if (read.kind !== 'machine') throw new LossError('not a machine', { file: image })
    return writeScratch(read.image, saved)
  })
  const source = new FileSource(saved)
  const { memory } = decodeScratch(source.read(0, source.size), saved)
  source.close()
  writeFileAtomically(path.join(folder, 'mem2.txt'), fd => writeFully(fd, memory.subarray(0, SEED_MEMORY), 0))
}
