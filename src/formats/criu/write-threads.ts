/**
 * Threads, signals, timers, limits and credentials → core-<tid>.img: the other direction of `read-threads.ts`.
 * Every function takes the record that the image was read from, when there is one: what the model does not hold
 * (scheduling, control groups, seccomp, …) stays as it was.
 */
import { limitNames } from '../../isa/linux.js'
import type { IsaName, Process, Thread } from '../../model/process.js'
import { type Core, signalsWithActions, TaskState } from './read-threads.js'
import { writeAarch64Registers, writeX86Registers } from './registers.js'
import { core_entry_march } from './schema/enums.js'

type TaskCore = NonNullable<Core['tc']>
type ThreadCore = NonNullable<Core['thread_core']>
type Credentials = NonNullable<ThreadCore['creds']>
type Timers = NonNullable<TaskCore['timers']>

const NANOSECONDS = 1_000_000_000n
/** SS_DISABLE of sigaltstack(2). */
const SS_DISABLE = 2
const NO_LOGIN_UID = 0xffff_ffff

/** @param thread undefined for a zombie. */
export function writeCore(
  isa: IsaName,
  process: Process,
  thread: Thread | undefined,
  base: Core | undefined,
): Core {
  const sameIsa = base !== undefined && (isa === 'x86-64' ? base.thread_info : base.ti_aarch64) !== undefined
  const { thread_info: x86, ti_aarch64: aarch64, ...rest } = base ?? ({} as Core)
  const isMain = thread === undefined || thread.tid === process.pid
  const registers = thread && {
    ...(isa === 'x86-64'
      ? {
          thread_info: writeX86Registers(thread.registers, thread.clearTidAddress, sameIsa ? x86 : undefined),
        }
      : {
          ti_aarch64: writeAarch64Registers(
            thread.registers,
            thread.clearTidAddress,
            sameIsa ? aarch64 : undefined,
          ),
        }),
    thread_core: writeThreadCore(thread, process, base?.thread_core),
  }
  return {
    ...rest,
    mtype: core_entry_march.numbers.get(isa === 'x86-64' ? 'X86_64' : 'AARCH64')!,
    ...registers,
    ...(isMain && { tc: writeTask(process, thread, base?.tc) }),
  }
}

function writeTask(process: Process, thread: Thread | undefined, base: TaskCore | undefined): TaskCore {
  return {
    ...(base ?? { personality: 0, flags: 0, loginuid: NO_LOGIN_UID, oom_score_adj: 0 }),
    task_state: TaskState[process.state],
    exit_code: process.exitStatus ?? 0,
    blk_sigset: thread?.signalMask ?? base?.blk_sigset ?? 0n,
    comm: process.name,
    ...(thread && {
      timers: writeTimers(process, base?.timers),
      rlimits: { ...base?.rlimits, rlimits: writeLimits(process) },
      signals_s: {
        ...base?.signals_s,
        signals: process.pendingSignals.map(({ info }) => ({ siginfo: info })),
      },
    }),
    sigactions: thread === undefined ? (base?.sigactions ?? []) : writeSignalActions(process, base),
  }
}

function writeSignalActions(process: Process, base: TaskCore | undefined): TaskCore['sigactions'] {
  // Dumps before CRIU 2.0 have them elsewhere; without any, all are the default: criu wants every one.
  if (process.signalActions.size === 0 && base !== undefined) return base.sigactions
  return signalsWithActions.map((signal, i) => {
    const action = process.signalActions.get(signal)
    return {
      ...base?.sigactions[i],
      sigaction: action?.handler ?? 0n,
      flags: action?.flags ?? 0n,
      restorer: action?.restorer ?? 0n,
      mask: action?.mask ?? 0n,
    }
  })
}

