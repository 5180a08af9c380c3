/** A microvm image → a guest that stands still, ready to run. The other way is `save.ts`; its files are in `restore-files.ts`. */
import { LARGEST_MEMORY, layoutFor, SMALLEST_MEMORY } from '../../formats/microvm/guest-layout.js'
import { openMicroVmFile } from '../../formats/microvm/image-file.js'
import type { MicroVmRecord, PendingRecord } from '../../formats/microvm/record.js'
import { SREGS_OFFSET } from '../../isa/x86-64-kvm.js'
import { USER_END } from '../../isa/x86-64-program.js'
import { HostError, UnreadableError } from '../../lib/errors.js'
import { cpuTimeOffset, isTimerClock } from './clocks.js'
import type { CpuFactory, VirtualCpu } from './cpu.js'
import { cpuFeaturesOf } from './cpu-features.js'
import { type Guest, type HostSide, newProcess, newTimer } from './guest.js'
import { GuestMemory } from './guest-memory.js'
import type { EngineName } from './messages.js'
import { identityOf, type OpenFiles } from './open-files.js'
import { bitOf, CODE } from './pending-signals.js'
import { type RestoreFilesOptions, restoreFiles } from './restore-files.js'
import { FIRST_CREATED, MOST_TIMERS, setTimer } from './timers.js'

export interface RestoreGuestOptions extends RestoreFilesOptions {
  readonly engine: EngineName
  /** Go on though the CPU lacks features that the program chose its code by. */
  readonly ignoreCpu: boolean
}

/** Memory is mapped, not read: this takes the same time whatever its size. @throws UnreadableError, LossError, HostError */
export function restoreGuest(
  path: string,
  makeCpu: CpuFactory,
  host: HostSide,
  options: RestoreGuestOptions,
): Guest {
  const image = openMicroVmFile(path)
  try {
    const { record } = image
    checkLayout(record, path)
    checkCpu(record, path, options)
    const files = restoreFiles(image, options)
    try {
      files.ownImage = identityOf(image.source.fd)
      const memory = GuestMemory.fromFile(
        Number(record.usableBytes),
        image.source.fd,
        image.memoryOffset,
        record.mappings.map(m => ({ ...m, start: Number(m.start), end: Number(m.end) })),
      )
      return restoreState(record, memory, makeCpu, files, host)
    } catch (error) {
      files.release() // its locks, too
      throw error
    }
  } finally {
    image.source.close()
  }
}

/** CPU and process over memory and files that are already there. */
function restoreState(
  record: MicroVmRecord,
  memory: GuestMemory,
  makeCpu: CpuFactory,
  files: OpenFiles,
  host: HostSide,
): Guest {
  const cpu = makeCpu(memory)
  const special = new DataView(record.cpu.special.buffer, record.cpu.special.byteOffset)
  cpu.writeState({
    registers: record.cpu.registers,
    fsBase: special.getBigUint64(SREGS_OFFSET.fsBase, true),
    gsBase: special.getBigUint64(SREGS_OFFSET.gsBase, true),
    xsave: record.cpu.xsave,
    xcr0: record.cpu.xcr0,
  })
  const process = newProcess(record.process.name)
  const { waitLeft } = record.process
  Object.assign(process, {
    brkStart: Number(record.process.brkStart),
    brk: Number(record.process.brk),
    umask: record.process.umask,
    clearTid: record.process.clearTid,
    signalMask: record.process.signalMask,
    alternateStack: record.process.alternateStack,
    waitLeft: waitLeft < 0n ? undefined : waitLeft,
    boundToCpu: record.cpu.features !== '',
    cpuFeatures: featuresSeen(record, cpu),
  })
  for (const { signal, ...action } of record.signals) process.actions.set(signal, action)
  const guest = { memory, cpu, files, process, host }
  const { realTimer, cpuTime } = record
  process.cpuTimeOffset = cpuTimeOffset(cpuTime?.used ?? 0n)
  const running = (left: bigint) => (left === 0n ? undefined : left)
  for (const [key, timer] of [realTimer, cpuTime?.virtual, cpuTime?.profiling].entries())
    if (timer !== undefined) setTimer(guest, key, running(timer.left), timer.interval)
  for (const { id, clock, signal, value, left, interval, overrun } of record.timers ?? []) {
    if (!isTimerClock(clock) || id >= MOST_TIMERS)
      throw new UnreadableError('an impossible timer', { found: `timer ${id} of clock ${clock}` })
    process.timers.set(FIRST_CREATED + id, newTimer(clock, signal === 0 ? undefined : signal, value))
    setTimer(guest, FIRST_CREATED + id, running(left), interval)
    process.timers.get(FIRST_CREATED + id)!.overrun = overrun
  }
  for (const pending of pendingOf(record)) process.pending.raise(pending)
  return guest
}

/** Older images tell of pending signals no more than their numbers. */
function pendingOf({ process, pending }: MicroVmRecord): readonly PendingRecord[] {
  if (pending !== undefined) return pending
  return Array.from({ length: 64 }, (_, i) => i + 1)
    .filter(signal => (process.pendingSignals & bitOf(signal)) !== 0n)
    .map(signal => ({ signal, code: CODE.user, sender: 0, detail: 0, value: 0n }))
}

/** One that was saved while it was asking (by an older imago) sees this CPU, too. */
function featuresSeen({ cpu: { features } }: MicroVmRecord, { engine, fsBase }: VirtualCpu): string[] {
  const before = features.split(' ')
  return fsBase !== 0n ? before : [...new Set([...before, ...cpuFeaturesOf(engine)])]
}

/** The image must have the layout that this monitor makes, for its page tables and stubs are in it. */
function checkLayout(record: MicroVmRecord, path: string): void {
  const usable = Number(record.usableBytes)
  if (
    usable < SMALLEST_MEMORY ||
    usable > LARGEST_MEMORY ||
    usable % (2 << 20) !== 0 ||
    BigInt(layoutFor(usable).totalSize) !== record.memoryBytes
  )
    throw new UnreadableError('the memory of this image is not laid out as this monitor does', {
      file: path,
      found: `${record.memoryBytes} bytes, ${usable} for the guest`,
    })
  const special = new DataView(record.cpu.special.buffer, record.cpu.special.byteOffset)
  for (const offset of [SREGS_OFFSET.fsBase, SREGS_OFFSET.gsBase])
    if (special.getBigUint64(offset, true) >= USER_END)
      throw new UnreadableError('a segment base is no user address', {
        file: path,
        found: special.getBigUint64(offset, true),
      })
}

function checkCpu(record: MicroVmRecord, path: string, { engine, ignoreCpu }: RestoreGuestOptions): void {
  if (record.cpu.features === '' || ignoreCpu) return
  const here = new Set(cpuFeaturesOf(engine))
  const missing = record.cpu.features.split(' ').filter(feature => !here.has(feature))
  if (missing.length > 0)
    throw new HostError('the program chose its code for a CPU that can do more than this one', {
      file: path,
      found: `missing here: ${missing.join(' ')}`,
      hint: 'build guests with musl (baseline x86-64), or try --ignore-cpu',
    })
}
