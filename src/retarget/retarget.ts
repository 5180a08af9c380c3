/**
 * A frozen process of one ISA as a frozen process of the other. Pure: models in, model out; memory is moved by reference, so
 * the time follows the number of frames and mappings.
 *
 *   threads ──► shadow frames ──► native stacks, registers            native-stack.ts
 *           ──► thread record, thread-local storage                   thread-record.ts
 *           ──► records of ended threads that nobody has joined yet   joinable-threads.ts
 *   memory  ──► code of the target's binary, data and bss as they are  program-memory.ts
 *           ──► the kernel's part of the stack, moved                 main-stack.ts, auxiliary-vector.ts
 *   files   ──► flags in the target's numbering                       isa/
 *
 * What makes it possible is `imago cc`: one layout for both binaries, and at a migration point no live value outside
 * memory (`src/toolchain/program.ts`). What is not at a migration point, or not this program, is refused.
 */

import { translateOpenFlags } from '../isa/isa.js'
import { alignDownBig, alignUpBig } from '../lib/bytes.js'
import { LossError, UnreadableError, UsageError } from '../lib/errors.js'
import { type Address, inWholePages, Memory, PAGE_SIZE_BIG } from '../model/memory.js'
import type {
  Credentials,
  IsaName,
  Mapping,
  Process,
  ProcessImage,
  SignalAction,
  Thread,
} from '../model/process.js'
import { type ProgramDescription, runtimeSymbols, USER_MAIN } from '../toolchain/program.js'
import { translateVector, translateVectorInMemory } from './auxiliary-vector.js'
import { joinableThreads } from './joinable-threads.js'
import {
  type MainStack,
  moveLayout,
  moveLibraryPointers,
  movePointers,
  moveUpperPart,
  placeMainStack,
} from './main-stack.js'
import { buildNativeStack, nativeStackSize, type ShadowFrame } from './native-stack.js'
import type { ProgramBinary } from './program-binary.js'
import { programMemory, programRange, replaceProgramMappings } from './program-memory.js'
import { checkIdentity, checkMapped, refuseUnreachable } from './refusals.js'
import {
  type Patch,
  recordAddress,
  threadStack,
  translateRecordAddress,
  translateThreadRecord,
  wordPatch,
} from './thread-record.js'
import { readThreadState } from './thread-state.js'

export interface RetargetInput {
  readonly image: ProcessImage
  readonly program: ProgramDescription
  readonly source: ProgramBinary
  readonly target: ProgramBinary
  /** Capabilities that the target host can give, bit n for CAP number n; undefined: all. */
  readonly capabilities?: bigint | undefined
}

export interface RetargetResult {
  readonly image: ProcessImage
  /** What was done, for the person who asked. */
  readonly summary: RetargetSummary
}

export interface RetargetSummary {
  readonly from: IsaName
  readonly to: IsaName
  readonly threads: ReadonlyArray<{
    readonly tid: number
    /** Innermost first. */
    readonly functions: readonly string[]
  }>
  /** Remarks on what could not be kept exactly as it was. */
  readonly remarks: readonly string[]
}

/**
 * @throws LossError when the image is of another program or build, or a thread is not at a migration point;
 *   UnreadableError when what it holds contradicts the program's description. Nothing has been written by then.
 */
export function retarget(input: RetargetInput): RetargetResult {
  const { image, target } = input
  if (image.isa !== input.source.isa.name || image.isa === target.isa.name)
    throw new UsageError(`the image is of ${image.isa}; it cannot be retargeted to ${target.isa.name}`)
  const done = image.processes.map(process => retargetProcess(process, input))
  const descriptions = new Map(
    [...image.descriptions].map(([id, description]) => [
      id,
      { ...description, flags: translateOpenFlags(description.flags, input.source.isa, target.isa) },
    ]),
  )
  return {
    image: {
      ...image,
      isa: target.isa.name,
      processes: done.map(each => each.process),
      descriptions,
    },
    summary: {
      from: image.isa,
      to: target.isa.name,
      threads: done.flatMap(each => each.threads),
      remarks: [...new Set(done.flatMap(each => each.remarks))],
    },
  }
}

/** One thread on its way: where its record is, and what it will need. */
interface MovingThread {
  readonly thread: Thread
  readonly record: Address
  readonly frames: readonly ShadowFrame[]
  /** Where its parked mark is, to be cleared. */
  readonly state: Address
}

