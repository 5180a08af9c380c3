/**
 * The calls of child_process that wait for a program, with an end. No timeout of a test interrupts them: one program
 * that hangs would stop the whole run, without a word about which one it was.
 */
import child from 'node:child_process'

const LIMIT_MS = 200_000

type Options = { timeout?: number } | undefined
type Call = (...args: unknown[]) => unknown

/** SIGKILL, because imago and the programs that it looks after answer SIGTERM by themselves. */
const bounded =
  (call: Call): Call =>
  (command, ...rest) => {
    const options = rest.find(each => each !== undefined && !Array.isArray(each)) as Options
    const words = rest.filter(Array.isArray)
    return call(command, ...words, { timeout: LIMIT_MS, killSignal: 'SIGKILL', ...options })
  }

/** child_process.spawnSync; a program that does not end in time is killed, and that is an error here. */
export const spawnSync = ((...args: unknown[]) => {
  const result = bounded(child.spawnSync as unknown as Call)(...args) as child.SpawnSyncReturns<unknown>
  if ((result.error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT')
    throw new Error(
      `${JSON.stringify(args.slice(0, 2))} did not end in time; it had printed:\n${result.stdout}\n${result.stderr}`,
    )
  return result
}) as typeof child.spawnSync

/** child_process.execFileSync, likewise. */
export const execFileSync = bounded(child.execFileSync as unknown as Call) as typeof child.execFileSync
