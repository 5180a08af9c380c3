/** The engine `preload`: libckpt.so inside the program freezes it, myrestart wakes it up. No root, no recompiling. */
import type { ProcessEngine } from '../engine.js'
import { checkpoint } from './checkpoint.js'
import { restore } from './restore.js'
import { carriesCheckpointer } from './target.js'

export const engine: ProcessEngine = {
  name: 'preload',
  formats: ['core'],
  canFreeze: carriesCheckpointer,
  checkpoint,
  restore,
}
