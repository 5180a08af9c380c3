/**
 * The neutral model of frozen processes: what the kernel keeps for a process tree, whatever tool froze it.
 * Readers fill it, writers empty it, `retarget` maps one to another. What a format holds beyond it stays
 * reachable through `origin`, so that a writer of the same format can put it back.
 *
 *   ProcessImage ─┬─ processes[] ─┬─ threads[]   registers, signal mask, per-thread pointers
 *                 │               ├─ mappings[]  what the address space looks like
 *                 │               ├─ memory      the bytes that the image holds
 *                 │               ├─ signals, timers, limits, credentials
 *                 │               └─ files[]     fd → description id
 *                 └─ descriptions    open files, shared by all that inherited them
 */
import type { Address, Memory } from './memory.js'

export type IsaName = 'x86-64' | 'aarch64'

export interface ProcessImage {
  readonly isa: IsaName
  /** Parents before their children; the first is the root. */
  readonly processes: readonly Process[]
  /** Open file descriptions by id, shared between descriptors and processes. */
  readonly descriptions: ReadonlyMap<number, FileDescription>
  readonly origin: Origin
}

/** Where an image came from, and the raw records it was read from, for a writer of the same format. */
export interface Origin {
  /** Name of the format in the registry. */
  readonly format: string
  readonly path: string
  /** Kernel release, tool version, capture time: what the format says of them. */
  readonly notes: Readonly<Record<string, string>>
  readonly raw?: unknown
}

export interface Process {
  readonly pid: number
  readonly parent: number
  readonly processGroup: number
  readonly session: number
  /** The kernel's short name (15 bytes). */
  readonly name: string
  /** Path of the executable, or undefined when the image does not say. */
  readonly executable: string | undefined
  readonly state: 'alive' | 'stopped' | 'zombie'
  /** For a zombie: the exit status as wait(2) encodes it. */
  readonly exitStatus?: number
  readonly threads: readonly Thread[]
  /** Sorted by start. */
  readonly mappings: readonly Mapping[]
  readonly memory: Memory
  readonly layout: AddressSpaceLayout
  readonly files: readonly FileDescriptor[]
  readonly workingDirectory: string | undefined
  readonly rootDirectory: string | undefined
  /** File mode creation mask; undefined when the image does not say. */
  readonly umask: number | undefined
  readonly signalActions: ReadonlyMap<number, SignalAction>
  /** Pending for the whole process. */
  readonly pendingSignals: readonly PendingSignal[]
  readonly intervalTimers: readonly IntervalTimer[]
  readonly posixTimers: readonly PosixTimer[]
  readonly limits: ReadonlyMap<string, ResourceLimit>
  readonly credentials: Credentials | undefined
}

/** The marks of prctl(PR_SET_MM_MAP): where the kernel thinks the parts of the address space are. */
export interface AddressSpaceLayout {
  readonly startCode: Address
  readonly endCode: Address
  readonly startData: Address
  readonly endData: Address
  readonly startStack: Address
  readonly startBrk: Address
  readonly brk: Address
  readonly argStart: Address
  readonly argEnd: Address
  readonly envStart: Address
  readonly envEnd: Address
  /** The auxiliary vector as (type, value) pairs, AT_NULL left out. */
  readonly auxv: ReadonlyArray<readonly [type: bigint, value: bigint]>
}

export type MappingKind =
  | 'anonymous'
  | 'file'
  | 'heap'
  | 'stack'
  | 'vdso'
  | 'vvar'
  | 'vsyscall'
  | 'memfd'
  | 'sysv'
  | 'device'

export interface Mapping {
  readonly start: Address
  /** First address after the mapping. */
  readonly end: Address
  readonly read: boolean
  readonly write: boolean
  readonly execute: boolean
  readonly shared: boolean
  readonly kind: MappingKind
  /** For file, memfd and sysv mappings: what is mapped, and from which byte offset. */
  readonly file?: { readonly path: string; readonly offset: bigint; readonly deleted: boolean }
  readonly growsDown: boolean
  /** madvise and mlock marks that stick: 'hugepage', 'nohugepage', 'dontfork', 'dontdump', 'mergeable', 'locked', 'wipeonfork'. */
  readonly advice: readonly string[]
}

