/** Guests as `imago checkpoint` sees them: the monitor itself is asked, and writes the image. */
import { UsageError } from '../../lib/errors.js'
import type { ProcessEngine } from '../engine.js'
import { checkpointGuest, runsGuest } from './control.js'

export const engine: ProcessEngine = {
  name: 'microvm',
  formats: ['microvm', 'scratchvm'],
  canFreeze: runsGuest,
  checkpoint: checkpointGuest,
  restore: async image => {
    throw new UsageError('this is the image of a guest', { file: image, hint: `imago vm restore ${image}` })
  },
}
