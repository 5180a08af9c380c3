/**
 * What an engine for processes can do. `engines` is the table that `imago checkpoint`, `restore` and
 * `migrate` choose from; each engine is loaded when it is called.
 */

export interface CheckpointOptions {
  /** Where the image goes: a file or a folder, as the engine's format wants. It appears whole or not at all. */
  readonly output: string | undefined
  /** End the source once its image is complete and verified; otherwise it goes on. */
  readonly stop: boolean
  /** Progress from 0 to 1 with a short detail. */
  onProgress?(fraction: number, detail: string): void
}

export interface CheckpointResult {
  /** Absolute path of the finished, verified image. */
  readonly path: string
  /** Bytes on disk (holes do not count). */
  readonly bytes: number
  /** How long the program stood still, in milliseconds; undefined when the engine cannot tell. */
  readonly pauseMs: number | undefined
  /** From the request to the verified image, in milliseconds. */
  readonly totalMs: number
}

export interface RestoreOptions {
  /** Leave it running in the background and return; otherwise it takes this terminal. */
  readonly detach: boolean
  readonly onProgress?: (fraction: number, detail: string) => void
}

export interface RestoredProcess {
  readonly pid: number
  /** What the user should know: 'its pid was taken; it now has 4711'. */
  readonly remarks: readonly string[]
  /** Waits for its end; the exit code, or 128 + the signal. */
  wait(): Promise<number>
}

export interface ProcessEngine {
  readonly name: string
  /** Names of the formats whose images it restores. */
  readonly formats: readonly string[]
  checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult>
  restore(image: string, options: RestoreOptions): Promise<RestoredProcess>
}

/** Engines by name, in the order of preference. */
export const engines: ReadonlyArray<{
  readonly name: string
  readonly formats: readonly string[]
  load(): Promise<ProcessEngine>
}> = [{ name: 'criu', formats: ['criu'], load: async () => (await import('./criu/engine.js')).engine }]
