/**
 * CPU features. A running kernel has patched itself for the CPU it booted on, so the CPU it goes on with must offer at
 * least as much; no checkpoint format stores CPUID. Names are QEMU's.
 *
 * gem5 v24's X86 CPUID: leaf 1 EDX 0xefdbfbff ECX 0x209; leaf 7 EBX 0x01800000; 0x80000001 EDX 0xebd3fbff ECX 0x20001.
 */
import type { MachineImage } from '../../model/machine.js'

/** What gem5 offers beyond the base of every x86-64 CPU. */
export const gem5Features: ReadonlySet<string> = new Set([
  ...[
    'fpu',
    'vme',
    'de',
    'pse',
    'tsc',
    'msr',
    'pae',
    'mce',
    'cx8',
    'apic',
    'sep',
    'mtrr',
    'pge',
    'mca',
    'cmov',
  ],
  ...[
    'pat',
    'pse36',
    'clflush',
    'mmx',
    'fxsr',
    'sse',
    'sse2',
    'pni',
    'monitor',
    'ssse3',
    'clflushopt',
    'clwb',
  ],
  ...['syscall', 'nx', 'mmxext', 'rdtscp', 'lm', '3dnow', '3dnowext', 'lahf-lm'],
])

/** Control-register bits that a guest only sets when it uses the feature. */
const inUse: ReadonlyArray<readonly [register: 'cr4' | 'xcr0', bit: bigint, feature: string]> = [
  ['cr4', 1n << 12n, 'la57'],
  ['cr4', 1n << 16n, 'fsgsbase'],
  ['cr4', 1n << 17n, 'pcid'],
  ['cr4', 1n << 18n, 'xsave'],
  ['cr4', 1n << 22n, 'pku'],
  ['xcr0', 1n << 2n, 'avx'],
  ['xcr0', 7n << 5n, 'avx512f'],
]

/** Features that the guest was offered (where the image says), or that its control registers show in use, and gem5 lacks. */
export function missingFeatures(image: MachineImage): string[] {
  const cpu = image.cpus[0]!
  const registers = { cr4: cpu.control.cr4, xcr0: cpu.xcr0 }
  const used = inUse.filter(([name, bit]) => (registers[name] & bit) !== 0n).map(([, , feature]) => feature)
  const wanted = new Set([...used, ...(image.cpuFeatures ?? [])])
  return [...wanted].filter(feature => !gem5Features.has(feature))
}
