/**
 * The loop of the monitor: run the program until it wants something, do it, go on. It runs in a worker and blocks it;
 * the main thread asks it to stop through a shared word, and by kicking the CPU (`StopHandle`).
 */
import { R } from '../../isa/x86-64-kvm.js'
import { hex } from '../../lib/bytes.js'
import { CLOCK_MONOTONIC, clockNow } from './clocks.js'
import { hasChosenItsCode } from './cpu-features.js'
import { showPending } from './event-files.js'
import { FOREVER, type Guest, GuestExit, type HostSide, Interrupted, SaveRequested } from './guest.js'
import { BadAddress } from './guest-memory.js'
import { hostCall } from './libc.js'
import { Protection } from './mappings.js'
import {
  deliverFault,
  deliverPending,
  endsCall,
  type FaultInfo,
  handles,
  nextSignal,
  SYSCALL_LENGTH,
  signalOfVector,
  tellRest,
} from './signals.js'
import { STOP_WORD, WANTED } from './stop-word.js'
import { systemCalls } from './syscalls/index.js'
import { type Arguments, E } from './syscalls/table.js'
import { serviceTimers } from './timers.js'
import { describeArguments, traceLine } from './trace.js'

/** Why the loop ended. The guest stands in canonical state. */
export type Outcome =
  | { readonly kind: 'exit'; readonly code: number; readonly signal?: number | undefined }
  | { readonly kind: 'fault'; readonly fault: FaultInfo; readonly code: number }
  /** System call 400. Its result is its number: rax stays as it is. */
  | { readonly kind: 'save-requested' }
  | { readonly kind: 'stopped' }

export interface Counters {
  systemCalls: number
  /** Unknown calls by number: how often. */
  unknown: Map<number, number>
  /** Page faults that the mappings allow: only the translation was old. */
  spuriousFaults: number
}

const ERROR_WRITE = 2
const ERROR_FETCH = 16

export class Monitor {
  readonly counters: Counters = { systemCalls: 0, unknown: new Map(), spuriousFaults: 0 }
  readonly #guest: Guest
  readonly #shared: Int32Array
  /** Takes a line of the trace; undefined: no trace. */
  readonly #trace: ((line: string) => void) | undefined
  readonly #unknownSeen: (line: string) => void

  constructor(guest: Guest, shared: Int32Array, trace?: (line: string) => void) {
    this.#guest = guest
    this.#shared = shared
    this.#trace = trace
    this.#unknownSeen = trace ?? (() => {})
    const { pending } = guest.process
    pending.onChange = () => showPending(guest.files, pending.mask)
    pending.onChange()
  }

