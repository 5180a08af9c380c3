/** One image as another format: read, check that the target can take it, write, report what was lost. */
import fs from 'node:fs'
import path from 'node:path'
import { temporaryName } from '../lib/atomic-file.js'
import { LossError, UnreadableError, UsageError } from '../lib/errors.js'
import type { MachineImage } from '../model/machine.js'
import type { Format, Loss } from './format.js'
import { detectFormat, formatNamed, type ReadImage, withImages } from './registry.js'

export interface Conversion {
  readonly target: string
  readonly losses: readonly Loss[]
  /** What to do with the result: the command that resumes it. */
  readonly hints: readonly string[]
}

/**
 * @param options values of the verb's options, named as on the command line.
 * @throws LossError under `strict` when anything was lost: nothing is then written.
 */
export async function convert(
  source: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Conversion> {
  const { to, output, strict } = options as { to?: string; output?: string; strict?: boolean }
  if (to === undefined)
    throw new UsageError('no target format', { hint: "--to FORMAT; 'imago formats' lists them" })
  if (output === undefined) throw new UsageError('no place for the new image', { hint: '-o PATH' })
  const format = formatNamed(to)
  const target = path.resolve(output)
  if (target === path.resolve(source)) throw new UsageError('the new image would replace the old one')
  if (format.copy !== undefined && detectFormat(source) === format) {
    await format.copy(source, target)
    return { target, losses: [], hints: [] }
  }
  return withImages(
    [source],
    async image =>
      writeRead(await informed(image, options), format, target, { source, strict: strict === true, options }),
    options,
  )
}

async function writeRead(
  read: ReadImage,
  format: Format,
  target: string,
  {
    source,
    strict,
    options,
  }: { source: string; strict: boolean; options: Readonly<Record<string, unknown>> },
): Promise<Conversion> {
  if (!strict) {
    const losses = await writeAs(format, read, target, options)
    return { target, losses, hints: (await format.hints?.(target, read.image, options)) ?? [] }
  }
  // In a folder of its own: some formats write more than one file (a memory dump, a record).
  const folder = temporaryName(target)
  fs.mkdirSync(folder)
  try {
    const losses = await writeAs(format, read, path.join(folder, path.basename(target)), options)
    if (losses.length > 0)
      throw new LossError(`${losses.length} fields would be lost or changed`, {
        file: source,
        found: losses
          .slice(0, 5)
          .map(({ kind, subject, field }) => `${kind} ${subject} ${field}`)
          .join(', '),
        hint: 'leave --strict out to convert all the same, with a report',
      })
    for (const name of fs.readdirSync(folder)) {
      const place = path.join(path.dirname(target), name)
      fs.rmSync(place, { recursive: true, force: true })
      fs.renameSync(path.join(folder, name), place)
    }
    return { target, losses, hints: (await format.hints?.(target, read.image, options)) ?? [] }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** A machine with what the user says of it: its TSC; its CPU by `--cpu`, or by the kernel's own words, found by `--vmlinux`. */
async function informed(read: ReadImage, options: Readonly<Record<string, unknown>>): Promise<ReadImage> {
  if (read.kind !== 'machine') return read
  const { cpu, vmlinux, tsc } = options as { cpu?: string; vmlinux?: string; tsc?: string }
  let { image } = read
  if (tsc !== undefined) image = { ...image, cpus: image.cpus.map(each => ({ ...each, tsc: ticks(tsc) })) }
  if (cpu !== undefined || vmlinux !== undefined)
    image = { ...image, cpuFeatures: await featuresFor(image, cpu, vmlinux) }
  return { ...read, image }
}

function ticks(text: string): bigint {
  if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text) || BigInt(text) >> 64n)
    throw new UsageError(`'${text}' is no value of a time-stamp counter`, { expected: 'a 64-bit number' })
  return BigInt(text)
}

async function featuresFor(
  image: MachineImage,
  cpu: string | undefined,
  vmlinux: string | undefined,
): Promise<ReadonlySet<string>> {
  if (cpu !== undefined) {
    const { offeredFeatures } = await import('./qemu/cpu-line.js')
    const features = offeredFeatures(cpu)
    if (features !== undefined) return features
    throw new UsageError(`what the CPU model '${cpu}' offers is not known`, {
      expected: 'a model of QEMU 7.2 such as qemu64 or Haswell, with words such as -svm or +rdtscp',
      hint: "--vmlinux FILE finds it out from the guest's kernel",
    })
  }
  const { openKernelSymbols } = await import('../lib/kernel-symbols.js')
  const { kernelFeatures } = await import('../isa/linux-kernel.js')
  const features = kernelFeatures(image, openKernelSymbols(vmlinux!))
  if (features !== undefined) return features
  throw new UnreadableError("the kernel's own feature words are not where these symbols say", {
    file: vmlinux,
    expected: 'boot_cpu_data of the Linux that runs in the image',
    hint: 'give the symbols of this very kernel (its System.map, or /proc/kallsyms of the guest), or say --cpu',
  })
}

function writeAs(
  format: Format,
  read: ReadImage,
  target: string,
  options: Readonly<Record<string, unknown>>,
): Promise<readonly Loss[]> {
  if (format.kind === 'process' && read.kind === 'process' && format.write)
    return format.write(read.image, target, { options })
  if (format.kind === 'machine' && read.kind === 'machine' && format.write)
    return format.write(read.image, target, { options })
  if (format.write === undefined) throw new LossError(`format ${format.name} cannot be written`)
  throw new UsageError(`a ${read.kind} image cannot become ${format.name}, which holds a ${format.kind}`)
}
