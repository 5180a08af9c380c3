/**
 * The few calls of the C library that Node lacks and that files need: holes, in-kernel copies, names that change places, and locks.
 * koffi is loaded at the first call (about 10 ms), never at start-up.
 */
import { createRequire } from 'node:module'

interface FileCalls {
  /** lseek(2); -1 for an error (see `errno`). */
  lseek(fd: number, offset: number, whence: number): number
  /** copy_file_range(2) with in/out offsets; the bytes copied, or -1. */
  copyFileRange(
    from: number,
    fromOffset: [number],
    to: number,
    toOffset: [number],
    length: number,
    flags: 0,
  ): number
  /** renameat2(2) with flags; 0, or -1 for an error. */
  renameat2(fromFolder: number, from: string, toFolder: number, to: string, flags: number): number
  /** flock(2); 0, or -1 for an error. */
  flock(fd: number, operation: number): number
  errno(): number
}

let calls: FileCalls | undefined

export function fileCalls(): FileCalls {
  if (calls) return calls
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const library = koffi.load(null)
  calls = {
    lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)') as unknown as FileCalls['lseek'],
    copyFileRange: library.func(
      'int64_t copy_file_range(int from, _Inout_ int64_t *from_offset, int to, _Inout_ int64_t *to_offset, size_t length, unsigned int flags)',
    ) as unknown as FileCalls['copyFileRange'],
    renameat2: library.func(
      'int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags)',
    ) as unknown as FileCalls['renameat2'],
    flock: library.func('int flock(int fd, int operation)') as unknown as FileCalls['flock'],
    errno: () => koffi.errno(),
  }
  return calls
}

const LOCK_EX = 2
const LOCK_NB = 4

/** Locks an open file until it is closed. False: another open file has it. */
export function lockFile(fd: number): boolean {
  return fileCalls().flock(fd, LOCK_EX | LOCK_NB) === 0
}
