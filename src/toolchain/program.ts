/**
 * What `imago cc` tells the rest of imago about a program that can change its ISA: `PROG.imago.json` beside
 * `PROG_x86-64` and `PROG_aarch64`. The contract between the compiler, the runtime in both binaries, and `retarget`.
 *
 * **Frames.** Both stacks grow down. CFA is the stack pointer before the call that made the frame (DWARF's word).
 * At a migration point in a function with `FrameLayout {size, record}` of an ISA:
 *
 *   CFA            caller's frame begins above
 *   CFA - record   the frame record: { caller's frame pointer, return address into the caller }; the frame pointer
 *                  (rbp, x29) holds this address. x86-64: record is 16, always
 *   CFA - size     stack pointer right before and right after the call of the migration point; the CFA of what it calls
 *
 * **Shadow frames.** Innermost first, from the thread's shadow pointer up to its shadow base:
 * `{ i64 site id, live slots…, locals… }`, `shadowSize` bytes each.
 *
 * **The runtime** (names in `runtimeSymbols`), same addresses in both binaries:
 * - `thread` is thread-local, `{ u64 shadow pointer, u64 shadow base, u64 parked, u64 reserved }`; `parked` is 1 while the
 *   thread waits in the runtime with its shadow frames complete.
 * - `request` is the word that polls test; `parkedCount` counts parked threads, `threadCount` all of them. The first two are 0
 *   in a program that goes on.
 * - `leave` is code: what the outermost function returns to. It takes the result from rax or x0 and ends the thread
 *   (or, for main, the program).
 * - `identity` is 32 bytes in bss that the start-up fills with the description's `identity`: it goes into every image, and tells
 *   an image of an older build.
 * - `joinable` leads to a list `{ next, pthread_t }` of the threads that may still be joined, ended ones among them: their
 *   records are the only ones that no thread of the image leads to.
 * - `struct pthread` of a thread (musl's `pthread_t`) is at the same address on both ISAs. x86-64 keeps the thread-local
 *   segment below it and aarch64 above it, so the runtime's own start-up leaves room on both sides.
 *   The program's own thread-local variables are not in that segment: they lie above the shadow base (thread-locals.ts).
 * - argv, environ and what they point to are copied off the kernel's stack before main begins, so the stack may move; and
 *   mmap without an address takes one from `portableWindow`, free on both ISAs and under an emulator, so nothing else
 *   ever has to.
 */
import fs from 'node:fs'
import path from 'node:path'
import { UnreadableError } from '../lib/errors.js'
import type { IsaName } from '../model/process.js'

export const PROGRAM_SCHEMA = 1
export const isaNames: readonly IsaName[] = ['x86-64', 'aarch64']

/** A value for each ISA. */
export function perIsa<T>(value: (isa: IsaName) => T): Record<IsaName, T> {
  return Object.fromEntries(isaNames.map(isa => [isa, value(isa)])) as Record<IsaName, T>
}

/** What the program's `main` is called in the binaries, where the runtime has its own (native/runtime/start.c). */
export const USER_MAIN = '__imago_user_main'

/** Names of the runtime's symbols in both binaries. */
export const runtimeSymbols = {
  thread: '__imago_thread',
  request: '__imago_request',
  parkedCount: '__imago_parked',
  threadCount: '__imago_threads',
  leave: '__imago_leave',
  identity: '__imago_identity',
  joinable: '__imago_joinable',
  /** Of the checkpointer (native/common/resume.h). */
  resumeBlock: 'imago_resume_block',
} as const

/** Where the runtime lets mmap choose, [start, end): below the end of both ISAs' user space, above any heap. */
export const portableWindow = { start: 0x1000_0000_0000n, end: 0x4000_0000_0000n } as const

export interface FrameLayout {
  /** CFA minus the stack pointer at a call, in bytes. */
  readonly size: number
  /** CFA minus the address of the frame record. */
  readonly record: number
}

export interface MigratableFunction {
  readonly name: string
  /** Bytes of its shadow frame. */
  readonly shadowSize: number
  readonly frame: Readonly<Record<IsaName, FrameLayout>>
}

export interface Site {
  /** As the code stores it at the start of a shadow frame. Never 0. */
  readonly id: number
  /** Index into `functions`. */
  readonly function: number
  /** Where the call of this site returns to. */
  readonly returnAddress: Readonly<Record<IsaName, bigint>>
  /** `file.c:12`, where known. */
  readonly source?: string
}

export interface ProgramBinary {
  /** Absolute path. */
  readonly path: string
  /** SHA-256 of the file, lower-case hexadecimal. */
  readonly sha256: string
}

export interface ProgramDescription {
  /** Absolute path of the description itself. */
  readonly path: string
  readonly name: string
  /** 32 bytes, new for each build, as lower-case hexadecimal. */
  readonly identity: string
  readonly binaries: Readonly<Record<IsaName, ProgramBinary>>
  readonly functions: readonly MigratableFunction[]
  readonly sites: ReadonlyMap<number, Site>
}

