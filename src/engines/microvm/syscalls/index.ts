/** All system calls that a guest may make, by number. Unknown ones get ENOSYS and are counted. */
import { eventCalls } from './events.js'
import { fileCalls } from './files.js'
import { memoryCalls } from './memory.js'
import { nameCalls } from './names.js'
import { processCalls } from './process.js'
import { signalCalls } from './signals.js'
import type { SystemCall } from './table.js'
import { timerCalls } from './timers.js'
import { waitingCalls } from './waiting.js'

export const systemCalls: ReadonlyMap<number, SystemCall> = new Map(
  [
    ...fileCalls,
    ...nameCalls,
    ...memoryCalls,
    ...processCalls,
    ...signalCalls,
    ...waitingCalls,
    ...eventCalls,
    ...timerCalls,
  ].map(call => [call.nr, call]),
)
