/**
 * A guest seen from the main thread: started, run until something happens, stopped at any instruction, saved.
 *
 *   main thread                         worker
 *   MicroVm.start ──── setup ─────────► guest made
 *   run() ──────────── run ───────────► the loop (blocks the worker)
 *   stop() ─ word, eventfd, kick ─────► … ends with 'stopped'
 *   save(path) ─────── save ──────────► image written, synced, renamed
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { errorNamed, HostError, ImagoError } from '../../lib/errors.js'
import type { StopHandle } from './cpu.js'
import { hostCall, interruptCalls, NR, viewOf } from './libc.js'
import type {
  Ended,
  EngineName,
  MemoryHandle,
  Reply,
  Report,
  Request,
  Start,
  WorkerSetup,
} from './messages.js'
import { STOP_WORD, WANTED } from './stop-word.js'

const KICK_EVERY_MS = 4
/** setTimeout knows 31 bits. */
const LONGEST_TIMEOUT = 0x7fff_ffff
const SIGURG = 23
const EFD_NONBLOCK = 0o4000
const EFD_CLOEXEC = 0o2000000

/** With a handler of Node's installed, the signal interrupts KVM_RUN and calls that wait; nobody else uses it. */
let kickInstalled = false
function installKick(): void {
  if (kickInstalled) return
  kickInstalled = true
  process.on('SIGURG', () => {})
  // Node asks for SA_RESTART: a guest's write to a full pipe, or its wait for a lock, would never hear of a stop.
  interruptCalls(SIGURG)
}

/** How a guest's thread is made. It closes descriptors behind Node's back; Node must not close their numbers once more. */
export const WORKER_OPTIONS = { trackUnmanagedFds: false } as const

export interface MicroVmOptions {
  readonly engine: EngineName
  readonly start: Start
  readonly readOnly: boolean
  readonly trace: boolean
}

export class MicroVm {
  readonly engine: EngineName
  readonly memory: MemoryHandle
  /** The program chooses its code by the CPU (glibc): its images go on only where the CPU can do as much. */
  readonly boundToCpu: boolean
  readonly #worker: Worker
  readonly #shared: Int32Array
  readonly #wakeFd: number
  readonly #stop: StopHandle
  readonly #dirty: Int32Array
  readonly #pid = process.pid
  #alarm: NodeJS.Timeout | undefined
  #running: Promise<{ ended: Ended; report: Report }> | undefined

