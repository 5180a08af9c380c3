/**
 * What an engine gives the monitor: one virtual CPU that runs a program in ring 3 until something happens.
 *
 * The state of a CPU that stands still is always canonical: ring 3, rip at the next instruction of the program,
 * whatever way the engine got out of it. So the state of one engine is the state of the other.
 */

import { hex } from '../../lib/bytes.js'
import { HostError } from '../../lib/errors.js'
import type { GuestMemory } from './guest-memory.js'

/** Why `run` returned. */
export type CpuExit =
  /** A system call: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9. */
  | { readonly kind: 'syscall' }
  /** An exception of the program; rip is at the instruction. `address` is CR2 for a page fault. */
  | { readonly kind: 'fault'; readonly vector: number; readonly errorCode: number; readonly address: bigint }
  /** Somebody asked for it. */
  | { readonly kind: 'stopped' }

/** All that a CPU is, in canonical form. */
export interface CpuState {
  /** In the order of `registerNames`. */
  readonly registers: BigUint64Array
  readonly fsBase: bigint
  readonly gsBase: bigint
  /** XSAVE area with the offsets of `STANDARD_XSAVE`, at least 576 bytes. */
  readonly xsave: Uint8Array
  readonly xcr0: bigint
}

export interface VirtualCpu {
  readonly engine: 'kvm' | 'unicorn'
  /** Valid after each exit; written before the next run. In the order of `registerNames`. */
  readonly registers: BigUint64Array
  fsBase: bigint
  gsBase: bigint
  run(): CpuExit
  /** After a system call exit: makes rip and rflags those of the instruction after it. */
  settle(): void
  readState(): CpuState
  writeState(state: CpuState): void
  /** What another thread needs to stop `run`. */
  readonly stopHandle: StopHandle
  release(): void
}

/** Numbers only: they travel to the main thread, which stops the CPU with them. */
export type StopHandle =
  | { readonly engine: 'kvm'; readonly vmFd: number; readonly runAddress: bigint; readonly tid: number }
  | { readonly engine: 'unicorn'; readonly flag: bigint; readonly tid: number }

/** How an engine makes a CPU over a memory. */
export type CpuFactory = (memory: GuestMemory) => VirtualCpu

/** A state at the start of a program: everything zero but the two pointers; SSE and x87 as after FNINIT. Engines cut `xcr0` to what they have. */
export function initialState(entry: number, stackPointer: number, xcr0 = 0xe7n): CpuState {
  const registers = new BigUint64Array(18)
  registers[16] = BigInt(entry)
  registers[6] = BigInt(stackPointer)
  registers[17] = 2n
  return { registers, fsBase: 0n, gsBase: 0n, xsave: initialXsave(), xcr0 }
}

/** AVX, and the three of AVX-512. */
const VECTOR_COMPONENTS = 0xe4n

/** An XSAVE area as after FNINIT: x87 and SSE in use, all exceptions masked. */
export function initialXsave(): Uint8Array {
  const xsave = new Uint8Array(4096)
  const view = new DataView(xsave.buffer)
  view.setUint16(0, 0x37f, true) // FCW
  view.setUint32(24, 0x1f80, true) // MXCSR
  view.setBigUint64(512, 3n, true) // XSTATE_BV: x87 and SSE
  return xsave
}

const XSTATE_BV = 512
/** Where the components beyond SSE begin, and beyond AVX: standard format (Intel SDM 1, 13.4). */
const AVX_OFFSET = 576
const BEYOND_AVX_OFFSET = 832

/**
 * Leaves in an XSAVE area only what `xcr0` allows: the kernel also hands out what belongs to the host or to it alone
 * (protection keys), and takes nothing that its CPU does not have. x87 and SSE are always there.
 * @throws HostError when vector registers are in use that `xcr0` lacks.
 */
export function fitXsave(xsave: Uint8Array, xcr0: bigint): Uint8Array {
  const fitted = xsave.slice()
  const view = new DataView(fitted.buffer, fitted.byteOffset, fitted.length)
  const used = view.getBigUint64(XSTATE_BV, true)
  view.setBigUint64(XSTATE_BV, (used & xcr0) | 3n, true)
  const from = (xcr0 & 4n) === 0n ? AVX_OFFSET : BEYOND_AVX_OFFSET
  if ((used & VECTOR_COMPONENTS & ~xcr0) !== 0n && fitted.subarray(from).some(byte => byte !== 0))
    throw new HostError('the guest uses vector registers that the CPU of this host does not have', {
      found: `XSAVE components ${hex(used)}`,
      expected: `only ${hex(xcr0)}`,
    })
  return fitted
}
