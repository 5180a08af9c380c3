/** The few calls of the C library that Node does not offer. Loaded when first called: koffi costs some milliseconds. */
import { createRequire } from 'node:module'

type Koffi = typeof import('koffi')
type Call = (...values: unknown[]) => number

let koffi: Koffi | undefined
const functions = new Map<string, Call>()

function call(prototype: string, ...values: unknown[]): number {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi
  let known = functions.get(prototype)
  if (known === undefined) {
    known = koffi.load('libc.so.6').func(prototype) as unknown as Call
    functions.set(prototype, known)
  }
  return known(...values)
}

/** sigqueue(3). Returns 0, or the errno. */
export function queueSignal(pid: number, signal: number, value: bigint): number {
  return call('int sigqueue(int pid, int signal, uint64_t value)', pid, signal, value) === 0
    ? 0
    : koffi!.errno()
}

/** rt_tgsigqueueinfo(2) for the first thread of a process: only that one may take the signal. Returns 0, or the errno. */
export function queueSignalToFirstThread(pid: number, signal: number, value: bigint): number {
  const RT_TGSIGQUEUEINFO = process.arch === 'arm64' ? 240 : 297
  const SI_QUEUE = -1
  const info = Buffer.alloc(128) // siginfo_t: signal, errno, code, (padding,) pid, uid, value
  info.writeInt32LE(signal, 0)
  info.writeInt32LE(SI_QUEUE, 8)
  info.writeInt32LE(process.pid, 16)
  info.writeUInt32LE(process.getuid!(), 20)
  info.writeBigUInt64LE(value, 24)
  const prototype = 'long syscall(long number, long process, long thread, long signal, void *info)'
  return call(prototype, RT_TGSIGQUEUEINFO, pid, pid, signal, info) === 0 ? 0 : koffi!.errno()
}

/** pidfd_open(2): a descriptor by which {@link exitStatus} knows this process, also when it is gone; undefined where there is none. */
export function holdProcess(pid: number): number | undefined {
  const PIDFD_OPEN = 434 // on every ISA
  const fd = call('long syscall(long number, long pid, long flags)', PIDFD_OPEN, pid, 0)
  return fd < 0 ? undefined : fd
}

/** As wait(2) has it, of a process that somebody has waited for; undefined before, and where Linux is older than 6.15. Source: linux/pidfd.h. */
export function exitStatus(held: number): number | undefined {
  const PIDFD_GET_INFO = 0xc040ff0b
  const PIDFD_INFO_EXIT = 8n
  const EXIT_CODE = 60
  const info = Buffer.alloc(64) // struct pidfd_info: mask, cgroup, eleven ids, exit code
  info.writeBigUInt64LE(PIDFD_INFO_EXIT)
  const done = call('int ioctl(int fd, unsigned long request, void *info)', held, PIDFD_GET_INFO, info) === 0
  return done && (info.readBigUInt64LE() & PIDFD_INFO_EXIT) !== 0n ? info.readInt32LE(EXIT_CODE) : undefined
}

/** Gives this process, and what it starts, the limit of open files that it was started with. */
function restoreOpenFileLimit(value: string | undefined): void {
  const RLIMIT_NOFILE = 7
  if (value === undefined || !/^\d+ \d+$/.test(value)) return
  const limits = new BigUint64Array(value.split(' ').map(BigInt))
  call('int setrlimit(int resource, const uint64_t *limits)', RLIMIT_NOFILE, limits)
}

/**
 * Undoes what Node has done to what a program inherits: takes what the launcher `imago` noted before Node began out of the environment, gives the
 * limit of open files back, and returns the inherited descriptors above the standard streams.
 */
export function takeInheritance(): readonly number[] {
  const { IMAGO_INHERITED: files = '', IMAGO_OPEN_FILES: limit } = process.env
  delete process.env.IMAGO_INHERITED
  delete process.env.IMAGO_OPEN_FILES
  restoreOpenFileLimit(limit)
  return files
    .split(' ')
    .filter(Boolean)
    .map(Number)
    .filter(fd => Number.isInteger(fd) && fd > 2)
}

/**
 * execve(2): becomes `file`. Returns the errno only when it fails. What Node did to itself and the program would inherit is
 * undone first: ignored signals, `inherited` descriptors and standard streams closed on exec.
 */
export function becomeProgram(
  file: string,
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  inherited: readonly number[],
): number {
  const F_SETFD = 2
  const SIGPIPE = 13
  const SIGXFSZ = 25
  for (const signal of [SIGPIPE, SIGXFSZ]) call('intptr_t signal(int number, intptr_t handler)', signal, 0)
  // Node marks all descriptors close-on-exec when it starts.
  for (const fd of [0, 1, 2, ...inherited]) call('int fcntl(int fd, int command, int flags)', fd, F_SETFD, 0)
  const variables = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  )
  call(
    'int execve(const char *file, const char **words, const char **variables)',
    file,
    [...words, null],
    [...variables, null],
  )
  return koffi!.errno()
}
