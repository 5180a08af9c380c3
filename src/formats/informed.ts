/** What a machine image does not say and the user does, or can have looked up: options of `convert`. */
import { UnreadableError, UsageError } from '../lib/errors.js'
import type { MachineImage } from '../model/machine.js'
import type { ReadImage } from './registry.js'

/** A machine with what the user says of it: its TSC; its CPU by `--cpu`; what its own kernel knows, found by `--vmlinux`. */
export async function informed(
  read: ReadImage,
  options: Readonly<Record<string, unknown>>,
): Promise<ReadImage> {
  if (read.kind !== 'machine') return read
  const { cpu, vmlinux, tsc } = options as { cpu?: string; vmlinux?: string; tsc?: string }
  let { image } = read
  if (vmlinux !== undefined) image = await informedByKernel(image, vmlinux, cpu === undefined)
  if (tsc !== undefined) image = withTsc(image, ticks(tsc))
  if (cpu !== undefined) image = { ...image, cpuFeatures: await featuresOfLine(cpu) }
  return { ...read, image }
}

function withTsc(image: MachineImage, tsc: bigint): MachineImage {
  const workedOut = new Map(image.workedOut)
  workedOut.delete('cpu.tsc')
  return { ...image, cpus: image.cpus.map(cpu => ({ ...cpu, tsc })), workedOut }
}

function ticks(text: string): bigint {
  if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text) || BigInt(text) >> 64n)
    throw new UsageError(`'${text}' is no value of a time-stamp counter`, { expected: 'a 64-bit number' })
  return BigInt(text)
}

async function featuresOfLine(cpu: string): Promise<ReadonlySet<string>> {
  const { offeredFeatures } = await import('./qemu/cpu-line.js')
  const features = offeredFeatures(cpu)
  if (features !== undefined) return features
  throw new UsageError(`what the CPU model '${cpu}' offers is not known`, {
    expected: 'a model of QEMU 7.2 such as qemu64 or Haswell, with words such as -svm or +rdtscp',
    hint: "--vmlinux FILE finds it out from the guest's kernel",
  })
}

async function informedByKernel(
  image: MachineImage,
  vmlinux: string,
  needsFeatures: boolean,
): Promise<MachineImage> {
  const { openKernelSymbols } = await import('../lib/kernel-symbols.js')
  const { kernelFeatures } = await import('../isa/linux-kernel.js')
  const { withKernelClock } = await import('../isa/linux-clock.js')
  const symbols = openKernelSymbols(vmlinux)
  try {
    const cpuFeatures = kernelFeatures(image, symbols)
    if (cpuFeatures === undefined && needsFeatures)
      throw new UnreadableError("the kernel's own feature words are not where these symbols say", {
        file: vmlinux,
        expected: 'boot_cpu_data of the Linux that runs in the image',
        hint: 'give the symbols of this very kernel (its System.map, or /proc/kallsyms of the guest), or say --cpu',
      })
    return withKernelClock(cpuFeatures === undefined ? image : { ...image, cpuFeatures }, symbols)
  } finally {
    symbols.close()
  }
}