function writeTimers(process: Process, base: Timers | undefined): Timers {
  const interval = (which: 'real' | 'virtual' | 'profiling') => {
    const timer = process.intervalTimers.find(each => each.which === which)
    const every = timer?.interval ?? 0n
    const left = timer?.remaining ?? 0n
    return {
      isec: every / NANOSECONDS,
      iusec: (every % NANOSECONDS) / 1000n,
      vsec: left / NANOSECONDS,
      vusec: (left % NANOSECONDS) / 1000n,
    }
  }
  return {
    real: { ...base?.real, ...interval('real') },
    virt: { ...base?.virt, ...interval('virtual') },
    prof: { ...base?.prof, ...interval('profiling') },
    posix: process.posixTimers.map(timer => ({
      ...base?.posix.find(each => each.it_id === timer.id),
      it_id: timer.id,
      clock_id: timer.clock,
      si_signo: timer.signal,
      it_sigev_notify: timer.notify,
      sival_ptr: timer.value,
      overrun: timer.overrun,
      isec: timer.interval / NANOSECONDS,
      insec: timer.interval % NANOSECONDS,
      vsec: timer.remaining / NANOSECONDS,
      vnsec: timer.remaining % NANOSECONDS,
    })),
  }
}

function writeLimits({ limits }: Process): { cur: bigint; max: bigint }[] {
  const unlimited = { soft: 0xffff_ffff_ffff_ffffn, hard: 0xffff_ffff_ffff_ffffn }
  return limits.size === 0
    ? []
    : limitNames.map(name => {
        const { soft, hard } = limits.get(name) ?? unlimited
        return { cur: soft, max: hard }
      })
}

function writeThreadCore(thread: Thread, process: Process, base: ThreadCore | undefined): ThreadCore {
  const { alternateStack: stack, robustList, rseq } = thread
  return {
    ...(base ?? { sched_nice: 0, sched_policy: 0 }),
    futex_rla: robustList?.head ?? 0n,
    futex_rla_len: robustList?.length ?? 0,
    ...(thread.tid !== process.pid || base?.blk_sigset !== undefined
      ? { blk_sigset: thread.signalMask }
      : {}),
    sas: {
      ...base?.sas,
      ss_sp: stack?.address ?? 0n,
      ss_size: stack?.size ?? 0n,
      ss_flags: stack?.flags ?? SS_DISABLE,
    },
    signals_p: {
      ...base?.signals_p,
      signals: thread.pendingSignals.map(({ info }) => ({ siginfo: info })),
    },
    ...(process.credentials && { creds: writeCredentials(process.credentials, base?.creds) }),
    comm: thread.name,
    ...((rseq ?? base?.rseq_entry) && {
      rseq_entry: {
        ...base?.rseq_entry,
        rseq_abi_pointer: rseq?.address ?? 0n,
        rseq_abi_size: rseq?.length ?? 0,
        signature: rseq?.signature ?? 0,
      },
    }),
  }
}

function writeCredentials(
  { uid, gid, effectiveUid, effectiveGid, groups, capabilities }: NonNullable<Process['credentials']>,
  base: Credentials | undefined,
): Credentials {
  const none = [0, 0]
  return {
    suid: effectiveUid,
    sgid: effectiveGid,
    fsuid: effectiveUid,
    fsgid: effectiveGid,
    secbits: 0,
    cap_inh: none,
    cap_prm: none,
    cap_eff: none,
    cap_bnd: none,
    cap_amb: none,
    ...base,
    uid,
    gid,
    euid: effectiveUid,
    egid: effectiveGid,
    groups,
    ...(capabilities && {
      cap_eff: capabilityWords(capabilities.effective, base?.cap_eff),
      cap_prm: capabilityWords(capabilities.permitted, base?.cap_prm),
      cap_inh: capabilityWords(capabilities.inheritable, base?.cap_inh),
      cap_bnd: capabilityWords(capabilities.bounding, base?.cap_bnd),
      cap_amb: capabilityWords(capabilities.ambient, base?.cap_amb),
    }),
  }
}

/** As many words as the record had, two in a new one. */
function capabilityWords(set: bigint, before: readonly number[] | undefined): number[] {
  return Array.from({ length: before?.length ?? 2 }, (_, i) => Number((set >> BigInt(32 * i)) & 0xffff_ffffn))
}
