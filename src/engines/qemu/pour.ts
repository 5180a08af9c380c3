/**
 * Any machine image as a stream that QEMU loads: a stream as it is, another format poured into a template that
 * is made for its memory size.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Loss } from '../../formats/format.js'
import { informed } from '../../formats/informed.js'
import { isQemuStream, openStream } from '../../formats/qemu/read-stream.js'
import { ICOUNT_RATE } from '../../formats/qemu/tsc-rate.js'
import { formatNamed, type ReadImage, withImages } from '../../formats/registry.js'
import { LossError, UsageError } from '../../lib/errors.js'
import type { MachineImage } from '../../model/machine.js'
import { DEFAULT_LINE, type MachineLine } from './machine-line.js'
import { lineFor } from './resume.js'
import { makeTemplate } from './template.js'

export interface Poured {
  /** Path of the stream. */
  readonly stream: string
  /** The command line that loads it. */
  readonly line: MachineLine
  readonly losses: readonly Loss[]
  /** A folder to remove when the machine has been loaded. */
  readonly temporary: string | undefined
}

/** `adjust` lays the user's options over the line that the image wants. */
export async function asStream(image: string, adjust: (line: MachineLine) => MachineLine): Promise<Poured> {
  if (isStream(image)) {
    const stream = openStream(image)
    stream.source.close()
    return { stream: image, line: adjust(lineFor(image, stream)), losses: [], temporary: undefined }
  }
  return withImages([image], read => pourOut(machineOf(read, image), adjust))
}

/** @throws UsageError for a process */
function machineOf(read: ReadImage, file: string): MachineImage {
  if (read.kind === 'machine') return read.image
  throw new UsageError('this is the image of a process, not of a machine', { file })
}

async function pourOut(image: MachineImage, adjust: (line: MachineLine) => MachineLine): Promise<Poured> {
  const qemu = formatNamed('qemu')
  if (qemu.kind !== 'machine' || qemu.write === undefined)
    throw new LossError('QEMU streams cannot be written yet')
  const line = adjust(templateLine(image))
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-pour-'))
  try {
    const template = path.join(temporary, 'template')
    const stream = path.join(temporary, 'stream')
    await makeTemplate(line, template)
    const losses = await qemu.write(image, stream, { options: { template } })
    // The record that goes with the new stream has a processor with all that the guest may have seen.
    const written = openStream(stream)
    written.source.close()
    return { stream, line: adjust(lineFor(stream, written)), losses, temporary }
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true })
    throw error
  }
}

/** The machine that an image wants: its RAM; time counted by instructions where its TSC has that rate (a kernel measures it nearly). */
function templateLine(image: MachineImage): MachineLine {
  const rate = image.cpus[0]?.tscRate ?? 0
  const counted = Math.abs(rate - ICOUNT_RATE) < ICOUNT_RATE / 1000
  return { ...DEFAULT_LINE, memory: image.memory.byteCount, icount: counted ? 0 : undefined }
}

/** A template for the machine image at `image`, in a folder of its own. @throws HostError where QEMU is not installed. */
export async function templateFor(
  image: string,
  options: Readonly<Record<string, unknown>>,
): Promise<{ template: string; line: MachineLine; remove(): void }> {
  const line = await withImages(
    [image],
    async read => templateLine(machineOf(await informed(read, options), image)),
    options,
  )
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'imago-pour-'))
  const remove = () => fs.rmSync(temporary, { recursive: true, force: true })
  try {
    const template = path.join(temporary, 'template')
    await makeTemplate(line, template)
    return { template, line, remove }
  } catch (error) {
    remove()
    throw error
  }
}

function isStream(image: string): boolean {
  if (!fs.existsSync(image) || !fs.statSync(image).isFile()) return false
  const fd = fs.openSync(image, 'r')
  try {
    const head = new Uint8Array(8)
    return fs.readSync(fd, head) === head.length && isQemuStream(head)
  } finally {
    fs.closeSync(fd)
  }
}