function retargetProcess(process: Process, input: RetargetInput) {
  const { source, target, program } = input
  checkIdentity(process, source, program)
  const from = source.isa
  const to = target.isa
  const remarks: string[] = []

  const moving = process.threads.map((thread): MovingThread => {
    const record = recordAddress(from, thread.registers.general.get(from.threadPointer) ?? 0n)
    return { thread, record, ...readThreadState(process.memory, thread, record, source, program) }
  })
  const main = moving[0]
  if (main === undefined)
    throw new UnreadableError('a process without threads', { found: `pid ${process.pid}` })

  const kept = process.mappings.filter(mapping => !isKernels(mapping))
  const stack = placeMainStack(
    kept,
    process.layout,
    main.thread.registers.general.get(from.stackPointer) ?? 0n,
    nativeStackSize(main.frames, to.name),
  )
  const mappings = replaceProgramMappings(
    kept.map(mapping => (mapping === stack.old ? stack.mapping : mapping)),
    source,
    target,
  )
  refuseUnreachable(mappings, to.userSpaceEnd)

  const { memory, threads } = rebuildMemory(process, moving, stack, input)
  checkMapped(memory, mappings)
  const layout = {
    ...moveLayout(process.layout, stack),
    ...codeAndData(target),
    auxv: translateVector(process.layout.auxv, target, stack),
  }
  const result: Process = {
    ...process,
    executable: target.path,
    threads,
    mappings,
    memory,
    layout,
    credentials: maskCapabilities(process.credentials, input.capabilities),
    signalActions: new Map(
      [...process.signalActions].map(([signal, action]) => [signal, translateAction(action, source, target)]),
    ),
  }
  if (moving.some(each => each.thread.rseq !== undefined))
    remarks.push('restartable sequences are not registered again; musl does not use them')
  return {
    process: result,
    threads: moving.map(each => ({
      tid: each.thread.tid,
      functions: each.frames.map(({ function: { name } }) => (name === USER_MAIN ? 'main' : name)),
    })),
    remarks,
  }
}

/** The memory of the target process, and its threads with their registers. */
function rebuildMemory(
  process: Process,
  moving: readonly MovingThread[],
  stack: MainStack,
  { source, target }: RetargetInput,
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
    const own = i === 0 ? undefined : threadStack(process.memory, record, from)
    if (i > 0 && own === undefined)
      throw new UnreadableError('a thread without a stack of its own', {
        address: record,
        found: `tid ${thread.tid}`,
      })
    const top = own === undefined ? stack.top : alignDownBig(own.top, 16n)
    const size = nativeStackSize(frames, to.name)
    if (own !== undefined) {
      if (top - BigInt(size) < own.low + PAGE_SIZE_BIG)
        throw new LossError(`the stack of thread ${thread.tid} is too small on ${to.name}`, {
          address: own.low,
          found: `${own.top - own.low} bytes`,
          expected: `more than ${size}`,
          hint: 'give the thread a larger stack (pthread_attr_setstacksize)',
        })
      memory = memory.without(alignUpBig(own.low, PAGE_SIZE_BIG), alignDownBig(own.top, PAGE_SIZE_BIG))
    }
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

/** Lays patches over memory, all at once; of two that overlap, the later wins. */
function patchAll(memory: Memory, patches: readonly Patch[]): Memory {
  const together = patches.reduce((result, patch) => result.patch(patch.address, patch.bytes), Memory.empty)
  return memory.overlay(together.extents)
}

/** vDSO, vvar and vsyscall belong to the kernel of the machine; musl does without. */
function isKernels(mapping: Mapping): boolean {
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

function codeAndData(binary: ProgramBinary) {
  const code = binary.loads.find(segment => segment.flags & 1)!
  const data = binary.loads.find(segment => segment.flags & 2) ?? code
  return {
    startCode: code.virtualAddress,
    endCode: code.virtualAddress + BigInt(code.fileSize),
    startData: data.virtualAddress,
    endData: data.virtualAddress + BigInt(data.fileSize),
  }
}

/** Handlers and restorers have the same address on both ISAs, or the same name. */
function translateAction(action: SignalAction, source: ProgramBinary, target: ProgramBinary): SignalAction {
  const translate = (address: Address) => {
    const name = address > 1n ? source.functionAt(address) : undefined
    return name === undefined || target.functionAt(address) === name ? address : target.address(name)
  }
  return { ...action, handler: translate(action.handler), restorer: translate(action.restorer) }
}

/** A host that lacks a capability cannot give it back, and refuses the whole process. */
function maskCapabilities(
  credentials: Credentials | undefined,
  mask: bigint | undefined,
): Credentials | undefined {
  const sets = credentials?.capabilities
  if (credentials === undefined || sets === undefined || mask === undefined) return credentials
  return {
    ...credentials,
    capabilities: {
      effective: sets.effective & mask,
      permitted: sets.permitted & mask,
      inheritable: sets.inheritable & mask,
      bounding: sets.bounding & mask,
      ambient: sets.ambient & mask,
    },
  }
}
