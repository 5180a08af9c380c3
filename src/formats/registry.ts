/**
 * The one table of formats: `probe` tells from content what a path is, `read` and `write` go through one of
 * the two neutral models. Formats know the models, never each other.
 */
import fs from 'node:fs'
import { LossError, UnreadableError, UsageError } from '../lib/errors.js'
import type { MachineImage } from '../model/machine.js'
import type { ProcessImage } from '../model/process.js'
import { table } from './table.js'

export type ImageKind = 'process' | 'machine'

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
}

export interface MachineFormat extends FormatBase {
  readonly kind: 'machine'
  read?(path: string, options?: WriteOptions): Promise<MachineImage>
  write?(image: MachineImage, path: string, options: WriteOptions): Promise<readonly Loss[]>
}

export type Format = ProcessFormat | MachineFormat

export const formats: readonly Format[] = table

/** @throws UsageError when no format has that name. */
export function formatNamed(name: string): Format {
  const format = formats.find(candidate => candidate.name === name)
  if (format === undefined)
    throw new UsageError(`no format is called '${name}'`, {
      expected: formats.map(candidate => candidate.name).join(', '),
    })
  return format
}

/** Which format the file or folder at `path` is in. @throws UnreadableError when none knows it. */
export function detectFormat(path: string): Format {
  const input = probeInput(path)
  const format = formats.find(candidate => candidate.probe(input))
  if (format === undefined)
    throw new UnreadableError('no known image format', {
      file: path,
      found:
        input.entries === undefined
          ? `first bytes ${Buffer.from(input.head.subarray(0, 8)).toString('hex') || '(empty)'}`
          : `a folder of ${input.entries.length} entries`,
      hint: "run 'imago formats' for what can be read",
    })
  return format
}

export type ReadImage =
  | { kind: 'process'; format: ProcessFormat; image: ProcessImage }
  | { kind: 'machine'; format: MachineFormat; image: MachineImage }

/** Detects the format and reads the image into its model. */
export async function readImage(path: string, options: WriteOptions = { options: {} }): Promise<ReadImage> {
  const format = detectFormat(path)
  if (format.read === undefined)
    throw new LossError(`format ${format.name} can be recognised but not read yet`, { file: path })
  if (format.kind === 'process') return { kind: 'process', format, image: await format.read(path, options) }
  return { kind: 'machine', format, image: await format.read(path, options) }
}

function probeInput(path: string): ProbeInput {
  try {
    if (fs.statSync(path).isDirectory())
      return { path, entries: fs.readdirSync(path), head: new Uint8Array() }
    const fd = fs.openSync(path, 'r')
    try {
      const head = new Uint8Array(4096)
      return { path, entries: undefined, head: head.subarray(0, fs.readSync(fd, head, 0, head.length, 0)) }
    } finally {
      fs.closeSync(fd)
    }
  } catch (error) {
    throw new UnreadableError(`cannot open: ${(error as Error).message.replace(/^\w+: /, '')}`, {
      file: path,
      cause: error,
    })
  }
}
