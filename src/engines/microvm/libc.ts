/**
 * The few calls of the host's C library that a monitor needs, through koffi. Everything goes through
 * syscall(2), so that a result is ≥ 0 or a negated errno, as the kernel itself returns it.
 * The numbers are those of x86-64: both engines run on x86-64 hosts.
 */
import koffi from 'koffi'
import { HostError } from '../../lib/errors.js'

const libc = koffi.load('libc.so.6')

const rawSyscall = libc.func(
  'int64_t syscall(int64_t nr, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f)',
)

export type Word = number | bigint | Uint8Array

/** Address of the first byte of an array that lives outside the JavaScript heap's moving part (Buffers do not move). */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes)
}

/** One system call of the host. Byte arrays are passed by address. Returns the result, or minus errno. */
export function hostCall(
  nr: number,
  a: Word = 0,
  b: Word = 0,
  c: Word = 0,
  d: Word = 0,
  e: Word = 0,
  f: Word = 0,
): number {
  const result = rawSyscall(nr, word(a), word(b), word(c), word(d), word(e), word(f)) as number | bigint
  return Number(result) === -1 ? -koffi.errno() : Number(result)
}

const siginterrupt = libc.func('int siginterrupt(int signal, int interrupt)')

/** Waiting system calls end with EINTR when this signal comes, whatever its handler was installed with. */
export function interruptCalls(signal: number): void {
  siginterrupt(signal, 1)
}

function word(value: Word): number | bigint {
  return typeof value === 'object' ? addressOf(value) : value
}

/** NUL-terminated bytes of a path or name. */
export function cPath(path: string): Buffer {
  return Buffer.from(`${path}\0`, 'latin1')
}

/** Bytes at an address of this process, not a copy. Valid until the mapping goes: touching it later is fatal. */
export function viewOf(address: bigint, length: number): Buffer {
  return Buffer.from(koffi.view(address, length) as ArrayBuffer)
}

/** Memory of this process that JavaScript sees, too: `address` is that of the first byte of `buffer`. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer
  readonly address: bigint
}

declare const WebAssembly: {
  Memory: new (size: {
    initial: number
    maximum: number
    shared: true
  }) => { readonly buffer: SharedArrayBuffer }
}
const WASM_PAGE = 1 << 16

/**
 * At least `size` bytes of zeros (up to 4 GiB), at addresses over which other things may be mapped.
 * It is a memory of WebAssembly for two reasons: all threads may have its buffer, and the garbage collector does not count its
 * size. (A `viewOf` as much counts as part of the JavaScript heap, and sets off collections that take milliseconds.)
 * V8 unmaps the addresses, whatever lies there then, when nobody has the buffer any more. @throws HostError
 */
export function allocateShared(size: number): SharedMemory {
  const pages = Math.ceil(size / WASM_PAGE)
  try {
    const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    return { buffer, address: addressOf(new Uint8Array(buffer)) }
  } catch (cause) {
    throw new HostError(`${size} bytes of memory cannot be had`, {
      found: (cause as Error).message,
      hint: 'V8 reserves 10 GiB of addresses for them: look at ulimit -v',
    })
  }
}

/** System calls of the host, by their names (x86-64). */
export const NR = {
  read: 0,
  write: 1,
  close: 3,
  fstat: 5,
  poll: 7,
  lseek: 8,
  mmap: 9,
  mprotect: 10,
  munmap: 11,
  ioctl: 16,
  pread64: 17,
  pwrite64: 18,
  readv: 19,
  writev: 20,
  madvise: 28,
  dup: 32,
  nanosleep: 35,
  getpid: 39,
  fcntl: 72,
  flock: 73,
  truncate: 76,
  ftruncate: 77,
  chmod: 90,
  umask: 95,
  getuid: 102,
  fstatfs: 138,
  gettid: 186,
  epollCtl: 233,
  tgkill: 234,
  unshare: 272,
  timerfdCreate: 283,
  timerfdSettime: 286,
  timerfdGettime: 287,
  eventfd2: 290,
  epollCreate1: 291,
  pipe2: 293,
  preadv: 295,
  pwritev: 296,
  openat2: 437,
} as const

export const PROT_READ = 1
export const PROT_WRITE = 2
export const PROT_EXEC = 4
export const MAP_SHARED = 1
export const MAP_PRIVATE = 2
export const MAP_FIXED = 0x10
export const MAP_ANONYMOUS = 0x20
export const MAP_NORESERVE = 0x4000

/** mmap(2). Returns the address. @throws Error with the errno. */
export function mapMemory(
  address: bigint,
  length: number,
  prot: number,
  flags: number,
  fd = -1,
  offset = 0,
): bigint {
  const result = rawSyscall(NR.mmap, address, length, prot, flags, BigInt.asUintN(64, BigInt(fd)), offset) as
    | number
    | bigint
  if (Number(result) === -1) throw new Error(`mmap of ${length} bytes: errno ${koffi.errno()}`)
  return BigInt(result)
}
