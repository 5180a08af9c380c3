/**
 * The memory of the target process and its threads: the program's pages, patched where either ISA's C library or kernel would have
 * written something else, and a native stack for each thread, laid out anew from its shadow frames.
 */
import { alignDownBig, alignUpBig } from '../lib/bytes.js'
import { LossError, UnreadableError } from '../lib/errors.js'
import { type Address, inWholePages, Memory, PAGE_SIZE_BIG } from '../model/memory.js'
import type { Mapping, Process, Thread } from '../model/process.js'
import { runtimeSymbols } from '../toolchain/program.js'
import { translateVectorInMemory } from './auxiliary-vector.js'
import { joinableThreads } from './joinable-threads.js'
import { type MainStack, moveLibraryPointers, movePointers, moveUpperPart } from './main-stack.js'
import { buildNativeStack, nativeStackSize, type ShadowFrame } from './native-stack.js'
import type { ProgramBinary } from './program-binary.js'
import { programMemory, programRange } from './program-memory.js'
import {
  type Patch,
  threadStack,
  translateRecordAddress,
  translateThreadRecord,
  wordPatch,
} from './thread-record.js'

/** One thread on its way: where its record is, and what it will need. */
export interface MovingThread {
  readonly thread: Thread
  readonly record: Address
  readonly frames: readonly ShadowFrame[]
  /** Where its parked mark is, to be cleared. */
  readonly state: Address
}

/** The memory of the target process, and its threads with their registers. */
export function rebuildMemory(
  process: Process,
  moving: readonly MovingThread[],
  stack: MainStack,
  source: ProgramBinary,
  target: ProgramBinary,
): { memory: Memory; threads: Thread[] } {
  const from = source.isa
  const to = target.isa
  // The program's own pages are read before anything is patched, and laid down again as the target's.
  let memory = process.memory
  for (const mapping of process.mappings)
    if (isKernels(mapping)) memory = memory.without(mapping.start, mapping.end)
  const upper = moveUpperPart(process.memory, stack, process.layout)
  for (const binary of [source, target]) {
    const { start, end } = programRange(binary)
    memory = memory.without(start, end)
  }
  memory = memory.without(stack.old.start, stack.old.end)
  memory = memory.overlay([...programMemory(process, source, target), ...upper])

  const patches: Patch[] = [
    ...movePointers(process.memory, stack, process.layout),
    ...moveLibraryPointers(process.memory, stack, source),
    ...translateVectorInMemory(process.memory, process.layout, target, stack),
    ...forgetVdso(process.memory, source),
    wordPatch(source.address(runtimeSymbols.request), 0n),
    wordPatch(source.address(runtimeSymbols.parkedCount), 0n),
  ]
  // Parked marks lie in thread-local storage, which moves: they are cleared before it is read.
  const unparked = patchAll(
    process.memory,
    moving.map(each => wordPatch(each.state + 16n, 0n)),
  )
  const live = new Set(moving.map(each => each.record))
  for (const record of joinableThreads(process.memory, source))
    if (!live.has(record))
      patches.push(...translateThreadRecord(process.memory, record, source.storage, from, to))
  const leave = target.address(runtimeSymbols.leave)
  const threads: Thread[] = []
  for (const [i, { thread, record, frames }] of moving.entries()) {
    const own = i === 0 ? undefined : ownStack(process.memory, moving[i]!, source, target)
    if (own !== undefined) memory = memory.without(own.low, own.high)
    const top = own?.top ?? stack.top
    const native = buildNativeStack(frames, to.name, top, leave)
    patches.push({ address: native.start, bytes: native.bytes })
    patches.push(...translateThreadRecord(unparked, record, source.storage, from, to))
    const registers = to.freshRegisters(
      { ...native, threadPointer: record + BigInt(to.musl.pointerOffset) },
      from.floatingControl(thread.registers),
    )
    const { robustList, ...rest } = thread
    threads.push({
      ...rest,
      registers,
      robustList: robustList && {
        ...robustList,
        head: translateRecordAddress(robustList.head, record, from, to),
      },
      rseq: undefined,
    })
  }
  return { memory: inWholePages(patchAll(memory, patches)), threads }
}

/** The stack of a thread but the first: where it begins to grow, and the whole pages that it had. */
function ownStack(
  memory: Memory,
  { thread, record, frames }: MovingThread,
  source: ProgramBinary,
  target: ProgramBinary,
): { top: Address; low: Address; high: Address } {
  const own = threadStack(memory, record, source.isa)
  if (own === undefined)
    throw new UnreadableError('a thread without a stack of its own', {
      address: record,
      found: `tid ${thread.tid}`,
    })
  const top = alignDownBig(own.top, 16n)
  const size = nativeStackSize(frames, target.isa.name)
  if (top - BigInt(size) < own.low + PAGE_SIZE_BIG)
    throw new LossError(`the stack of thread ${thread.tid} is too small on ${target.isa.name}`, {
      address: own.low,
      found: `${own.top - own.low} bytes`,
      expected: `more than ${size}`,
      hint: 'give the thread a larger stack (pthread_attr_setstacksize)',
    })
  return { top, low: alignUpBig(own.low, PAGE_SIZE_BIG), high: alignDownBig(own.top, PAGE_SIZE_BIG) }
}

/** Lays patches over memory, all at once; of two that overlap, the later wins. */
function patchAll(memory: Memory, patches: readonly Patch[]): Memory {
  const together = patches.reduce((result, patch) => result.patch(patch.address, patch.bytes), Memory.empty)
  return memory.overlay(together.extents)
}

/** vDSO, vvar and vsyscall belong to the kernel of the machine; musl does without. */
export function isKernels(mapping: Mapping): boolean {
  return mapping.kind === 'vdso' || mapping.kind === 'vvar' || mapping.kind === 'vsyscall'
}

/** Where musl remembers an address in the source's vDSO: 0 makes it ask the kernel instead. */
function forgetVdso(memory: Memory, source: ProgramBinary): Patch[] {
  return source.addresses('vdso_func').flatMap(address => {
    const value = memory.tryReadU64(address) ?? 0n
    const initial = source.functionAt(value) !== undefined
    return value === 0n || initial ? [] : [wordPatch(address, 0n)]
  })
}
