/** What an engine for processes can do. */

export interface CheckpointOptions {
  /** Where the image goes: a file or a folder, as the engine's format wants. It appears whole or not at all. */
  readonly output: string | undefined
  /** End the source once its image is complete and verified; otherwise it goes on. */
  readonly stop: boolean
  /** Go on when something of the program cannot be kept; it is named in the image. */
  readonly force?: boolean
  /** Let the program stand still until the image is written, instead of writing from a copy of it. */
  readonly blocking?: boolean
  /** Keep the content of all files that are open for writing, whatever their size. */
  readonly includeFiles?: boolean
  /** Compress the image; it is then no ELF core until it is converted back. */
  readonly compress?: boolean
  /** How long its threads may take to come where they can be frozen, in milliseconds (default: 30 s); then it goes on. */
  readonly patience?: number
  /** Progress from 0 to 1 with a short detail. */
  onProgress?(fraction: number, detail: string): void
}

export const PATIENCE = 30_000

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
  /** Read all memory now, instead of when it is touched. */
  readonly eager?: boolean
  /** Whether the image's memory is checked against its checksums first; undefined: where the engine finds that quick enough. */
  readonly verify?: boolean
  /** What to do with files that have changed since. */
  readonly files?: 'keep' | 'truncate' | 'restore'
  /** Whether it gets its old process id. */
  readonly pid?: 'auto' | 'same' | 'new' | 'namespace'
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
  /** True when `pid` itself is a program that this engine can freeze. */
  canFreeze(pid: number): boolean
  checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult>
  restore(image: string, options: RestoreOptions): Promise<RestoredProcess>
}
