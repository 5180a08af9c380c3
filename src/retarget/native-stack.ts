/**
 * The native stack a thread needs on the target, rebuilt from its shadow frames alone: return addresses and frame
 * records; all else in it is dead at a migration point (`src/toolchain/program.ts` draws one frame).
 *
 *   top (16-byte aligned)      CFA of the outermost frame
 *   top - record               { 0, address of __imago_leave }       outermost: main, or a thread's function
 *   …                          { frame pointer, return address }     one record a frame
 *   CFA - size of the innermost                                      stack pointer when the thread goes on
 */
import { UnreadableError } from '../lib/errors.js'
import type { Address, Memory } from '../model/memory.js'
import type { IsaName } from '../model/process.js'
import type { MigratableFunction, ProgramDescription, Site } from '../toolchain/program.js'

export interface ShadowFrame {
  readonly address: Address
  readonly site: Site
  readonly function: MigratableFunction
}

/** A recursion deeper than this is taken for a damaged stack. */
const LIMIT_FRAMES = 4_000_000

/**
 * The frames from the shadow pointer up to the base, innermost first.
 * @throws UnreadableError when a frame's site is unknown or the frames do not end exactly at the base.
 */
export function walkShadowFrames(
  memory: Memory,
  pointer: Address,
  base: Address,
  program: ProgramDescription,
): ShadowFrame[] {
  const frames: ShadowFrame[] = []
  const damaged = (message: string, address: Address, found: string) =>
    new UnreadableError(`the shadow stack is damaged: ${message}`, {
      address,
      found,
      hint: 'was the image made of this program, and stopped at a migration point?',
    })
  if (pointer > base || base - pointer > 1n << 40n)
    throw damaged('its pointer is not below its base', pointer, `base 0x${base.toString(16)}`)
  const reader = new WordReader(memory)
  for (let at = pointer; at < base; ) {
    const id = reader.read(at)
    const site = id <= BigInt(Number.MAX_SAFE_INTEGER) ? program.sites.get(Number(id)) : undefined
    if (site === undefined) throw damaged('a frame names no site of the program', at, `site ${id}`)
    const owner = program.functions[site.function]!
    frames.push({ address: at, site, function: owner })
    if (frames.length > LIMIT_FRAMES) throw damaged('too many frames', at, `${frames.length}`)
    at += BigInt(owner.shadowSize)
    if (at > base) throw damaged('its last frame goes beyond its base', at, `base 0x${base.toString(16)}`)
  }
  return frames
}

export interface NativeStack {
  /** Address of the first of `bytes`, which end at the top. */
  readonly start: Address
  readonly bytes: Uint8Array
  readonly stackPointer: Address
  readonly framePointer: Address
  readonly programCounter: Address
}

/** Bytes that the frames take on `isa`. */
export function nativeStackSize(frames: readonly ShadowFrame[], isa: IsaName): number {
  return frames.reduce((sum, frame) => sum + frame.function.frame[isa].size, 0)
}

/** Lays the frames out below `top`; the outermost returns to `leave`. There must be one at least. */
export function buildNativeStack(
  frames: readonly ShadowFrame[],
  isa: IsaName,
  top: Address,
  leave: Address,
): NativeStack {
  const size = nativeStackSize(frames, isa)
  const start = top - BigInt(size)
  const bytes = new Uint8Array(size)
  const view = new DataView(bytes.buffer)
  let canonicalFrame = size
  let framePointer = 0n
  let returnAddress = leave
  for (let i = frames.length - 1; i >= 0; i--) {
    const frame = frames[i]!
    const layout = frame.function.frame[isa]
    const record = canonicalFrame - layout.record
    view.setBigUint64(record, framePointer, true)
    view.setBigUint64(record + 8, returnAddress, true)
    framePointer = start + BigInt(record)
    returnAddress = frame.site.returnAddress[isa]
    canonicalFrame -= layout.size
  }
  return { start, bytes, stackPointer: start, framePointer, programCounter: returnAddress }
}

/** Words of memory read through one block, so that a deep stack costs a read a block and not one a frame. */
class WordReader {
  static readonly #size = 65536
  readonly #memory: Memory
  #start = 0n
  #block: DataView = new DataView(new ArrayBuffer(0))

  constructor(memory: Memory) {
    this.#memory = memory
  }

  read(address: Address): bigint {
    const at = address - this.#start
    if (at >= 0n && at + 8n <= BigInt(this.#block.byteLength))
      return this.#block.getBigUint64(Number(at), true)
    const bytes = this.#memory.tryRead(address, WordReader.#size) ?? this.#memory.read(address, 8)
    this.#start = address
    this.#block = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    return this.#block.getBigUint64(0, true)
  }
}
