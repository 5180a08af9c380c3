/**
 * The stack that the kernel gave the program: its upper part (argc, the pointers, the auxiliary vector, the strings) is kept,
 * the frames below it are built anew. It moves to a place that exists on both ISAs (and under an emulator) when it
 * lies elsewhere; pointers into it that the C library keeps move along. The program itself holds none: the runtime copied argv and
 * environ before main began.
 *
 *   start                      startStack                                               end
 *   [ room to grow │ new frames ][ argc │ argv… 0 │ envp… 0 │ auxv… │ strings, random bytes ]
 */
import { alignDownBig } from '../lib/bytes.js'
import { LossError, UnreadableError } from '../lib/errors.js'
import { type Address, type Extent, type Memory, PAGE_SIZE_BIG } from '../model/memory.js'
import type { AddressSpaceLayout, Mapping } from '../model/process.js'
import { portableWindow } from '../toolchain/program.js'
import type { ProgramBinary } from './program-binary.js'
import { type Patch, wordPatch } from './thread-record.js'

/** Stacks end here or below after a move; the program's own mappings begin above. */
const PORTABLE_TOP = portableWindow.start - PAGE_SIZE_BIG
/** Room below the frames that are there at once; the mapping grows further by itself. */
const ROOM = 256n * 1024n
/** Between the frames and argc: where the kernel's ABI keeps a red zone, and a page of peace of mind. */
const GAP = 256n

export interface MainStack {
  /** The mapping on the target. */
  readonly mapping: Mapping
  /** The mapping it replaces. */
  readonly old: Mapping
  /** Added to every address in the upper part. */
  readonly shift: bigint
  /** CFA of the outermost frame. */
  readonly top: Address
}

/** Where the main stack goes, when its frames take `frameBytes`. */
export function placeMainStack(
  mappings: readonly Mapping[],
  layout: AddressSpaceLayout,
  stackPointer: Address,
  frameBytes: number,
): MainStack {
  const old =
    mappings.find(mapping => mapping.kind === 'stack') ??
    mappings.find(mapping => mapping.start <= layout.startStack && layout.startStack < mapping.end) ??
    mappings.find(mapping => mapping.start <= stackPointer && stackPointer < mapping.end)
  if (old === undefined) throw new UnreadableError('the image has no stack', { address: stackPointer })
  const upper = layout.startStack >= old.start && layout.startStack < old.end ? layout.startStack : old.end
  const shift = old.end <= portableWindow.start ? 0n : PORTABLE_TOP - old.end
  const top = alignDownBig(upper + shift - GAP, 16n)
  const lowest = alignDownBig(top - BigInt(frameBytes) - ROOM, PAGE_SIZE_BIG)
  const start = shift === 0n && old.start < lowest ? old.start : lowest
  const end = old.end + shift
  const clash = mappings.find(mapping => mapping !== old && mapping.start < end && mapping.end > start)
  if (clash !== undefined)
    throw new LossError('there is no room for the stack', {
      address: start,
      found: `a mapping at 0x${clash.start.toString(16)}`,
      hint: 'the program maps memory at addresses of its own choice',
    })
  return { mapping: { ...old, start, end, kind: 'stack' }, old, shift, top }
}

/** The upper part at its new place, with the pointers in it moved; nothing of the old frames. */
export function moveUpperPart(memory: Memory, stack: MainStack, layout: AddressSpaceLayout): Extent[] {
  const { old, shift } = stack
  if (layout.startStack < old.start || layout.startStack >= old.end) return []
  const extents = [...memory.within(layout.startStack, old.end)].map(extent => ({
    ...extent,
    address: extent.address + shift,
  }))
  return extents
}

/** argv and envp in the upper part: their pointers, moved. */
export function movePointers(memory: Memory, stack: MainStack, layout: AddressSpaceLayout): Patch[] {
  const { old, shift } = stack
  const patches: Patch[] = []
  if (shift === 0n) return patches
  // argc, argv and a zero, envp and a zero: words up to the vector; two zeros have been seen when it begins.
  let zeros = 0
  for (let at = layout.startStack + 8n; zeros < 2 && at + 8n <= old.end; at += 8n) {
    const word = memory.tryReadU64(at)
    if (word === undefined) break
    if (word === 0n) zeros++
    else if (word >= old.start && word < old.end) patches.push(wordPatch(at + shift, word + shift))
  }
  return patches
}

/** Words of the C library that point into the kernel's part of the stack: `__environ`, `__progname`, libc.auxv. */
export function moveLibraryPointers(memory: Memory, stack: MainStack, binary: ProgramBinary): Patch[] {
  if (stack.shift === 0n) return []
  const words = [
    ...['__environ', '__progname', '__progname_full'].flatMap(name => binary.addresses(name)),
    ...binary.addresses('__libc').map(address => address + LIBC_AUXV),
  ]
  return words.flatMap(address => {
    const word = memory.tryReadU64(address)
    return word !== undefined && word >= stack.old.start && word < stack.old.end
      ? [wordPatch(address, word + stack.shift)]
      : []
  })
}

/** `struct __libc` of musl 1.2: four chars, an int, then `size_t *auxv`. */
const LIBC_AUXV = 8n

/** Every mark of the layout that lies in the stack, moved with it. */
export function moveLayout(layout: AddressSpaceLayout, stack: MainStack): AddressSpaceLayout {
  const move = (address: Address) =>
    address >= stack.old.start && address <= stack.old.end ? address + stack.shift : address
  return {
    ...layout,
    startStack: move(layout.startStack),
    argStart: move(layout.argStart),
    argEnd: move(layout.argEnd),
    envStart: move(layout.envStart),
    envEnd: move(layout.envEnd),
  }
}
