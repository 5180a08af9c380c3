/**
 * A frozen process of one ISA as a frozen process of the other. Pure: models in, model out; memory is moved by reference, so
 * the time follows the number of frames and mappings.
 *
 *   threads ──► shadow frames ──► native stacks, registers            rebuild-memory.ts, native-stack.ts
 *           ──► thread record, thread-local storage                   thread-record.ts
 *           ──► records of ended threads that nobody has joined yet   joinable-threads.ts
 *   memory  ──► code of the target's binary, data and bss as they are  program-memory.ts
 *           ──► the kernel's part of the stack, moved                 main-stack.ts, auxiliary-vector.ts
 *   kernel  ──► signal handlers, capabilities, marks of the layout    kernel-state.ts
 *   files   ──► flags in the target's numbering                       isa/
 *
 * What makes it possible is `imago cc`: one layout for both binaries, and at a migration point no live value outside
 * memory (`src/toolchain/program.ts`). What is not at a migration point, or not this program, is refused.
 */

import { translateOpenFlags } from '../isa/isa.js'
import { UnreadableError, UsageError } from '../lib/errors.js'
import type { IsaName, Process, ProcessImage } from '../model/process.js'
import { type ProgramDescription, USER_MAIN } from '../toolchain/program.js'
import { translateVector } from './auxiliary-vector.js'
import { codeAndData, maskCapabilities, translateAction } from './kernel-state.js'
import { moveLayout, placeMainStack } from './main-stack.js'
import { nativeStackSize } from './native-stack.js'
import type { ProgramBinary } from './program-binary.js'
import { replaceProgramMappings } from './program-memory.js'
import { isKernels, type MovingThread, rebuildMemory } from './rebuild-memory.js'
import { checkIdentity, checkMapped, refuseUnreachable } from './refusals.js'
import { recordAddress } from './thread-record.js'
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

  const { memory, threads } = rebuildMemory(process, moving, stack, source, target)
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
