/**
 * Numbers of Linux that are the same on x86-64 and aarch64 (include/uapi: asm-generic/signal.h,
 * asm-generic/resource.h, linux/time.h, linux/auxvec.h).
 */

const signalNames = (
  ' HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU ' +
  'URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'
).split(' ')

/** `SIGUSR2`, or `SIGRTMIN+3` for a real-time signal (32 and 33 belong to the C library). */
export function signalName(signal: number): string {
  if (signal >= 1 && signal <= 31) return `SIG${signalNames[signal]}`
  return signal >= 34 ? `SIGRTMIN+${signal - 34}` : `SIG${signal}`
}

/** The signals in a kernel mask (bit n-1 is signal n). */
export function signalsInMask(mask: bigint): string[] {
  const found: string[] = []
  for (let signal = 1; signal <= 64; signal++)
    if ((mask >> BigInt(signal - 1)) & 1n) found.push(signalName(signal))
  return found
}

/** Names of resource limits by RLIMIT_* number. */
export const limitNames =
  'cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime'.split(
    ' ',
  )

const clockNames: Readonly<Record<number, string>> = {
  0: 'REALTIME',
  1: 'MONOTONIC',
  2: 'PROCESS_CPUTIME',
  3: 'THREAD_CPUTIME',
  4: 'MONOTONIC_RAW',
  7: 'BOOTTIME',
  8: 'REALTIME_ALARM',
  9: 'BOOTTIME_ALARM',
  11: 'TAI',
}

/** The name without CLOCK_. */
export function clockName(clock: number): string {
  return clockNames[clock] ?? `clock ${clock}`
}

/** Types of the auxiliary vector that imago looks at. */
export const AT = {
  NULL: 0n,
  IGNORE: 1n,
  PHDR: 3n,
  PHENT: 4n,
  PHNUM: 5n,
  PAGESZ: 6n,
  BASE: 7n,
  ENTRY: 9n,
  PLATFORM: 15n,
  HWCAP: 16n,
  BASE_PLATFORM: 24n,
  RANDOM: 25n,
  HWCAP2: 26n,
  RSEQ_FEATURE_SIZE: 27n,
  RSEQ_ALIGN: 28n,
  HWCAP3: 29n,
  HWCAP4: 30n,
  EXECFN: 31n,
  SYSINFO_EHDR: 33n,
  MINSIGSTKSZ: 51n,
} as const
