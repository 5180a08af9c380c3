/** The word that the two threads of a guest share: what the main thread wants of the one in which the guest runs. */

/** Its index in the shared memory. */
export const STOP_WORD = 0
export const WANTED = { nothing: 0, stop: 1, lookAtTimers: 2 } as const
