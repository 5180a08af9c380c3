import { InterruptedError } from '../../lib/errors.js'

/**
 * Runs `work`, and lets it tidy up when SIGINT or SIGTERM comes: then the signal that it was given is aborted, what it
 * waits for fails, and that is an InterruptedError. A second SIGINT or SIGTERM ends the process at once.
 * @param nothing what has not come about then: `nothing was captured`.
 */
export async function interruptible<T>(
  nothing: string,
  work: (abort: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const interrupt = () => controller.abort()
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const signal of signals) process.once(signal, interrupt)
  try {
    return await work(controller.signal)
  } catch (error) {
    throw controller.signal.aborted
      ? new InterruptedError(`interrupted: ${nothing}`, { cause: error })
      : error
  } finally {
    for (const signal of signals) process.off(signal, interrupt)
  }
}
