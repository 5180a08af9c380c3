/**
 * zstd (RFC 8878) through the system's libzstd: Node 20 has none of its own. Files are streamed in blocks, holes
 * come back as holes. The result appears whole or not at all.
 */
import fs from 'node:fs'
import { createRequire } from 'node:module'
import { writeFileAtomically, writeFully } from './atomic-file.js'
import { isZero } from './bytes.js'
import { HostError, UnreadableError } from './errors.js'
import { isZstdFrame } from './zstd-magic.js'

const BLOCK = 4 * 1024 * 1024
const PAGE = 4096
const LEVEL = 3
/** ZSTD_cParameter and ZSTD_EndDirective of zstd.h. */
const COMPRESSION_LEVEL = 100
const CHECKSUM_FLAG = 201
const CONTINUE = 0
const END = 2

type Call = (...values: unknown[]) => unknown
type Koffi = typeof import('koffi')

/** ZSTD_inBuffer and ZSTD_outBuffer: pointer, size, position. */
class Window {
  readonly bytes = Buffer.alloc(BLOCK)
  readonly struct = Buffer.alloc(24)

  constructor(address: bigint) {
    this.struct.writeBigUInt64LE(address, 0)
  }
  set(size: number): void {
    this.struct.writeBigUInt64LE(BigInt(size), 8)
    this.struct.writeBigUInt64LE(0n, 16)
  }
  get size(): number {
    return Number(this.struct.readBigUInt64LE(8))
  }
  get position(): number {
    return Number(this.struct.readBigUInt64LE(16))
  }
}

class Zstd {
  readonly #koffi = createRequire(import.meta.url)('koffi') as Koffi
  readonly #library: ReturnType<Koffi['load']>
  readonly #functions = new Map<string, Call>()

  constructor() {
    try {
      this.#library = this.#koffi.load('libzstd.so.1')
    } catch (cause) {
      throw new HostError('libzstd.so.1 is not there', { cause, hint: 'apt-get install libzstd1' })
    }
  }

  call(prototype: string, ...values: unknown[]): unknown {
    let known = this.#functions.get(prototype)
    if (known === undefined) {
      known = this.#library.func(prototype) as unknown as Call
      this.#functions.set(prototype, known)
    }
    return known(...values)
  }

  /**
   * What a call returned, when that is no error: errors are the last values of size_t, which a number cannot hold.
   * @throws UnreadableError with the library's words when it is one.
   */
  check(result: unknown, file: string): number {
    if (this.call('uint ZSTD_isError(size_t code)', result) !== 0) {
      const found = String(this.call('const char *ZSTD_getErrorName(size_t code)', result))
      throw new UnreadableError('damaged: not a whole zstd file', { file, found })
    }
    return Number(result)
  }

  context(prototype: string): unknown {
    return this.#library.func(prototype)()
  }

  window(): Window {
    const window = new Window(0n)
    window.struct.writeBigUInt64LE(BigInt(this.#koffi.address(window.bytes) as bigint | number), 0)
    return window
  }
}

/** True when the file begins with zstd's magic. */
export function isZstd(file: string): boolean {
  const head = Buffer.alloc(4)
  try {
    const fd = fs.openSync(file, 'r')
    try {
      return fs.readSync(fd, head, 0, 4, 0) === 4 && isZstdFrame(head)
    } finally {
      fs.closeSync(fd)
    }
  } catch {
    return false
  }
}

/** Writes `target` as one zstd frame of `source`, with a checksum. */
export function compressFile(source: string, target: string): void {
  const zstd = new Zstd()
  const context = zstd.context('void *ZSTD_createCCtx(void)')
  const parameter = 'size_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)'
  zstd.call(parameter, context, COMPRESSION_LEVEL, LEVEL)
  zstd.call(parameter, context, CHECKSUM_FLAG, 1)
  const step = 'size_t ZSTD_compressStream2(void *context, void *output, void *input, int end)'
  const input = zstd.window()
  const output = zstd.window()
  const from = fs.openSync(source, 'r')
  try {
    writeFileAtomically(target, fd => {
      let written = 0
      for (let last = false; !last; ) {
        const count = fs.readSync(from, input.bytes, 0, BLOCK, null)
        last = count === 0
        input.set(count)
        for (let left = 1; last ? left !== 0 : input.position < input.size; ) {
          output.set(BLOCK)
          left = zstd.check(
            zstd.call(step, context, output.struct, input.struct, last ? END : CONTINUE),
            source,
          )
          writeFully(fd, output.bytes.subarray(0, output.position), written)
          written += output.position
        }
      }
    })
  } finally {
    fs.closeSync(from)
    zstd.call('size_t ZSTD_freeCCtx(void *context)', context)
  }
}

/** Unpacks one zstd file. Pages of zeros become holes. @throws UnreadableError when it is damaged or cut short. */
export function decompressFile(source: string, target: string): void {
  const zstd = new Zstd()
  const context = zstd.context('void *ZSTD_createDCtx(void)')
  const step = 'size_t ZSTD_decompressStream(void *context, void *output, void *input)'
  const input = zstd.window()
  const output = zstd.window()
  const from = fs.openSync(source, 'r')
  try {
    writeFileAtomically(target, fd => {
      let written = 0
      let left = 1
      for (;;) {
        const count = fs.readSync(from, input.bytes, 0, BLOCK, null)
        if (count === 0) break
        input.set(count)
        do {
          output.set(BLOCK)
          left = zstd.check(zstd.call(step, context, output.struct, input.struct), source)
          writeSparsely(fd, output.bytes.subarray(0, output.position), written)
          written += output.position
        } while (input.position < input.size || output.position === BLOCK)
      }
      if (left !== 0) throw new UnreadableError('truncated: the zstd file ends too early', { file: source })
      fs.ftruncateSync(fd, written)
    })
  } finally {
    fs.closeSync(from)
    zstd.call('size_t ZSTD_freeDCtx(void *context)', context)
  }
}

/** Writes runs of pages that are not all zeros; what is left out stays a hole. */
function writeSparsely(fd: number, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length; ) {
    let end = at
    while (end < bytes.length && !isZero(bytes.subarray(end, Math.min(end + PAGE, bytes.length)))) end += PAGE
    end = Math.min(end, bytes.length)
    if (end > at) writeFully(fd, bytes.subarray(at, end), offset + at)
    at = end > at ? end : at + PAGE
  }
}
