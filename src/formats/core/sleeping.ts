/**
 * What a process of any image needs before a core of it can be restored: each thread's registers in a signal frame on its own
 * stack, below what it has there, and all bytes of the files it has mapped privately.
 *
 *   stack pointer ─► [ frames of the program ]
 *                    [ red zone │ signal frame ◄ thread record's `frame` │ room for the code that ends the restore ]
 */
import fs from 'node:fs'
import { isas } from '../../isa/isas.js'
import { signalFrames } from '../../isa/signal-frame.js'
import { FileSource } from '../../lib/byte-source.js'
import { alignDownBig } from '../../lib/bytes.js'
import { LossError } from '../../lib/errors.js'
import { type Address, type Extent, inWholePages, Memory, PAGE_SIZE_BIG } from '../../model/memory.js'
import type { IsaName, Mapping, Process, Thread } from '../../model/process.js'
import type { RawCore } from './raw.js'

/** What the restorer's last code takes of a stack (native/preload/checkpoint.c, go_on), generously. */
const ROOM_BELOW = 16384n

export interface SleepingProcess {
  readonly process: Process
  /** Address of the ucontext in its signal frame, by thread id. */
  readonly frames: ReadonlyMap<number, Address>
  /** Closes the files that the memory now points into. */
  close(): void
}

/**
 * @param raw the core that the image was read from, where its frames are still good: the same ISA.
 * @throws LossError when a thread's stack has no room for its registers.
 */
export function sleeping(process: Process, isa: IsaName, raw: RawCore | undefined): SleepingProcess {
  let { mappings } = process
  const frames = new Map<number, Address>()
  const patches: Extent[] = []
  for (const thread of process.threads) {
    const kept = raw && keptFrame(raw, thread, process.memory)
    if (kept !== undefined) {
      frames.set(thread.tid, kept)
      continue
    }
    const { address, frame } = placeFrame(thread, isa)
    mappings = withRoom(mappings, thread, address)
    frames.set(thread.tid, address + BigInt(frame.context))
    patches.push({ address, length: frame.bytes.length, content: { kind: 'bytes', bytes: frame.bytes } })
  }
  const sources = new Map<string, FileSource>()
  const memory = inWholePages(completeFiles(process, sources).overlay(patches))
  return {
    process: { ...process, mappings, memory },
    frames,
    close: () => {
      for (const source of sources.values()) source.close()
    },
  }
}

/** The frame of the image that the thread was read from. */
function keptFrame(raw: RawCore, thread: Thread, memory: Memory): Address | undefined {
  const own = raw.records.get('thread')?.find(record => record.number('tid') === thread.tid)
  const frame = own?.big('frame')
  return frame && memory.covers(frame, frame + 8n) ? frame : undefined
}

function placeFrame(thread: Thread, isa: IsaName) {
  const rules = signalFrames[isa]
  const stackPointer = thread.registers.general.get(isas[isa].stackPointer) ?? 0n
  const size = BigInt(rules.make(thread, 0n).bytes.length)
  const below = stackPointer - rules.redZone - size
  const address = below - (((below % rules.alignment) + rules.alignment) % rules.alignment)
  return { address, frame: rules.make(thread, address) }
}

/** A stack that grows is made to reach below the frame; any other must. */
function withRoom(mappings: readonly Mapping[], thread: Thread, frame: Address): readonly Mapping[] {
  const lowest = frame - ROOM_BELOW
  const holder = mappings.find(({ start, end }) => start <= frame && frame < end)
  if (holder?.write && lowest >= holder.start) return mappings
  const index = mappings.findIndex(
    ({ end, growsDown, kind }) => frame < end && (growsDown || kind === 'stack'),
  )
  const stack = mappings[index]
  const start = alignDownBig(lowest, PAGE_SIZE_BIG)
  const before = mappings[index - 1]
  if (
    stack === undefined ||
    (holder !== undefined && holder !== stack) ||
    (before !== undefined && before.end > start)
  )
    throw new LossError(`the stack of thread ${thread.tid} has no room for its registers`, {
      address: frame,
      expected: `${ROOM_BELOW} bytes below`,
    })
  return mappings.map(mapping => (mapping === stack ? { ...stack, start } : mapping))
}

/** Private file mappings that the image holds in part get the rest from their file: where nothing is, a core has zeros. */
function completeFiles(process: Process, sources: Map<string, FileSource>): Memory {
  const missing: Extent[] = []
  for (const mapping of process.mappings) {
    const { file, start, end } = mapping
    if (mapping.kind !== 'file' || file === undefined || mapping.shared || file.deleted) continue
    if (process.memory.covers(start, end)) continue
    const size = fs.statSync(file.path, { throwIfNoEntry: false })?.size
    if (size === undefined || BigInt(size) <= file.offset) continue
    const available = BigInt(size) - file.offset
    const length = available < end - start ? Number(available) : Number(end - start)
    const source = sources.get(file.path) ?? new FileSource(file.path)
    sources.set(file.path, source)
    const content = { kind: 'slice', source, offset: Number(file.offset) } as const
    missing.push({ address: start, length, content })
  }
  return Memory.from(missing).overlay(process.memory.extents)
}