/** More than any program has; a description that claims more is no description. */
const LIMIT_ENTRIES = 1 << 22
const LIMIT_FRAME = 1 << 30

/** @throws UnreadableError when the file is missing, no JSON, or does not describe a program. */
export function readProgram(file: string): ProgramDescription {
  let parsed: unknown
  try {
    parsed = JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (error) {
    throw new UnreadableError(`cannot read the description of the program: ${(error as Error).message}`, {
      file,
      hint: 'imago cc writes it beside the binaries; keep them together',
      cause: error,
    })
  }
  return describeProgram(parsed, path.resolve(file))
}

/** Checks the shape of a parsed description. Paths of binaries are relative to its folder. */
export function describeProgram(value: unknown, file: string): ProgramDescription {
  const check = new Checker(file)
  const top = check.object(value, 'the description')
  if (top.schema !== PROGRAM_SCHEMA)
    throw new UnreadableError('a description of another version', {
      file,
      found: String(top.schema),
      expected: PROGRAM_SCHEMA,
      hint: 'compile the program again with this imago',
    })
  const folder = path.dirname(file)
  const functions = check.array(top.functions, 'functions').map((entry, i) => {
    const where = `functions[${i}]`
    const item = check.object(entry, where)
    return {
      name: check.text(item.name, `${where}.name`),
      shadowSize: check.frameSize(item.shadowSize, `${where}.shadowSize`),
      frame: check.perIsa(item.frame, `${where}.frame`, (frame, at) => {
        const layout = check.object(frame, at)
        const size = check.frameSize(layout.size, `${at}.size`)
        const record = check.frameSize(layout.record, `${at}.record`)
        if (record < 16 || record > size || size % 16 !== 0)
          check.fail(`${at} is no frame layout`, `size ${size}, record ${record}`)
        return { size, record }
      }),
    }
  })
  const sites = new Map<number, Site>()
  for (const [i, entry] of check.array(top.sites, 'sites').entries()) {
    const where = `sites[${i}]`
    const item = check.object(entry, where)
    const id = check.integer(item.id, `${where}.id`, 1, Number.MAX_SAFE_INTEGER)
    if (sites.has(id)) check.fail(`site ${id} is described twice`, where)
    sites.set(id, {
      id,
      function: check.integer(item.function, `${where}.function`, 0, functions.length - 1),
      returnAddress: check.perIsa(item.returnAddress, `${where}.returnAddress`, (address, at) =>
        check.address(address, at),
      ),
      ...(item.source === undefined ? {} : { source: check.text(item.source, `${where}.source`) }),
    })
  }
  return {
    path: file,
    name: check.text(top.name, 'name'),
    identity: check.hash(top.identity, 'identity'),
    binaries: check.perIsa(top.binaries, 'binaries', (binary, at) => {
      const item = check.object(binary, at)
      return {
        path: path.resolve(folder, check.text(item.path, `${at}.path`)),
        sha256: check.hash(item.sha256, `${at}.sha256`),
      }
    }),
    functions,
    sites,
  }
}

/** One complaint a shape that is not as it should be, naming the place. */
class Checker {
  readonly #file: string

  constructor(file: string) {
    this.#file = file
  }

  fail(message: string, found: string): never {
    throw new UnreadableError(`the description of the program is damaged: ${message}`, {
      file: this.#file,
      found,
      hint: 'compile the program again with imago cc',
    })
  }

  object(value: unknown, where: string): Record<string, unknown> {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      this.fail(`${where} is no object`, String(value))
    return value as Record<string, unknown>
  }

  array(value: unknown, where: string): readonly unknown[] {
    if (!Array.isArray(value) || value.length > LIMIT_ENTRIES)
      this.fail(`${where} is no list`, Array.isArray(value) ? `${value.length} entries` : String(value))
    return value
  }

  text(value: unknown, where: string): string {
    if (typeof value !== 'string' || value === '') this.fail(`${where} is no text`, String(value))
    return value
  }

  hash(value: unknown, where: string): string {
    if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value))
      this.fail(`${where} is no 32 bytes in hexadecimal`, String(value))
    return value
  }

  integer(value: unknown, where: string, least: number, most: number): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
      this.fail(`${where} is not between ${least} and ${most}`, String(value))
    return value
  }

  frameSize(value: unknown, where: string): number {
    const size = this.integer(value, where, 8, LIMIT_FRAME)
    if (size % 8 !== 0) this.fail(`${where} is no multiple of 8`, String(size))
    return size
  }

  address(value: unknown, where: string): bigint {
    if (typeof value !== 'string' || !/^0x[0-9a-f]{1,16}$/.test(value))
      this.fail(`${where} is no address`, String(value))
    return BigInt(value)
  }

  perIsa<T>(value: unknown, where: string, read: (item: unknown, at: string) => T): Record<IsaName, T> {
    const item = this.object(value, where)
    return Object.fromEntries(isaNames.map(isa => [isa, read(item[isa], `${where}.${isa}`)])) as Record<
      IsaName,
      T
    >
  }
}
