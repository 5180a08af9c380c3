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
  const bytes = memory.tryRead(state, 24)
  if (bytes === undefined)
    throw new UnreadableError(`the image does not hold the state of thread ${thread.tid}`, {
      address: state,
      hint: 'was it made of a program that imago cc compiled?',
    })
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const [pointer, base, parked] = [0, 8, 16].map(offset => view.getBigUint64(offset, true)) as [
    bigint,
    bigint,
    bigint,
  ]
  const outside = () =>
    new LossError(`thread ${thread.tid} is not at a migration point`, {
      address: programCounter,
      found: source.elf.symbols.at(programCounter)?.name ?? 'code outside the program',
      hint: 'stop the program with imago checkpoint (or kill -12), or with imago run --until imago_migrate',
    })
  // A thread that runs may be in the middle of writing a frame: what is there is not even looked at.
  if (parked !== 1n) {
    const innermost = pointer < base ? memory.tryRead(pointer, 8) : undefined
    const id = innermost && Number(new DataView(innermost.buffer, innermost.byteOffset).getBigUint64(0, true))
    const site = id === undefined ? undefined : program.sites.get(id)
    if (site?.returnAddress[isa.name] !== programCounter) throw outside()
  }
  const frames = walkShadowFrames(memory, pointer, base, program)
  if (frames.length === 0) throw outside()
  return { frames, state }
}
