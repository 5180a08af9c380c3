/**
 * A guest: memory, CPU, open files, and what a kernel would keep for its one process. Everything here is in an
 * image; what is only of this run (the wish to stop, the report) is in `Monitor`.
 */
import { CLOCK_PROCESS_CPUTIME, CLOCK_REALTIME, cpuTimeOffset } from './clocks.js'
import type { VirtualCpu } from './cpu.js'
import type { GuestMemory } from './guest-memory.js'
import type { OpenFiles } from './open-files.js'
import { PendingSignals } from './pending-signals.js'

export interface SignalAction {
  handler: bigint
  flags: bigint
  restorer: bigint
  mask: bigint
}

/** The timers of setitimer(2) by number: their clocks, and SIGALRM, SIGVTALRM, SIGPROF. VIRTUAL and PROF both count all of the CPU time. */
export const INTERVAL_TIMERS = [
  { clock: CLOCK_REALTIME, signal: 14 },
  { clock: CLOCK_PROCESS_CPUTIME, signal: 26 },
  { clock: CLOCK_PROCESS_CPUTIME, signal: 27 },
] as const

export interface Timer {
  /** As in clock_gettime(2). */
  readonly clock: number
  /** Raised when it runs out; undefined: nothing is (SIGEV_NONE). */
  readonly signal: number | undefined
  /** Told with the signal (sigev_value). */
  readonly value: bigint
  /** When it runs out, nanoseconds: the host's CLOCK_MONOTONIC, or the guest's CPU time. Undefined: it does not run. */
  at: bigint | undefined
  /** 0: once. */
  interval: bigint
  /** How often it ran out beyond the first time before its last signal was taken (timer_getoverrun). */
  overrun: number
}

export const newTimer = (clock: number, signal: number | undefined, value: bigint): Timer => ({
  ...{ clock, signal, value, at: undefined, interval: 0n, overrun: 0 },
})

/** Those of setitimer, which are always there. */
const intervalTimers = (): Map<number, Timer> =>
  new Map(INTERVAL_TIMERS.map(({ clock, signal }, key) => [key, newTimer(clock, signal, 0n)]))

/** The kernel's view of the process. Sizes in bytes, addresses of the guest. */
export interface ProcessState {
  /** As the guest was called: argv[0] of the command line. */
  name: string
  brkStart: number
  brk: number
  umask: number
  clearTid: bigint
  signalMask: bigint
  readonly pending: PendingSignals
  actions: Map<number, SignalAction>
  /** sigaltstack(2); flags as given (2 is SS_DISABLE). */
  alternateStack: { address: bigint; flags: number; size: bigint }
  /** Set while the program stands at a call whose wait was cut short, to make it again: what is left of it, ns, or `FOREVER`. */
  waitLeft: bigint | undefined
  /** Those of setitimer(2) and of timer_create(2), by their keys (timers.ts). */
  readonly timers: Map<number, Timer>
  /** Added to the CPU time of the thread that runs the guest, it gives the guest's own (clocks.ts). */
  cpuTimeOffset: bigint
  /** The mask that a call which waits with another one (sigsuspend, ppoll) has put aside; never set while the guest runs. */
  maskPutAside: bigint | undefined
  /** The program chooses code by CPU (glibc): its image is bound to CPUs that can do as much as `cpuFeatures`. */
  boundToCpu: boolean
  /** What it may have seen of CPUs (cpu-features.ts). */
  cpuFeatures: readonly string[]
}

/** Of a wait that only an event ends. */
export const FOREVER = (1n << 63n) - 1n

/** The state of a process before its program is loaded. */
export function newProcess(name: string): ProcessState {
  return {
    name,
    brkStart: 0,
    brk: 0,
    umask: 0o022,
    clearTid: 0n,
    signalMask: 0n,
    pending: new PendingSignals(),
    actions: new Map(),
    alternateStack: { address: 0n, flags: 2, size: 0n },
    waitLeft: undefined,
    timers: intervalTimers(),
    cpuTimeOffset: cpuTimeOffset(0n),
    maskPutAside: undefined,
    boundToCpu: false,
    cpuFeatures: [],
  }
}

export interface Guest {
  readonly memory: GuestMemory
  readonly cpu: VirtualCpu
  readonly files: OpenFiles
  readonly process: ProcessState
  readonly host: HostSide
}

/** What system calls need of this run. */
export interface HostSide {
  /** Waits until a host descriptor is ready for `events` of poll(2), or the time is over: false.
   * @throws Interrupted when the guest is to stop: the call will be made again. */
  wait(hostFd: number | undefined, events: number, timeoutNs: bigint | undefined): boolean
  /** poll(2) on `count` of the host's pollfd, answers included; the same otherwise. */
  poll(set: Buffer, count: number, timeoutNs: bigint | undefined): number
  /** When the CPU is to be kicked (the host's CLOCK_MONOTONIC, ns); undefined: not at all. */
  setAlarm(at: bigint | undefined): void
}

/** A call that waits is to end, because the guest is to stop or a signal came: `Monitor` decides how. */
export class Interrupted extends Error {
  /** What is left of the wait, ns. */
  readonly left: bigint
  constructor(left = FOREVER) {
    super('interrupted')
    this.left = left
  }
}

/** The guest has ended. */
export class GuestExit extends Error {
  readonly code: number
  /** The signal that killed it. */
  readonly signal: number | undefined
  constructor(code: number, signal?: number) {
    super('guest exit')
    this.code = code
    this.signal = signal
  }
}

/** System call 400. */
export class SaveRequested extends Error {}
