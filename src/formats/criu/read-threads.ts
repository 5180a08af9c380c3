/**
 * core-<tid>.img → threads, signals, timers, limits and credentials.
 * Dumps before CRIU 2.0 keep signals, timers, limits and credentials in files of their own, with the same records.
 */
import { limitNames } from '../../isa/linux.js'
import { UnreadableError } from '../../lib/errors.js'
import type { MessageOf } from '../../lib/protobuf-schema.js'
import type {
  Credentials,
  IntervalTimer,
  IsaName,
  PendingSignal,
  PosixTimer,
  ResourceLimit,
  SignalAction,
  Thread,
} from '../../model/process.js'
import type { CriuDirectory } from './directory.js'
import { readAarch64Registers, readX86Registers } from './registers.js'
import { core_entry_march } from './schema/enums.js'
import {
  type core_entry,
  creds_entry,
  itimer_entry,
  posix_timer_entry,
  rlimit_entry,
  sa_entry,
  siginfo_entry,
} from './schema/tasks.js'

export type Core = MessageOf<typeof core_entry>

/** `task_state` as criu writes it, which is not what its own tool calls it (see `schema/display.ts`). */
export const TaskState = { alive: 1, zombie: 2, stopped: 3 } as const

const SIGKILL = 9
const SIGSTOP = 19
/** Field 15 of `task_core_entry` holds the actions of signals 1 to 64 without SIGKILL and SIGSTOP, which have none. */
export const signalsWithActions = Array.from({ length: 64 }, (_, i) => i + 1).filter(
  signal => signal !== SIGKILL && signal !== SIGSTOP,
)

/** @throws UnreadableError for an ISA that imago shows at the record level only. */
export function isaOf(core: Core): IsaName {
  const name = core_entry_march.names.get(core.mtype)
  if (name === 'X86_64') return 'x86-64'
  if (name === 'AARCH64') return 'aarch64'
  throw new UnreadableError('a CRIU image of an ISA that imago has no model of', {
    found: name ?? `machine type ${core.mtype}`,
    expected: 'X86_64 or AARCH64',
    hint: "its records can be seen with 'imago criu show FILE'",
  })
}

/** @param process the core of the process, for what threads inherit in old dumps. */
export function readThread(tid: number, core: Core, process: Core): Thread {
  const own = core.thread_core
  const info = core.thread_info ?? core.ti_aarch64
  if (info === undefined) throw new UnreadableError(`thread ${tid} has no registers`)
  const sas = own?.sas
  const rseq = own?.rseq_entry
  return {
    tid,
    name: own?.comm ?? core.tc?.comm ?? process.tc?.comm ?? '',
    registers: core.thread_info ? readX86Registers(core.thread_info) : readAarch64Registers(core.ti_aarch64!),
    signalMask: own?.blk_sigset ?? core.tc?.blk_sigset ?? 0n,
    pendingSignals: (own?.signals_p?.signals ?? []).map(readSignal),
    alternateStack: sas && { address: sas.ss_sp, size: sas.ss_size, flags: sas.ss_flags },
    clearTidAddress: info.clear_tid_addr,
    robustList: own && { head: own.futex_rla, length: own.futex_rla_len },
    rseq: rseq && {
      address: rseq.rseq_abi_pointer,
      length: rseq.rseq_abi_size,
      signature: rseq.signature,
    },
  }
}

function readSignal({ siginfo }: { readonly siginfo: Uint8Array }): PendingSignal {
  // si_signo is the first word of siginfo_t.
  const signal = siginfo.length < 4 ? 0 : new DataView(siginfo.buffer, siginfo.byteOffset).getInt32(0, true)
  return { signal, info: siginfo }
}

export function readProcessSignals(
  directory: CriuDirectory,
  pid: number,
  core: Core,
): readonly PendingSignal[] {
  const signals = core.tc?.signals_s?.signals ?? directory.messages(`signal-s-${pid}.img`, siginfo_entry)
  return signals.map(readSignal)
}

export function readSignalActions(
  directory: CriuDirectory,
  pid: number,
  core: Core,
): ReadonlyMap<number, SignalAction> {
  const inCore = core.tc?.sigactions ?? []
  const actions = inCore.length > 0 ? inCore : directory.messages(`sigacts-${pid}.img`, sa_entry)
  return new Map(
    actions
      .slice(0, signalsWithActions.length)
      .map(({ sigaction, flags, restorer, mask }, i) => [
        signalsWithActions[i]!,
        { handler: sigaction, flags, restorer, mask },
      ]),
  )
}

const NANOSECONDS = 1_000_000_000n

export function readIntervalTimers(
  directory: CriuDirectory,
  pid: number,
  core: Core,
): readonly IntervalTimer[] {
  const timers = core.tc?.timers
  const records = timers
    ? [timers.real, timers.virt, timers.prof]
    : directory.messages(`itimers-${pid}.img`, itimer_entry)
  const kinds = ['real', 'virtual', 'profiling'] as const
  return records.slice(0, kinds.length).flatMap((timer, i) => {
    const remaining = timer.vsec * NANOSECONDS + timer.vusec * 1000n
    const interval = timer.isec * NANOSECONDS + timer.iusec * 1000n
    return remaining === 0n && interval === 0n ? [] : [{ which: kinds[i]!, remaining, interval }]
  })
}

export function readPosixTimers(directory: CriuDirectory, pid: number, core: Core): readonly PosixTimer[] {
  const records = core.tc?.timers?.posix ?? directory.messages(`posix-timers-${pid}.img`, posix_timer_entry)
  return records.map(timer => ({
    id: timer.it_id,
    clock: timer.clock_id,
    signal: timer.si_signo,
    notify: timer.it_sigev_notify,
    value: timer.sival_ptr,
    remaining: timer.vsec * NANOSECONDS + timer.vnsec,
    interval: timer.isec * NANOSECONDS + timer.insec,
    overrun: timer.overrun,
  }))
}

export function readLimits(
  directory: CriuDirectory,
  pid: number,
  core: Core,
): ReadonlyMap<string, ResourceLimit> {
  const records = core.tc?.rlimits?.rlimits ?? directory.messages(`rlimit-${pid}.img`, rlimit_entry)
  return new Map(records.map(({ cur, max }, i) => [limitNames[i] ?? `${i}`, { soft: cur, hard: max }]))
}

export function readCredentials(directory: CriuDirectory, pid: number, core: Core): Credentials | undefined {
  const creds = core.thread_core?.creds ?? directory.messages(`creds-${pid}.img`, creds_entry)[0]
  return (
    creds && {
      uid: creds.uid,
      gid: creds.gid,
      effectiveUid: creds.euid,
      effectiveGid: creds.egid,
      groups: creds.groups,
      capabilities: {
        effective: capabilitySet(creds.cap_eff),
        permitted: capabilitySet(creds.cap_prm),
        inheritable: capabilitySet(creds.cap_inh),
        bounding: capabilitySet(creds.cap_bnd),
        ambient: capabilitySet(creds.cap_amb),
      },
    }
  )
}

/** CRIU keeps a set as words of 32 bits, the lowest first. */
function capabilitySet(words: readonly number[]): bigint {
  return words.reduce((set, word, i) => set | (BigInt(word >>> 0) << BigInt(32 * i)), 0n)
}
