/** What this host's CPU offers a program beyond the x86-64 baseline, by the names of /proc/cpuinfo. */
import fs from 'node:fs'

/** Those by which C libraries and compilers choose code. */
const chosenBy = new Set(
  (
    'ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand abm avx2 bmi1 bmi2 erms fsrm adx sha_ni ' +
    'avx512f avx512dq avx512bw avx512vl avx512cd avx512vbmi gfni vaes vpclmulqdq'
  ).split(' '),
)

export function hostCpuFeatures(): string[] {
  const flags = /^flags\s*:(.*)$/m.exec(fs.readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  return flags
    .split(' ')
    .filter(flag => chosenBy.has(flag))
    .sort()
}
