/** What a host needs for each engine: the table behind `imago check`. Each engine adds its own checks. */
import type { HostCheck } from './host-check.js'
import { checksOfThisHost } from './host-check.js'

/** Groups of checks in the order they are shown; loaded when asked for. */
const groups: ReadonlyArray<{
  readonly title: string
  load(): Promise<{ readonly checks: readonly HostCheck[] }>
}> = [
  { title: 'host', load: async () => ({ checks: checksOfThisHost }) },
  { title: 'preload', load: () => import('./preload/check.js') },
  { title: 'criu', load: () => import('./criu/check.js') },
  { title: 'imago cc', load: () => import('./cc-check.js') },
  { title: 'qemu', load: () => import('./qemu/check.js') },
  { title: 'micro-VM', load: () => import('./microvm/check.js') },
]

export interface CheckResult {
  readonly group: string
  readonly name: string
  /** True: works. False: does not. */
  readonly works: boolean
  /** What was found, or the reason why not. */
  readonly detail: string
  readonly cure?: string
}

/** Runs all checks; a check that throws is a no with its message. */
export async function checkHost(): Promise<CheckResult[]> {
  const results: CheckResult[] = []
  for (const group of groups)
    for (const check of (await group.load()).checks) {
      try {
        const answer = await check.probe()
        results.push({ group: group.title, name: check.name, ...answer })
      } catch (error) {
        results.push({ group: group.title, name: check.name, works: false, detail: (error as Error).message })
      }
    }
  return results
}
