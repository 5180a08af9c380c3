/**
 * What a QEMU `-cpu` line offers the guest, and the line that offers what a guest has already seen. A kernel has
 * patched itself for the CPU that it booted on; the stream does not hold CPUID, only the command line says it.
 */

/** Features of every x86-64 CPU, and of gem5's and QEMU's models alike. */
const common = [
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
  ...['pat', 'pse36', 'clflush', 'mmx', 'fxsr', 'sse', 'sse2', 'pni', 'syscall', 'nx', 'lm'],
]
const sse4 = ['ssse3', 'cx16', 'sse4.1', 'sse4.2', 'popcnt', 'lahf-lm']
const avx = [
  'xsave',
  'avx',
  'f16c',
  'fma',
  'movbe',
  'aes',
  'pclmulqdq',
  'rdrand',
  'bmi1',
  'bmi2',
  'avx2',
  'fsgsbase',
]

/** Models of QEMU by what they offer beyond `common`; a model that is not here may offer anything. */
const models: Readonly<Record<string, readonly string[]>> = {
  qemu64: ['cx16', 'lahf-lm', 'svm', 'hypervisor'],
  kvm64: ['cx16', 'hypervisor'],
  Nehalem: [...sse4, 'hypervisor'],
  max: [
    ...sse4,
    ...avx,
    'rdtscp',
    'smep',
    'smap',
    'pku',
    'la57',
    'mmxext',
    '3dnow',
    'svm',
    'monitor',
    'hypervisor',
  ],
}

const spelling: Readonly<Record<string, string>> = {
  sse3: 'pni',
  'sse4-1': 'sse4.1',
  sse4_1: 'sse4.1',
  'sse4-2': 'sse4.2',
  sse4_2: 'sse4.2',
  lahf_lm: 'lahf-lm',
  cmpxchg16b: 'cx16',
}
const canonical = (name: string) => spelling[name] ?? name

/** The features that the value of `-cpu` offers, or undefined for a model that is not known here. */
export function offeredFeatures(line: string): Set<string> | undefined {
  const [model, ...changes] = line.split(',') as [string, ...string[]]
  const base = models[model]
  if (base === undefined) return undefined
  const features = new Set([...common, ...base])
  for (const change of changes) {
    const match = /^([+-]?)([\w.-]+?)(?:=(on|off))?$/.exec(change)
    if (match === null) continue
    if (match[1] === '-' || match[3] === 'off') features.delete(canonical(match[2]!))
    else if (match[1] === '+' || match[3] === 'on') features.add(canonical(match[2]!))
  }
  return features
}

/** `line` with what is missing of `wanted` added. */
export function widenedLine(line: string, wanted: Iterable<string>): string {
  const offered = offeredFeatures(line)
  if (offered === undefined) return line
  const missing = [...wanted].map(canonical).filter(name => !offered.has(name))
  if (missing.length === 0) return line
  // A feature that the line takes away is given back by leaving that word out.
  const kept = line
    .split(',')
    .filter(word => !(word.startsWith('-') && missing.includes(canonical(word.slice(1)))))
  return [...kept, ...missing.map(name => `+${name}`)].join(',')
}
