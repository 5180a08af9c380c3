/** What a format is: how it is recognised, read into a model, written from one, and what its writer tells of losses. */
import type { MachineImage } from '../model/machine.js'
import type { ProcessImage } from '../model/process.js'

/** What a probe may look at: the path, whether it is a folder, its names or its first bytes. */
export interface ProbeInput {
  readonly path: string
  /** Names in the folder; undefined for a file. */
  readonly entries: readonly string[] | undefined
  /** The first bytes (at most 4096) of a file; empty for a folder. */
  readonly head: Uint8Array
}

/** One thing that a conversion dropped, replaced or rounded. */
export interface Loss {
  readonly kind: 'dropped' | 'defaulted' | 'rounded'
  /** Where: 'thread 3', 'local APIC', 'fd 5'. */
  readonly subject: string
  readonly field: string
  /** The value that was lost, and what stands in its place where something does. */
  readonly detail: string
}

/** What a reader or writer may be told: options of the verb that only its format knows. */
export interface WriteOptions {
  /** Values of the verb's options, named as on the command line. */
  readonly options: Readonly<Record<string, unknown>>
}

interface FormatBase {
  /** As `--to` and `imago formats` name it. */
  readonly name: string
  readonly summary: string
  /** 'file' or 'directory': what an image of this format is on disk. */
  readonly container: 'file' | 'directory'
  probe(input: ProbeInput): boolean
  /** Makes `target` the same image, where nothing is to be translated: in its plain form, if this format has others. */
  copy?(source: string, target: string): Promise<void>
  /** Checks what only this format can check (checksums, own invariants); returns the problems found. */
  verify?(path: string): Promise<readonly string[]>
  /** What to do with an image that was just written: the command that resumes it. */
  hints?(
    path: string,
    image: MachineImage | ProcessImage,
    options: Readonly<Record<string, unknown>>,
  ): readonly string[] | Promise<readonly string[]>
}

export interface ProcessFormat extends FormatBase {
  readonly kind: 'process'
  read?(path: string, options?: WriteOptions): Promise<ProcessImage>
  write?(image: ProcessImage, path: string, options: WriteOptions): Promise<readonly Loss[]>
  /**
   * Makes the image at `path`, which `image` was read from, this image. What did not change of its memory is not copied; a crash
   * leaves one of the two images.
   */
  rewrite?(image: ProcessImage, path: string): Promise<readonly Loss[]>
}

export interface MachineFormat extends FormatBase {
  readonly kind: 'machine'
  read?(path: string, options?: WriteOptions): Promise<MachineImage>
  write?(image: MachineImage, path: string, options: WriteOptions): Promise<readonly Loss[]>
}

export type Format = ProcessFormat | MachineFormat