  run(): Outcome {
    const { cpu } = this.#guest
    try {
      this.#lookAtTimers()
      for (;;) {
        const exit = cpu.run()
        if (exit.kind === 'syscall') this.#systemCall()
        else if (exit.kind === 'fault') {
          const outcome = this.#fault(exit)
          if (outcome !== undefined) return outcome
        }
        const wanted = this.#wanted
        if (wanted === WANTED.stop && hasChosenItsCode(this.#guest)) {
          cpu.settle()
          return { kind: 'stopped' }
        }
        if (wanted === WANTED.lookAtTimers) this.#lookAtTimers()
      }
    } catch (error) {
      if (error instanceof GuestExit) return { kind: 'exit', code: error.code, signal: error.signal }
      if (error instanceof SaveRequested) return { kind: 'save-requested' }
      if (error instanceof Interrupted) return { kind: 'stopped' }
      throw error
    }
  }

  get #wanted(): number {
    return Atomics.load(this.#shared, STOP_WORD)
  }

  #lookAtTimers(): void {
    Atomics.compareExchange(this.#shared, STOP_WORD, WANTED.lookAtTimers, WANTED.nothing)
    serviceTimers(this.#guest)
    this.#deliver()
  }

  #deliver(): void {
    if (this.#guest.process.pending.mask === 0n) return
    this.#guest.cpu.settle()
    deliverPending(this.#guest)
  }

  #systemCall(): void {
    const guest = this.#guest
    const { registers } = guest.cpu
    this.counters.systemCalls++
    const nr = Number(BigInt.asIntN(64, registers[R.rax]!))
    const call = systemCalls.get(nr)
    if (call === undefined) {
      this.counters.unknown.set(nr, (this.counters.unknown.get(nr) ?? 0) + 1)
      this.#unknownSeen(`VM_APP - SYSCALL ${nr} - return ${-E.ENOSYS} (unknown)`)
      registers[R.rax] = BigInt.asUintN(64, BigInt(-E.ENOSYS))
      return
    }
    const a = [R.rdi, R.rsi, R.rdx, R.r10, R.r8, R.r9].map(index => registers[index]!) as unknown as Arguments
    const words = this.#trace === undefined ? '' : describeArguments(guest, call, a)
    let result: number | bigint
    try {
      result = call.call(guest, a)
      // A signal to the monitor's thread: not a matter of the guest, or what it waits for.
      if (result === -E.EINTR) throw new Interrupted()
    } catch (error) {
      if (error instanceof BadAddress) result = -E.EFAULT
      else if (error instanceof Interrupted) {
        const ended = this.#interrupted(nr, error.left)
        if (ended === undefined) return
        result = ended
      } else {
        if (error instanceof GuestExit || error instanceof SaveRequested)
          this.#trace?.(traceLine(call, words, undefined))
        guest.cpu.settle()
        throw error
      }
    }
    guest.process.waitLeft = undefined
    this.#trace?.(traceLine(call, words, result))
    registers[R.rax] = BigInt.asUintN(64, BigInt(result))
    this.#deliver()
  }

  /**
   * A call that waits was interrupted. Returns −EINTR when a handler of the guest is to run and the call ends with it;
   * undefined: it will be made again, for what is left. @throws Interrupted when the guest is to stop
   */
  #interrupted(nr: number, left: bigint): number | undefined {
    const { cpu, process } = this.#guest
    const stop = this.#wanted === WANTED.stop
    if (!stop) {
      Atomics.compareExchange(this.#shared, STOP_WORD, WANTED.lookAtTimers, WANTED.nothing)
      serviceTimers(this.#guest)
      const signal = nextSignal(this.#guest)
      if (signal !== undefined && endsCall(this.#guest, nr, signal)) {
        tellRest(this.#guest, left)
        return -E.EINTR
      }
    }
    if (process.maskPutAside !== undefined) process.signalMask = process.maskPutAside
    process.maskPutAside = undefined
    cpu.settle()
    cpu.registers[R.rip] = cpu.registers[R.rip]! - SYSCALL_LENGTH
    process.waitLeft = left
    if (stop) throw new Interrupted()
    this.#deliver()
    return undefined
  }

  #fault(fault: FaultInfo): Outcome | undefined {
    const guest = this.#guest
    if (fault.vector === 14 && this.#isSpurious(fault)) {
      this.counters.spuriousFaults++
      return undefined
    }
    const signal = signalOfVector(fault.vector)
    if (handles(guest, signal)) {
      deliverFault(guest, signal, fault)
      return undefined
    }
    return { kind: 'fault', fault, code: 128 + signal }
  }

  /** True when the mappings allow the access: the CPU used a translation from before. */
  #isSpurious(fault: FaultInfo): boolean {
    const mapping = this.#guest.memory.mappings.at(Number(fault.address))
    if (mapping === undefined) return false
    const needed =
      (fault.errorCode & ERROR_FETCH) !== 0
        ? Protection.execute
        : (fault.errorCode & ERROR_WRITE) !== 0
          ? Protection.write
          : Protection.read
    if ((mapping.protection & needed) === 0) return false
    if (this.#lastSpurious === fault.address && ++this.#spuriousInARow > 100) return false
    if (this.#lastSpurious !== fault.address) this.#spuriousInARow = 0
    this.#lastSpurious = fault.address
    return true
  }

  #lastSpurious = -1n
  #spuriousInARow = 0
}

/**
 * What the guest sees of this run. `wakeFd` is an eventfd that the main thread writes when the loop is to stop; `setAlarm`
 * tells the main thread when to kick the CPU.
 */
export function hostSide(shared: Int32Array, wakeFd: number, setAlarm: HostSide['setAlarm']): HostSide {
  const poll: HostSide['poll'] = (set, count, timeoutNs) => {
    const whole = Buffer.alloc((count + 1) * 8)
    whole.set(set.subarray(0, count * 8))
    whole.writeInt32LE(wakeFd, count * 8)
    whole.writeInt16LE(1, count * 8 + 4)
    const time = Buffer.alloc(16)
    if (timeoutNs !== undefined) {
      time.writeBigInt64LE(timeoutNs / 1_000_000_000n, 0)
      time.writeBigInt64LE(timeoutNs % 1_000_000_000n, 8)
    }
    if (Atomics.load(shared, STOP_WORD) !== WANTED.nothing) throw new Interrupted(timeoutNs)
    const end = clockNow(CLOCK_MONOTONIC) + (timeoutNs ?? 0n)
    const result = hostCall(271, whole, count + 1, timeoutNs === undefined ? 0 : time, 0, 8) // ppoll
    if (
      result < 0 ||
      whole.readInt16LE(count * 8 + 6) !== 0 ||
      Atomics.load(shared, STOP_WORD) !== WANTED.nothing
    ) {
      const left = end - clockNow(CLOCK_MONOTONIC)
      throw new Interrupted(timeoutNs === undefined ? FOREVER : left > 0n ? left : 0n)
    }
    set.set(whole.subarray(0, count * 8))
    return result
  }
  return {
    poll,
    setAlarm,
    wait(hostFd, events, timeoutNs) {
      const set = Buffer.alloc(8)
      set.writeInt32LE(hostFd ?? -1, 0)
      set.writeInt16LE(events, 4)
      poll(set, 1, timeoutNs)
      return set.readInt16LE(6) !== 0
    },
  }
}

/** A fault of the guest in words: what, where, the instruction's bytes, and the way back along the frame pointers. */
export function faultReport(guest: Guest, fault: FaultInfo, name: string): string[] {
  const { registers } = guest.cpu
  const rip = registers[R.rip]!
  const lines = [
    `${name} at rip ${hex(rip)}${fault.vector === 14 ? `: ${accessOf(fault)} ${hex(fault.address)} (${whatLiesAt(guest, fault.address)})` : ''}`,
    `  instruction bytes: ${bytesAt(guest, rip)}`,
  ]
  const trail: string[] = []
  let frame = registers[R.rbp]!
  for (let depth = 0; depth < 16; depth++) {
    try {
      const next = guest.memory.u64(frame)
      const back = guest.memory.u64(frame + 8n)
      const mapping = guest.memory.mappings.at(Number(back))
      if (mapping === undefined || (mapping.protection & Protection.execute) === 0) break
      trail.push(hex(back))
      if (next <= frame) break
      frame = next
    } catch {
      break
    }
  }
  if (trail.length > 0) lines.push(`  called from: ${trail.join(' ')}`)
  return lines
}

function accessOf(fault: FaultInfo): string {
  if ((fault.errorCode & ERROR_FETCH) !== 0) return 'execution of'
  return (fault.errorCode & ERROR_WRITE) !== 0 ? 'write to' : 'read of'
}

function whatLiesAt(guest: Guest, address: bigint): string {
  const mapping =
    address < BigInt(guest.memory.memorySize) ? guest.memory.mappings.at(Number(address)) : undefined
  if (mapping === undefined) return 'not mapped'
  const letters = ['r', 'w', 'x']
    .map((letter, bit) => (mapping.protection & (1 << bit) ? letter : '-'))
    .join('')
  return `${mapping.name || 'anonymous'}, ${letters}`
}

function bytesAt(guest: Guest, address: bigint): string {
  if (address >= BigInt(guest.memory.memorySize)) return 'none: outside of memory'
  const at = Number(address)
  const there = guest.memory.mappings.allowed(at, 16, Protection.execute)
  return there === 0
    ? 'none: not executable'
    : guest.memory.bytes.toString('hex', at, at + there).replace(/(..)(?=.)/g, '$1 ')
}
