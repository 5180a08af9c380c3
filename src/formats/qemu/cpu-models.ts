/**
 * What QEMU's CPU models offer the guest beyond the base of every 64-bit CPU, those features included that TCG lacks and
 * KVM may have. `host` and versions such as `Haswell-v4` are not here. Source: QEMU 7.2, query-cpu-model-expansion.
 */
export const cpuModels: Readonly<Record<string, string>> = {
  Broadwell:
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap xsaveopt rdtscp lahf-lm abm 3dnowprefetch',
  'Broadwell-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap spec-ctrl xsaveopt rdtscp lahf-lm abm 3dnowprefetch',
  'Broadwell-noTSX':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid rdseed adx smap xsaveopt rdtscp lahf-lm abm 3dnowprefetch',
  'Broadwell-noTSX-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid rdseed adx smap spec-ctrl xsaveopt rdtscp lahf-lm abm 3dnowprefetch',
  'Cascadelake-Server':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl pku avx512vnni spec-ctrl ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  'Cascadelake-Server-noTSX':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl pku avx512vnni spec-ctrl arch-capabilities ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  Conroe: 'pni ssse3 hypervisor lahf-lm',
  Cooperlake:
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl pku avx512vnni spec-ctrl stibp arch-capabilities ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  core2duo: 'acpi ss pni monitor ssse3 cx16 hypervisor lahf-lm',
  Denverton:
    'pni pclmulqdq monitor ssse3 cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave rdrand hypervisor fsgsbase smep erms mpx rdseed smap clflushopt sha-ni spec-ctrl arch-capabilities ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm 3dnowprefetch',
  Dhyana:
    'pni monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt xsaveopt xsavec xgetbv1 mmxext fxsr-opt pdpe1gb rdtscp lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext',
  EPYC: 'pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 mmxext fxsr-opt pdpe1gb rdtscp lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext',
  'EPYC-IBPB':
    'pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 mmxext fxsr-opt pdpe1gb rdtscp lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext',
  'EPYC-Milan':
    'pni pclmulqdq monitor ssse3 fma cx16 pcid sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid rdseed adx smap clflushopt clwb sha-ni umip pku rdpid fsrm xsaveopt xsavec xgetbv1 xsaves mmxext fxsr-opt pdpe1gb rdtscp lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext perfctr-core',
  'EPYC-Rome':
    'pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt clwb sha-ni umip rdpid xsaveopt xsavec xgetbv1 xsaves mmxext fxsr-opt pdpe1gb rdtscp lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext perfctr-core',
  Haswell:
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm xsaveopt rdtscp lahf-lm abm',
  'Haswell-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm spec-ctrl xsaveopt rdtscp lahf-lm abm',
  'Haswell-noTSX':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid xsaveopt rdtscp lahf-lm abm',
  'Haswell-noTSX-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid spec-ctrl xsaveopt rdtscp lahf-lm abm',
  'Icelake-Server':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl avx512vbmi umip pku avx512vbmi2 gfni vaes vpclmulqdq avx512vnni avx512bitalg avx512-vpopcntdq la57 spec-ctrl ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  'Icelake-Server-noTSX':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl avx512vbmi umip pku avx512vbmi2 gfni vaes vpclmulqdq avx512vnni avx512bitalg avx512-vpopcntdq la57 spec-ctrl ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  IvyBridge:
    'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase smep erms xsaveopt rdtscp lahf-lm',
  'IvyBridge-IBRS':
    'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase smep erms spec-ctrl xsaveopt rdtscp lahf-lm',
  KnightsMill:
    'ss pni pclmulqdq ssse3 fma cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms avx512f rdseed adx avx512pf avx512er avx512cd avx512-vpopcntdq avx512-4vnniw avx512-4fmaps xsaveopt pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  kvm64: 'pni cx16 hypervisor',
  max: 'acpi ss pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms mpx adx smap pcommit clflushopt clwb umip pku vaes la57 pks xsaveopt xgetbv1 mmxext pdpe1gb rdtscp 3dnowext 3dnow lahf-lm svm cr8legacy abm sse4a',
  Nehalem: 'pni ssse3 cx16 sse4.1 sse4.2 popcnt hypervisor lahf-lm',
  'Nehalem-IBRS': 'pni ssse3 cx16 sse4.1 sse4.2 popcnt hypervisor spec-ctrl lahf-lm',
  Opteron_G1: 'pni hypervisor',
  Opteron_G2: 'pni cx16 hypervisor lahf-lm svm',
  Opteron_G3: 'pni monitor cx16 popcnt hypervisor rdtscp lahf-lm svm abm sse4a misalignsse',
  Opteron_G4:
    'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes xsave avx hypervisor pdpe1gb rdtscp lahf-lm svm abm sse4a misalignsse 3dnowprefetch xop fma4',
  Opteron_G5:
    'pni pclmulqdq ssse3 fma cx16 sse4.1 sse4.2 popcnt aes xsave avx f16c hypervisor pdpe1gb rdtscp lahf-lm svm abm sse4a misalignsse 3dnowprefetch xop fma4 tbm',
  Penryn: 'pni ssse3 cx16 sse4.1 hypervisor lahf-lm',
  phenom:
    'pni monitor cx16 popcnt hypervisor mmxext fxsr-opt pdpe1gb rdtscp 3dnowext 3dnow lahf-lm svm abm sse4a',
  qemu64: 'pni cx16 hypervisor lahf-lm svm',
  SandyBridge:
    'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx hypervisor xsaveopt rdtscp lahf-lm',
  'SandyBridge-IBRS':
    'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx hypervisor spec-ctrl xsaveopt rdtscp lahf-lm',
  'Skylake-Client':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap xsaveopt xsavec xgetbv1 rdtscp lahf-lm abm 3dnowprefetch',
  'Skylake-Client-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap spec-ctrl xsaveopt xsavec xgetbv1 rdtscp lahf-lm abm 3dnowprefetch',
  'Skylake-Client-noTSX-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid rdseed adx smap spec-ctrl xsaveopt xsavec xgetbv1 rdtscp lahf-lm abm 3dnowprefetch',
  'Skylake-Server':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl pku xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  'Skylake-Server-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clwb avx512cd avx512bw avx512vl pku spec-ctrl xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  'Skylake-Server-noTSX-IBRS':
    'pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap clwb avx512cd avx512bw avx512vl pku spec-ctrl xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm abm 3dnowprefetch',
  Snowridge:
    'pni pclmulqdq monitor ssse3 cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave rdrand hypervisor fsgsbase smep erms mpx rdseed smap clflushopt clwb sha-ni umip gfni cldemote movdiri movdir64b spec-ctrl arch-capabilities core-capability ssbd xsaveopt xsavec xgetbv1 pdpe1gb rdtscp lahf-lm 3dnowprefetch',
  Westmere: 'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes hypervisor lahf-lm',
  'Westmere-IBRS': 'pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes hypervisor spec-ctrl lahf-lm',
}
