/** Locks of a guest's files, which were let go for a target that did not take them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { MicroVm } from '../../engines/microvm/micro-vm.js'
import { LossError } from '../../lib/errors.js'

/** How often, and how far apart, locks are tried that were let go for the target. */
const LOCK_ATTEMPTS = 30
const LOCK_PAUSE_MS = 100

/** Before a guest that was not sent goes on here. @throws LossError when it cannot: it is in its image */
export async function takeLocksAgain(vm: MicroVm, image: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await vm.takeLocks()
    } catch (error) {
      if (!(error instanceof LossError)) throw error
      if (attempt === LOCK_ATTEMPTS)
        throw new LossError(`the guest was not sent, and cannot go on: ${error.message}`, {
          file: error.details.file,
          hint: `later: imago vm restore ${image}`,
        })
    }
    // A target on this host may have made the guest already, and lets go of it now.
    await sleep(LOCK_PAUSE_MS)
  }
}