  private constructor(
    options: MicroVmOptions,
    worker: Worker,
    shared: Int32Array,
    wakeFd: number,
    alarms: MessagePort,
    ready: Reply & { kind: 'ready' },
  ) {
    alarms.on('message', (at: bigint | undefined) => this.#setAlarm(at))
    alarms.unref()
    this.engine = options.engine
    this.#worker = worker
    this.#shared = shared
    this.#wakeFd = wakeFd
    this.#stop = ready.stop
    this.memory = ready.memory
    this.#dirty = ready.dirty
    this.boundToCpu = ready.boundToCpu
  }

  /** Makes the guest; it does not run yet. @throws what the worker met: UsageError, UnreadableError, HostError, … */
  static async start(options: MicroVmOptions): Promise<MicroVm> {
    installKick()
    const buffer = new SharedArrayBuffer(64)
    const wakeFd = hostCall(NR.eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC)
    const alarms = new MessageChannel()
    const setup: WorkerSetup = { ...options, shared: buffer, wakeFd, alarms: alarms.port1 }
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: setup,
      transferList: [alarms.port1],
      ...WORKER_OPTIONS,
    })
    try {
      const ready = (await nextReply(worker)) as Reply & { kind: 'ready' }
      return new MicroVm(options, worker, new Int32Array(buffer), wakeFd, alarms.port2, ready)
    } catch (error) {
      await worker.terminate()
      hostCall(NR.close, wakeFd)
      throw error
    }
  }

  /** @throws what the worker met; ImagoError when its thread has ended */
  async #ask<K extends Reply['kind']>(request: Request, _kind: K): Promise<Reply & { kind: K }> {
    if (this.#isDead) throw new ImagoError(THREAD_ENDED)
    this.#worker.postMessage(request)
    return (await nextReply(this.#worker)) as Reply & { kind: K }
  }

  /** Runs until the guest ends, faults, asks to be saved, or is stopped. */
  async run(): Promise<{ ended: Ended; report: Report }> {
    this.#running = this.#ask({ command: 'run' }, 'ended')
    try {
      return await this.#running
    } finally {
      this.#running = undefined
    }
  }

  /** Asks a running guest to stand still at the next instruction; `run` then returns. */
  async stop(): Promise<void> {
    const running = this.#running
    if (running === undefined) return
    const one = Buffer.alloc(8)
    one.writeBigUInt64LE(1n)
    hostCall(NR.write, this.#wakeFd, one, 8)
    const stopNow = () => {
      // The worker takes the word back when it begins to run: until it answers, it is set again.
      Atomics.store(this.#shared, STOP_WORD, WANTED.stop)
      this.#kick()
    }
    stopNow()
    const timer = setInterval(stopNow, KICK_EVERY_MS)
    try {
      await running
    } finally {
      clearInterval(timer)
      hostCall(NR.read, this.#wakeFd, one, 8)
    }
  }

  /** Makes the CPU, or a call that waits, look at the shared word. */
  #kick(): void {
    if (this.#stop.engine === 'kvm')
      viewOf(this.#stop.runAddress, 2)[1] = 1 // kvm_run.immediate_exit
    else viewOf(this.#stop.flag, 1)[0] = 1
    hostCall(NR.tgkill, this.#pid, this.#stop.tid, SIGURG)
  }

  /** The guest's timer runs out at `at`: from then on the worker is kicked until it tells of the next one. */
  #setAlarm(at: bigint | undefined): void {
    clearTimeout(this.#alarm)
    if (at === undefined) return
    const left = Number(at - process.hrtime.bigint()) / 1e6
    const ring = () => {
      if (at - process.hrtime.bigint() > 0n) return this.#setAlarm(at)
      if (this.#running !== undefined) {
        Atomics.compareExchange(this.#shared, STOP_WORD, WANTED.nothing, WANTED.lookAtTimers)
        this.#kick()
      }
      this.#alarm = setTimeout(ring, KICK_EVERY_MS)
      this.#alarm.unref()
    }
    this.#alarm = setTimeout(ring, Math.min(LONGEST_TIMEOUT, Math.max(0, left)))
    this.#alarm.unref()
  }

  /** Writes an image of a guest that stands still. */
  async save(path: string, withFiles = false): Promise<{ memoryBytes: number; totalBytes: number }> {
    return this.#ask({ command: 'save', path, withFiles }, 'saved')
  }

  /** Gives the locks away that a guest which stands still holds on files: where it is sent they are taken again. */
  async letLocksGo(): Promise<void> {
    await this.#ask({ command: 'let locks go' }, 'done')
  }

  /** The guest goes on here after all. @throws LossError when another process has taken one of them meanwhile */
  async takeLocks(): Promise<void> {
    await this.#ask({ command: 'take locks' }, 'done')
  }

  /** Everything but memory, of a guest that stands still: a header without extents, and contents of files and pipes. */
  async describe(
    withFiles: boolean,
  ): Promise<{ header: Uint8Array; contents: ReadonlyMap<number, Uint8Array> }> {
    return this.#ask({ command: 'describe', withFiles }, 'described')
  }

  /** Guest physical memory as it is now, whether the guest runs or not. */
  viewMemory(): Buffer {
    return Buffer.from(this.memory.buffer, 0, this.memory.totalSize)
  }

  /** Begins or ends to note which pages change. @throws HostError for an engine that cannot. */
  async follow(on: boolean): Promise<void> {
    if (this.#stop.engine !== 'kvm')
      throw new HostError('only KVM notes which pages a running guest writes', {
        hint: 'send it without --live',
      })
    const { setMemoryRegion } = await import('../kvm/vcpu.js')
    this.#dirty.fill(0)
    this.#dirty[0] = on ? 1 : 0
    setMemoryRegion(this.#stop.vmFd, this.memory, on)
  }

  /** The pages that changed since the last call, by guest and monitor; the log begins anew. */
  async changedPages(): Promise<number[]> {
    if (this.#stop.engine !== 'kvm') return []
    const { readDirtyLog } = await import('../kvm/vcpu.js')
    const log = readDirtyLog(this.#stop.vmFd, this.memory.totalSize)
    const pages: number[] = []
    for (let word = 0; word < log.length; word++) {
      let bits = log[word]! | Atomics.exchange(this.#dirty, 1 + word, 0)
      for (let bit = 0; bits !== 0; bit++, bits >>>= 1) if ((bits & 1) !== 0) pages.push(word * 32 + bit)
    }
    return pages
  }

  /** True when its thread has ended: nothing would ever answer. */
  get #isDead(): boolean {
    return this.#worker.threadId < 0
  }

  /** Gives everything back to the host; a guest that still runs is stopped first. What a thread that died held goes with the process. */
  async release(): Promise<void> {
    clearTimeout(this.#alarm)
    try {
      await this.stop()
      if (!this.#isDead) await this.#ask({ command: 'release' }, 'done')
    } catch (error) {
      if (!this.#isDead) throw error
    } finally {
      await this.#worker.terminate()
      hostCall(NR.close, this.#wakeFd)
    }
  }
}

const THREAD_ENDED = 'the thread of the guest has ended'

/** The worker's answer; its errors become errors here, of the same class. @throws ImagoError when it ends without one */
export async function nextReply(worker: Worker): Promise<Reply> {
  const reply = await new Promise<Reply>((resolve, reject) => {
    const settle = () => {
      worker.off('message', answered)
      worker.off('error', failed)
      worker.off('exit', ended)
    }
    const answered = (message: Reply) => {
      settle()
      resolve(message)
    }
    const failed = (error: Error) => {
      settle()
      reject(error)
    }
    const ended = () => failed(new ImagoError(THREAD_ENDED))
    worker.on('message', answered)
    worker.on('error', failed)
    worker.on('exit', ended)
  })
  if (reply.kind !== 'failed') return reply
  throw errorNamed(reply.name, reply.message, reply.details)
}
