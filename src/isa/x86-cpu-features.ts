/**
 * CPU features by the names that QEMU gives them, bit by bit of the CPUID registers that say them. A running kernel has
 * patched itself for the CPU it booted on, so the CPU that it goes on with must offer at least as much.
 * `-` is a bit without a feature of its own: reserved, or set by the system (OSXSAVE, OSPKE).
 * Sources: Intel SDM 2, CPUID; AMD APM 3, E.
 */

const words = (text: string) => text.trim().split(/\s+/)

/** CPUID leaf and register → the names of its bits from 0 on. */
export const featureRegisters = {
  '1.edx': words(
    'fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe',
  ),
  '1.ecx': words(
    'pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor',
  ),
  '7.ebx': words(
    'fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl',
  ),
  '7.ecx': words(
    '- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - avx512-vpopcntdq - la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - - pks',
  ),
  '7.edx': words(
    '- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - tsx-ldtrk - - arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp - arch-capabilities core-capability ssbd',
  ),
  'd.1.eax': words('xsaveopt xsavec xgetbv1 xsaves'),
  /** Bits that repeat leaf 1 have no name here. */
  '80000001.edx': words(
    '- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow',
  ),
  '80000001.ecx': words(
    'lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb',
  ),
} as const satisfies Record<string, readonly string[]>
export type FeatureRegister = keyof typeof featureRegisters

/** The features that these register values offer. */
export function featuresOf(registers: Partial<Record<FeatureRegister, number>>): Set<string> {
  return new Set(
    (Object.entries(registers) as [FeatureRegister, number][]).flatMap(([register, value]) =>
      featureRegisters[register].filter((name, bit) => name !== '-' && (value >>> bit) & 1),
    ),
  )
}

/** Features of every CPU that runs 64-bit code. */
export const baseFeatures: ReadonlySet<string> = new Set(
  words(
    'fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx lm',
  ),
)

/** Names of features that say something of the machine, but bring no instruction, register or mode that could be missed. */
export const informationalFeatures: ReadonlySet<string> = new Set(
  words(
    'vme fxsr-opt tce ht hypervisor cmp-legacy mp ss ia64 pbe tm tm2 ds acpi est cid xtpr pdcm cr8legacy extapic',
  ),
)

const spelling: Readonly<Record<string, string>> = {
  sse3: 'pni',
  xd: 'nx',
  i64: 'lm',
  pclmuldq: 'pclmulqdq',
  cmpxchg16b: 'cx16',
  lzcnt: 'abm',
  ffxsr: 'fxsr-opt',
  sha_ni: 'sha-ni',
  nrip_save: 'nrip-save',
}
/** The one spelling of a feature that QEMU's command line, its monitor and /proc/cpuinfo spell differently. */
export function featureName(name: string): string {
  const known = spelling[name]
  if (known !== undefined) return known
  return name.replace(/^sse4[_-]/, 'sse4.').replaceAll('_', '-')
}

/** Control-register bits that a guest only sets when it uses the feature. */
const inUse: ReadonlyArray<readonly [register: 'cr4' | 'xcr0', bit: bigint, feature: string]> = [
  ['cr4', 1n << 11n, 'umip'],
  ['cr4', 1n << 12n, 'la57'],
  ['cr4', 1n << 16n, 'fsgsbase'],
  ['cr4', 1n << 17n, 'pcid'],
  ['cr4', 1n << 18n, 'xsave'],
  ['cr4', 1n << 20n, 'smep'],
  ['cr4', 1n << 21n, 'smap'],
  ['cr4', 1n << 22n, 'pku'],
  ['xcr0', 1n << 2n, 'avx'],
  ['xcr0', 7n << 5n, 'avx512f'],
]

/** Features that the control registers show in use. */
export function featuresInUse(registers: { readonly cr4: bigint; readonly xcr0: bigint }): string[] {
  return inUse.filter(([name, bit]) => (registers[name] & bit) !== 0n).map(([, , feature]) => feature)
}
