/**
 * The thread that a guest runs in. It obeys one request at a time; while the guest runs it hears nothing, and is
 * stopped through the shared word, the eventfd and the CPU's stop handle.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { SMALLEST_MEMORY } from '../../formats/microvm/guest-layout.js'
import { encodeHeader } from '../../formats/microvm/header.js'
import { SEED_ROOM } from '../../formats/scratchvm/seed-layout.js'
import { exceptionNames } from '../../isa/x86-64-kvm.js'
import { ImagoError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import { initialState } from './cpu.js'
import { cpuFeaturesOf } from './cpu-features.js'
import { engineNamed } from './engines.js'
import { type Guest, newProcess } from './guest.js'
import { GuestMemory } from './guest-memory.js'
import { hostCall, NR } from './libc.js'
import { loadProgram } from './load-program.js'
import { type HeldLock, letLocksGo, takeLocks } from './locks.js'
import type { Ended, Reply, Request, WorkerSetup } from './messages.js'
import { faultReport, hostSide, Monitor, type Outcome } from './monitor.js'
import { OpenFiles } from './open-files.js'
import { restoreGuest } from './restore.js'
import { describeGuest, saveGuest } from './save.js'
import { isSeedImage, restoreSeedGuest } from './seed-image.js'
import { STOP_WORD } from './stop-word.js'

const setup = workerData as WorkerSetup
const shared = new Int32Array(setup.shared)
const port = parentPort!
const reply = (message: Reply) => port.postMessage(message)

const CLONE_FS = 0x200

/**
 * From here on this thread makes files with the modes it asks for (the guest's umask is applied before); the rest of the
 * process keeps its umask, which is returned. Where a thread may have none of its own, both umasks count.
 */
function takeOwnUmask(): number {
  const own = hostCall(NR.unshare, CLONE_FS) === 0
  const before = hostCall(NR.umask, 0)
  if (!own) hostCall(NR.umask, before)
  return before
}
const umask = takeOwnUmask()

let toldAlarm: bigint | undefined
function tellAlarm(at: bigint | undefined): void {
  if (at !== toldAlarm) setup.alarms.postMessage(at)
  toldAlarm = at
}

async function makeGuest(): Promise<Guest> {
  const makeCpu = await engineNamed(setup.engine).load()
  const host = hostSide(shared, setup.wakeFd, tellAlarm)
  const { start } = setup
  if (start.kind === 'image') {
    const restore = isSeedImage(start.path) ? restoreSeedGuest : restoreGuest
    return restore(start.path, makeCpu, host, { ...start, engine: setup.engine, readOnly: setup.readOnly })
  }
  const { bootFile } = start
  const files = new OpenFiles(start.rootFolder, setup.readOnly)
  files.connectStandardStreams()
  const memory = GuestMemory.create(bootFile === undefined ? start.memorySize : SMALLEST_MEMORY)
  const process = newProcess(start.argv[0]!)
  process.umask = umask
  const { entry, stackPointer } = loadProgram(
    memory,
    process,
    start.file,
    start.argv,
    start.environment,
    start.seedLayout === true || bootFile !== undefined ? SEED_ROOM : undefined,
  )
  process.cpuFeatures = cpuFeaturesOf(setup.engine)
  if (bootFile !== undefined) {
    const { bootClassic } = await import('../kvm/classic-cpu.js')
    return { memory, cpu: bootClassic(memory, bootFile, entry, stackPointer), files, process, host }
  }
  const cpu = makeCpu(memory)
  cpu.writeState(initialState(entry, stackPointer))
  return { memory, cpu, files, process, host }
}

/** One write a line, so that lines of the trace and of the guest stay whole and in order. */
function traceToStderr(line: string): void {
  const bytes = Buffer.from(`${line}\n`)
  hostCall(NR.write, 2, bytes, bytes.length)
}

function ended(guest: Guest, outcome: Outcome): Ended {
  if (outcome.kind !== 'fault') return outcome
  const name = exceptionNames[outcome.fault.vector] ?? `exception ${outcome.fault.vector}`
  return { kind: 'fault', code: outcome.code, report: faultReport(guest, outcome.fault, name) }
}

/** What `let locks go` gave away. */
let locksAway: readonly HeldLock[] = []

function serve(guest: Guest, monitor: Monitor, request: Request): Reply {
  switch (request.command) {
    case 'run': {
      Atomics.store(shared, STOP_WORD, 0)
      const outcome = monitor.run()
      return { kind: 'ended', ended: ended(guest, outcome), report: monitor.counters }
    }
    case 'save': {
      const now = BigInt(Date.now()) * 1_000_000n
      return { kind: 'saved', ...saveGuest(guest, request.path, { withFiles: request.withFiles, now }) }
    }
    case 'describe': {
      const now = BigInt(Date.now()) * 1_000_000n
      const { record, contents } = describeGuest(guest, { withFiles: request.withFiles, now })
      return { kind: 'described', header: encodeHeader(record), contents }
    }
    case 'let locks go':
      locksAway = letLocksGo(guest.files)
      return { kind: 'done' }
    case 'take locks':
      takeLocks(locksAway, guest.files.rootFolder)
      locksAway = []
      return { kind: 'done' }
    case 'release':
      guest.files.release()
      guest.cpu.release()
      guest.memory.release()
      return { kind: 'done' }
  }
}

function failure(error: unknown): Reply {
  if (error instanceof ImagoError)
    return {
      kind: 'failed',
      name: error.name,
      message: error.message,
      details: { ...error.details, cause: undefined },
    }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { kind: 'failed', name: 'Error', message: text, details: {} }
}

try {
  const guest = await makeGuest()
  const monitor = new Monitor(guest, shared, setup.trace ? traceToStderr : undefined)
  port.on('message', (request: Request) => {
    try {
      reply(serve(guest, monitor, request))
    } catch (error) {
      reply(failure(error))
    }
    if (request.command === 'release') {
      port.close()
      setup.alarms.close()
    }
  })
  const { base, bytes, layout, memorySize } = guest.memory
  const dirty = new Int32Array(new SharedArrayBuffer(4 + Math.ceil(layout.totalSize / PAGE_SIZE / 32) * 4))
  guest.memory.dirty = dirty
  reply({
    kind: 'ready',
    stop: guest.cpu.stopHandle,
    memory: { base, buffer: bytes.buffer, totalSize: layout.totalSize, memorySize },
    dirty,
    boundToCpu: guest.process.boundToCpu,
  })
} catch (error) {
  reply(failure(error))
  port.close()
}