export interface Thread {
  readonly tid: number
  readonly name: string
  readonly registers: RegisterSet
  readonly signalMask: bigint
  readonly pendingSignals: readonly PendingSignal[]
  readonly alternateStack: AlternateStack | undefined
  /** Address the kernel clears when the thread ends (set_tid_address). */
  readonly clearTidAddress: Address
  readonly robustList: { readonly head: Address; readonly length: number } | undefined
  readonly rseq:
    | { readonly address: Address; readonly length: number; readonly signature: number }
    | undefined
}

/**
 * Registers by the names of `src/isa/` (the table of each ISA lists them in order).
 * x86-64: rax … r15, rip, rflags, cs, ss, ds, es, fs, gs, fs_base, gs_base, orig_rax.
 * aarch64: x0 … x30, sp, pc, pstate, tpidr_el0.
 */
export interface RegisterSet {
  readonly general: ReadonlyMap<string, bigint>
  readonly vector: X86VectorState | Aarch64VectorState | undefined
}

/** x87, SSE and later, free of any layout: the 512-byte FXSAVE image and each XSAVE component by its number (Intel SDM 1, 13.1). */
export interface X86VectorState {
  readonly isa: 'x86-64'
  /** FXSAVE image, 512 bytes (Intel SDM 1, table 10-2). */
  readonly fxsave: Uint8Array
  /** XSTATE_BV: which components are not in their initial state. */
  readonly inUse: bigint
  /** Component number → its bytes: 2 AVX (256), 5 opmask (64), 6 ZMM_Hi256 (512), 7 Hi16_ZMM (1024), 9 PKRU (8). */
  readonly components: ReadonlyMap<number, Uint8Array>
}

export interface Aarch64VectorState {
  readonly isa: 'aarch64'
  /** V0–V31, 128 bits each. */
  readonly v: readonly bigint[]
  readonly fpsr: number
  readonly fpcr: number
}

export interface AlternateStack {
  readonly address: Address
  readonly size: bigint
  readonly flags: number
}

export interface SignalAction {
  /** Handler address; 0 is SIG_DFL, 1 is SIG_IGN. */
  readonly handler: Address
  readonly flags: bigint
  readonly restorer: Address
  readonly mask: bigint
}

export interface PendingSignal {
  readonly signal: number
  /** The kernel's siginfo_t, 128 bytes. */
  readonly info: Uint8Array
}

/** setitimer(2). Times in nanoseconds. */
export interface IntervalTimer {
  readonly which: 'real' | 'virtual' | 'profiling'
  readonly remaining: bigint
  readonly interval: bigint
}

/** timer_create(2). Times in nanoseconds. */
export interface PosixTimer {
  readonly id: number
  readonly clock: number
  readonly signal: number
  readonly notify: number
  readonly value: bigint
  readonly remaining: bigint
  readonly interval: bigint
  readonly overrun: number
}

export interface ResourceLimit {
  /** 2^64-1 is unlimited. */
  readonly soft: bigint
  readonly hard: bigint
}

export interface Credentials {
  readonly uid: number
  readonly gid: number
  readonly effectiveUid: number
  readonly effectiveGid: number
  readonly groups: readonly number[]
  /** Capability sets, bit n for CAP number n; undefined when the image does not say. */
  readonly capabilities?: Capabilities
}

export interface Capabilities {
  readonly effective: bigint
  readonly permitted: bigint
  readonly inheritable: bigint
  readonly bounding: bigint
  readonly ambient: bigint
}

export interface FileDescriptor {
  readonly fd: number
  readonly closeOnExec: boolean
  /** Key into `ProcessImage.descriptions`. */
  readonly description: number
}

/** One open file description (POSIX): what several descriptors may share. */
export interface FileDescription {
  readonly kind:
    | 'regular'
    | 'directory'
    | 'pipe'
    | 'fifo'
    | 'terminal'
    | 'character-device'
    | 'block-device'
    | 'unix-socket'
    | 'inet-socket'
    | 'netlink-socket'
    | 'eventfd'
    | 'timerfd'
    | 'signalfd'
    | 'epoll'
    | 'inotify'
    | 'fanotify'
    | 'memfd'
    | 'pidfd'
    | 'namespace'
    | 'other'
  /** Path, or a description such as `pipe:[4711]`. */
  readonly path: string | undefined
  /** O_* flags in the numbering of the image's ISA. */
  readonly flags: number
  readonly offset: bigint
  /** Size the file had when frozen, for regular files. */
  readonly size?: bigint
  readonly mode?: number
  readonly deleted: boolean
  /** Anything particular to the kind, as a person wants to read it: counter, peer, state, watched paths. */
  readonly details: Readonly<Record<string, string>>
}
