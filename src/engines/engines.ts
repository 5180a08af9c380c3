/** The engines that `imago checkpoint` and `restore` choose from; each is loaded when it is called. */
import type { ProcessEngine } from './engine.js'

/** Engines by name, in the order of preference. */
export const engines: ReadonlyArray<{
  readonly name: string
  readonly formats: readonly string[]
  /** It can freeze nearly anything, as root: a user asks for it by name. */
  readonly byNameOnly?: true
  load(): Promise<ProcessEngine>
}> = [
  { name: 'preload', formats: ['core'], load: async () => (await import('./preload/engine.js')).engine },
  {
    name: 'microvm',
    formats: ['microvm', 'scratchvm'],
    load: async () => (await import('./microvm/engine.js')).engine,
  },
  {
    name: 'criu',
    formats: ['criu'],
    byNameOnly: true,
    load: async () => (await import('./criu/engine.js')).engine,
  },
]
