/** What a microvm image holds, as records: the meaning of each field. header.ts has the layout, sections.ts the bytes. */

export interface CpuRecord {
  /** 18 × u64, struct kvm_regs. */
  registers: BigUint64Array
  /** struct kvm_sregs. */
  special: Uint8Array
  msrs: Array<{ index: number; value: bigint }>
  xcr0: bigint
  xsave: Uint8Array
  /** CPU features (as /proc/cpuinfo names them) without which the program may not go on. */
  features: string
}

export interface ProcessRecord {
  engine: string
  name: string
  rootFolder: string
  workingDirectory: string
  readOnly: boolean
  umask: number
  brkStart: bigint
  brk: bigint
  clearTid: bigint
  signalMask: bigint
  /** Bit n−1: signal n is pending; `MicroVmRecord.pending` says more of each. */
  pendingSignals: bigint
  alternateStack: { address: bigint; size: bigint; flags: number }
  /** What is left of a wait that the save cut short, nanoseconds; 2^63−1: without an end; −1: nothing waits. */
  waitLeft: bigint
  /** Nanoseconds since 1970. */
  savedAt: bigint
}

export interface SignalRecord {
  signal: number
  handler: bigint
  flags: bigint
  restorer: bigint
  mask: bigint
}

export interface MappingRecord {
  start: bigint
  end: bigint
  protection: number
  name: string
}

export const fileKinds = [
  ...['standard', 'regular', 'directory', 'pipe-read', 'pipe-write'],
  // What is in them is their content (engines/microvm/event-files.ts).
  ...['eventfd', 'timerfd', 'epoll', 'signalfd'],
] as const

export interface FileRecord {
  kind: number
  flags: number
  mode: number
  /** Shared by the two ends of a pipe; −1: no pipe. */
  pipe: number
  offset: bigint
  size: bigint
  /** Nanoseconds since 1970. */
  mtime: bigint
  /** Where its first bytes stood in guest memory when they were written; 0: unknown. */
  writtenFrom: bigint
  /** Content in the image: offset 0 when it is not there. */
  contentOffset: bigint
  contentLength: bigint
  contentDigest: Uint8Array
  /** Absolute within the root. */
  path: string
  /** As the guest spelt it. */
  name: string
}

export interface DescriptorRecord {
  fd: number
  file: number
  closeOnExec: number
}

export interface ExtentRecord {
  address: bigint
  length: bigint
  /** CRC-32 of the bytes. */
  crc: number
}

/** A timer of setitimer(2), nanoseconds. */
export interface TimerRecord {
  /** 0: it does not run. */
  left: bigint
  /** 0: once. */
  interval: bigint
}

/** What the program has used of CPUs, nanoseconds, and its timers of that. */
export interface CpuTimeRecord {
  used: bigint
  virtual: TimerRecord
  profiling: TimerRecord
}

/** A timer of timer_create(2), nanoseconds. */
export interface CreatedTimerRecord extends TimerRecord {
  id: number
  /** As in clock_gettime(2). */
  clock: number
  /** 0: none is raised. */
  signal: number
  /** sigev_value. */
  value: bigint
  overrun: number
}

/** A pending signal as siginfo_t tells of it. */
export interface PendingRecord {
  signal: number
  code: number
  /** si_pid, or the id of a timer. */
  sender: number
  /** si_uid, or overruns of a timer. */
  detail: number
  value: bigint
}

export const lockKinds = ['fcntl', 'flock'] as const

/** A lock that the guest holds. */
export interface LockRecord {
  /** Index of the open file. */
  file: number
  /** Of `lockKinds`. */
  kind: number
  /** 0 shared, 1 exclusive. */
  exclusive: number
  start: bigint
  /** 0: to the end of the file, however long it gets. */
  length: bigint
}

export interface MicroVmRecord {
  /** H is at least this: a receiver chooses where memory lies before it knows the sections. */
  leastHeader?: number
  memoryBytes: bigint
  usableBytes: bigint
  cpu: CpuRecord
  process: ProcessRecord
  signals: SignalRecord[]
  mappings: MappingRecord[]
  files: FileRecord[]
  descriptors: DescriptorRecord[]
  extents: ExtentRecord[]
  /** A section that only an image with a running timer of real time has. */
  realTimer?: TimerRecord | undefined
  cpuTime?: CpuTimeRecord | undefined
  /** Sections that only images have which need them. */
  timers?: CreatedTimerRecord[] | undefined
  pending?: PendingRecord[] | undefined
  locks?: LockRecord[] | undefined
  /** Sections of a kind that this version does not know. */
  unknown: Array<{ kind: number; bytes: Uint8Array }>
}
