/**
 * Where a thread stands: its shadow frames, and whether they are complete. They are when the thread waits in the runtime
 * (`parked`), or when it stands exactly where the call of its innermost site returns to, as a debugger leaves it.
 */
import { LossError, UnreadableError } from '../lib/errors.js'
import type { Address, Memory } from '../model/memory.js'
import type { Thread } from '../model/process.js'
import { type ProgramDescription, runtimeSymbols } from '../toolchain/program.js'
import { type ShadowFrame, walkShadowFrames } from './native-stack.js'
import type { ProgramBinary } from './program-binary.js'
import { storageAddress } from './thread-record.js'

export interface ThreadState {
  readonly frames: readonly ShadowFrame[]
  /** Address of the runtime's `__imago_thread` of this thread. */
  readonly state: Address
}

/** @throws LossError when the thread is not at a migration point. */
export function readThreadState(
  memory: Memory,
  thread: Thread,
  record: Address,
  source: ProgramBinary,
  program: ProgramDescription,
): ThreadState {
  const isa = source.isa
  const programCounter = thread.registers.general.get(isa.programCounter) ?? 0n
  const state = storageAddress(isa, record, source.storage) + source.address(runtimeSymbols.thread)
  const [pointer, base, parked] = [0n, 8n, 16n].map(offset => memory.tryReadU64(state + offset))
  if (pointer === undefined || base === undefined || parked === undefined)
    throw new UnreadableError(`the image does not hold the state of thread ${thread.tid}`, {
      address: state,
      hint: 'was it made of a program that imago cc compiled?',
    })
  const outside = () =>
    new LossError(`thread ${thread.tid} is not at a migration point`, {
      address: programCounter,
      found: source.elf.symbols.at(programCounter)?.name ?? 'code outside the program',
      hint: 'stop the program with imago checkpoint (or kill -12), or with imago run --until imago_migrate',
    })
  // A thread that runs may be in the middle of writing a frame: what is there is not even looked at.
  if (parked !== 1n) {
    const id = pointer < base ? memory.tryReadU64(pointer) : undefined
    const site = id === undefined ? undefined : program.sites.get(Number(id))
    if (site?.returnAddress[isa.name] !== programCounter) throw outside()
  }
  const frames = walkShadowFrames(memory, pointer, base, program)
  if (frames.length === 0) throw outside()
  return { frames, state }
}
