/**
 * What a CPU offers a program beyond the x86-64 baseline, by the names of /proc/cpuinfo, and which of it a program may
 * have chosen its code by. A C library asks once, when the program starts, and its choice goes with the program: so a
 * program goes on only where the CPU can do as much, and it must not be moved between two CPUs while it is asking.
 */
import fs from 'node:fs'
import type { Guest } from './guest.js'
import type { EngineName } from './messages.js'
import { cpuTime } from './timers.js'

/** Those by which C libraries and compilers choose code. */
const chosenBy = new Set(
  (
    'ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand abm avx2 bmi1 bmi2 erms fsrm adx sha_ni ' +
    'avx512f avx512dq avx512bw avx512vl avx512cd avx512vbmi gfni vaes vpclmulqdq'
  ).split(' '),
)

/** What CPUID says in libunicorn 2.0, whatever the host has. */
const ofUnicorn = ['abm', 'adx', 'aes', 'bmi1', 'bmi2', 'cx16', 'sse4_1', 'sse4_2', 'ssse3']

/** KVM shows the host's CPU: nested PVM does so even when it is told to hide something. */
export function cpuFeaturesOf(engine: EngineName): readonly string[] {
  if (engine === 'unicorn') return ofUnicorn
  const flags = /^flags\s*:(.*)$/m.exec(fs.readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  return flags
    .split(' ')
    .filter(flag => chosenBy.has(flag))
    .sort()
}

/** So much CPU time a program may use before it has chosen: a start takes milliseconds. */
const LONGEST_START_NS = 1_000_000_000n

/**
 * False while a program of glibc may still be asking what the CPU can do. In its start-up (csu/libc-start.c) CPU features
 * and the functions chosen by them (IRELATIVE relocations) come before thread-local storage, and that sets the FS base.
 */
export function hasChosenItsCode(guest: Guest): boolean {
  return !guest.process.boundToCpu || guest.cpu.fsBase !== 0n || cpuTime(guest) > LONGEST_START_NS
}
