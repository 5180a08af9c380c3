/** The engines for processes that `imago checkpoint` and `restore` choose from; each is loaded when it is called. */
import type { ProcessEngine } from './engine.js'

/** Engines by name, in the order of preference. */
export const engines: ReadonlyArray<{
  readonly name: string
  readonly formats: readonly string[]
  load(): Promise<ProcessEngine>
}> = [
  { name: 'preload', formats: ['core'], load: async () => (await import('./preload/engine.js')).engine },
  { name: 'criu', formats: ['criu'], load: async () => (await import('./criu/engine.js')).engine },
]
