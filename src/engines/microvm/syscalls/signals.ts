/** System calls about signals: actions, masks, raising one at oneself, and the return from a handler. */

import { GUEST_PID } from '../clocks.js'
import type { Guest } from '../guest.js'
import { CODE } from '../pending-signals.js'
import { raiseBySelf, returnFromHandler, UNBLOCKABLE } from '../signals.js'
import { type Arguments, E, int, row, type SystemCall } from './table.js'

const SIGKILL = 9
const SIGSTOP = 19
const HOW = { BLOCK: 0, UNBLOCK: 1, SETMASK: 2 } as const

/** struct kernel_sigaction: handler, flags, restorer, mask: u64 each. */
function action(guest: Guest, a: Arguments): number {
  const signal = int(a[0])
  const { memory, process } = guest
  if (signal < 1 || signal > 64 || a[3] !== 8n) return -E.EINVAL
  if (a[1] !== 0n && (signal === SIGKILL || signal === SIGSTOP)) return -E.EINVAL
  const old = process.actions.get(signal) ?? { handler: 0n, flags: 0n, restorer: 0n, mask: 0n }
  const fresh =
    a[1] === 0n
      ? undefined
      : {
          handler: memory.u64(a[1]),
          flags: memory.u64(a[1] + 8n),
          restorer: memory.u64(a[1] + 16n),
          mask: memory.u64(a[1] + 24n),
        }
  if (a[2] !== 0n) {
    const at = memory.writable(a[2], 32)
    for (const [i, word] of [old.handler, old.flags, old.restorer, old.mask].entries())
      memory.view.setBigUint64(at + i * 8, word, true)
  }
  if (fresh !== undefined) process.actions.set(signal, fresh)
  return 0
}

function mask(guest: Guest, a: Arguments): number {
  const { memory, process } = guest
  if (a[3] !== 8n) return -E.EINVAL
  const old = process.signalMask
  if (a[1] !== 0n) {
    const set = memory.u64(a[1])
    const how = int(a[0])
    if (how === HOW.BLOCK) process.signalMask = old | set
    else if (how === HOW.UNBLOCK) process.signalMask = old & ~set
    else if (how === HOW.SETMASK) process.signalMask = set
    else return -E.EINVAL
    process.signalMask &= ~UNBLOCKABLE
  }
  if (a[2] !== 0n) memory.setU64(a[2], old)
  return 0
}

/** stack_t: sp u64, flags i32, padding, size u64. */
function alternateStack(guest: Guest, a: Arguments): number {
  const { memory, process } = guest
  const old = process.alternateStack
  if (a[0] !== 0n) {
    const at = memory.readable(a[0], 24)
    process.alternateStack = {
      address: memory.view.getBigUint64(at, true),
      flags: memory.view.getInt32(at + 8, true),
      size: memory.view.getBigUint64(at + 16, true),
    }
  }
  if (a[1] !== 0n) {
    const at = memory.writable(a[1], 24)
    memory.view.setBigUint64(at, old.address, true)
    memory.view.setBigUint64(at + 8, BigInt(old.flags), true)
    memory.view.setBigUint64(at + 16, old.size, true)
  }
  return 0
}

/** There is only this process: a signal to any other finds nobody. */
function raise(guest: Guest, pid: number, signal: number, code: number): number {
  if (signal < 0 || signal > 64) return -E.EINVAL
  if (pid !== GUEST_PID && pid !== 0 && pid !== -1) return -E.ESRCH
  return signal === 0 || raiseBySelf(guest, signal, code) ? 0 : -E.EAGAIN
}

/** siginfo_t is the program's own, but for the number; what only the kernel says (si_code ≥ 0, tkill) it may not. */
function queue(guest: Guest, pid: number, signal: number, info: bigint): number {
  if (signal < 0 || signal > 64) return -E.EINVAL
  const { memory } = guest
  const at = memory.readable(info, 128)
  const code = memory.view.getInt32(at + 8, true)
  if (pid !== GUEST_PID) return -E.ESRCH
  if (code >= 0 || code === CODE.thread || code === CODE.timer) return -E.EPERM
  const raised = {
    ...{ signal, code },
    sender: memory.view.getInt32(at + 16, true),
    detail: memory.view.getInt32(at + 20, true),
    value: memory.view.getBigUint64(at + 24, true),
  }
  return signal === 0 || guest.process.pending.raise(raised) ? 0 : -E.EAGAIN
}

export const signalCalls: readonly SystemCall[] = [
  row(13, 'rt_sigaction', 'naan', action),
  row(14, 'rt_sigprocmask', 'naan', mask),
  row(15, 'rt_sigreturn', '', guest => returnFromHandler(guest)),
  row(62, 'kill', 'nn', (guest, a) => raise(guest, int(a[0]), int(a[1]), CODE.user)),
  row(127, 'rt_sigpending', 'an', (guest, a) => {
    guest.memory.setU64(a[0], guest.process.pending.mask & guest.process.signalMask)
    return 0
  }),
  row(129, 'rt_sigqueueinfo', 'nna', (guest, a) => queue(guest, int(a[0]), int(a[1]), a[2])),
  row(131, 'sigaltstack', 'aa', alternateStack),
  row(200, 'tkill', 'nn', (guest, a) => raise(guest, int(a[0]), int(a[1]), CODE.thread)),
  row(234, 'tgkill', 'nnn', (guest, a) => raise(guest, int(a[1]), int(a[2]), CODE.thread)),
]
