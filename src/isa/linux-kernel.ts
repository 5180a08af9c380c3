/**
 * What a Linux guest's memory says of its own kernel, given the kernel's symbols: where it was loaded, and the CPU
 * features that it found and patched itself for.
 *
 *   boot_cpu_data (struct cpuinfo_x86):   … u32 extended_cpuid_level, s32 cpuid_level, [4 bytes of padding]
 *                                         u32 x86_capability[N]    word 0 is CPUID 1 EDX, 1 is 80000001 EDX, …
 *                                         char x86_vendor_id[16]
 *
 * N and what comes before differ between kernels, so the words are found by what stands around them.
 * Source: Linux arch/x86/include/asm/{processor,cpufeature,cpufeatures}.h, 3.x to 6.12.
 */
import type { KernelSymbols } from '../lib/kernel-symbols.js'
import type { Cpu, MachineImage } from '../model/machine.js'
import { type FeatureRegister, featuresOf } from './x86-cpu-features.js'
import { readLinear } from './x86-paging.js'

/** KASLR moves the kernel by whole large pages, by less than 1 GiB. */
const SLIDE_UNIT = 0x200000n
const MAX_SLIDE = 1n << 30n

/** How far the running kernel lies from where its symbols say: told from the entry of system calls. */
export function kernelSlide(cpu: Cpu, symbols: KernelSymbols): bigint {
  const entry = symbols.addressOf('entry_SYSCALL_64')
  if (entry === undefined) return 0n
  const slide = cpu.msr.lstar - entry
  return slide % SLIDE_UNIT === 0n && slide > -MAX_SLIDE && slide < MAX_SLIDE ? slide : 0n
}

/** Index of a capability word → the CPUID register that it is a copy of. */
const capabilityWords: readonly (readonly [word: number, register: FeatureRegister])[] = [
  [0, '1.edx'],
  [1, '80000001.edx'],
  [4, '1.ecx'],
  [6, '80000001.ecx'],
  [9, '7.ebx'],
  [10, 'd.1.eax'],
  [16, '7.ecx'],
  [18, '7.edx'],
]

/** The features that the guest's kernel has found; undefined when it is not Linux, or has not looked yet. */
export function kernelFeatures(image: MachineImage, symbols: KernelSymbols): Set<string> | undefined {
  const cpu = image.cpus[0]
  const linked = symbols.addressOf('boot_cpu_data')
  if (cpu === undefined || linked === undefined) return undefined
  const bytes = readAcross(image, cpu, linked + kernelSlide(cpu, symbols), STRUCT_BYTES)
  return bytes && featuresIn(bytes)
}

const STRUCT_BYTES = 512
/** FPU, TSC, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2; SYSCALL and LM. */
const ALWAYS = [0x07008171, 0x20000800] as const
const MIN_WORDS = 10
const MAX_WORDS = 40

/** The capability words of a `struct cpuinfo_x86`: as many as there are between the CPUID levels and the vendor. */
export function featuresIn(bytes: Uint8Array): Set<string> | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = (at: number) => (at >= 0 && at + 4 <= bytes.length ? view.getUint32(at, true) : 0)
  const isLevel = (value: number) => value >>> 8 === 0x800000
  for (let start = 8; start + 4 * MIN_WORDS <= bytes.length; start += 4) {
    if (ALWAYS.some((mask, i) => (word(start + 4 * i) & mask) >>> 0 !== mask)) continue
    if (!isLevel(word(start - 8)) && !isLevel(word(start - 12))) continue
    const vendor = vendorAfter(bytes, start)
    if (vendor === undefined) continue
    const count = (vendor - start) / 4
    const features = featuresOf(
      Object.fromEntries(
        capabilityWords
          .filter(([index]) => index < count)
          .map(([index, register]) => [register, word(start + 4 * index)]),
      ),
    )
    // Linux says this one itself of every 64-bit AMD.
    features.delete('3dnowprefetch')
    return features
  }
  return undefined
}

/** `AuthenticAMD`, `GenuineIntel`, …: twelve printable characters and four zeros. */
function vendorAfter(bytes: Uint8Array, start: number): number | undefined {
  for (let count = MIN_WORDS; count <= MAX_WORDS; count++) {
    const at = start + 4 * count
    if (/^[ -~]{12}\0{4}$/.test(Buffer.from(bytes.subarray(at, at + 16)).toString('latin1'))) return at
  }
  return undefined
}

/** Bytes at a linear address that may cross pages; undefined where one is not mapped. */
export function readAcross(image: MachineImage, cpu: Cpu, from: bigint, length: number): Buffer | undefined {
  const bytes = Buffer.alloc(length)
  for (let done = 0; done < length; ) {
    const at = from + BigInt(done)
    const size = Math.min(length - done, 4096 - Number(at & 0xfffn))
    const part = readLinear(image.memory, { ...cpu.control, efer: cpu.msr.efer }, at, size)
    if (part === undefined) return undefined
    bytes.set(part, done)
    done += size
  }
  return bytes
}
