/**
 * A virtual machine of /dev/kvm with one slot of memory and one virtual CPU: what every guest of KVM needs, however it
 * begins. General and special registers travel in struct kvm_run (KVM_CAP_SYNC_REGS), so that an exit costs one ioctl.
 */
import fs from 'node:fs'
import os from 'node:os'
import koffi from 'koffi'
import { REGS_SIZE, SREGS_OFFSET, SREGS_SIZE } from '../../isa/x86-64-kvm.js'
import { XSAVE_SIZE } from '../../isa/x86-64-xsave.js'
import { HostError, ImagoError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { StopHandle } from '../microvm/cpu.js'
import { hostCall, MAP_SHARED, mapMemory, NR, PROT_READ, PROT_WRITE, viewOf } from '../microvm/libc.js'
import { EXIT, KVM, MEM_LOG_DIRTY_PAGES, RUN, SYNC } from './ioctl.js'

/** struct kvm_cpuid2: count u32, padding, then entries of 40 bytes. */
const CPUID_ENTRY = 40
const MOST_CPUID_ENTRIES = 256

const libc = koffi.load('libc.so.6')
export const ioctl = libc.func('int ioctl(int fd, unsigned long request, uintptr_t argument)') as unknown as (
  fd: number,
  request: number,
  argument: number | bigint,
) => number

export class Vcpu {
  readonly engine = 'kvm'
  /** In struct kvm_run: valid after each exit. */
  readonly registers: BigUint64Array
  readonly stopHandle: StopHandle
  /** struct kvm_run. */
  protected readonly runView: DataView
  /** struct kvm_sregs within it. */
  protected readonly specialBytes: Uint8Array
  protected readonly special: DataView
  /** Which registers the next KVM_RUN takes over from us. */
  protected dirty = 0
  readonly #kvm: number
  readonly #vm: number
  readonly #vcpu: number
  readonly #runAddress: bigint
  readonly #runBytes: Buffer

  /**
   * @param memory what is at guest physical address 0
   * @param tssAddress where VMX may put a TSS of its own while the guest is in real mode
   * @throws HostError where /dev/kvm is missing, denied or too old
   */
  constructor(memory: { base: bigint; totalSize: number }, tssAddress?: number) {
    this.#kvm = openKvm()
    this.#vm = check(ioctl(this.#kvm, KVM.CREATE_VM, 0), 'KVM_CREATE_VM')
    if (tssAddress !== undefined) ioctl(this.#vm, KVM.SET_TSS_ADDR, tssAddress) // SVM knows it not
    setMemoryRegion(this.#vm, memory, false)
    this.#vcpu = check(ioctl(this.#vm, KVM.CREATE_VCPU, 0), 'KVM_CREATE_VCPU')
    const runSize = check(ioctl(this.#kvm, KVM.GET_VCPU_MMAP_SIZE, 0), 'KVM_GET_VCPU_MMAP_SIZE')
    this.#runAddress = mapMemory(0n, runSize, PROT_READ | PROT_WRITE, MAP_SHARED, this.#vcpu)
    const run = viewOf(this.#runAddress, runSize)
    this.#runBytes = run
    this.runView = new DataView(run.buffer, run.byteOffset, run.length)
    this.registers = new BigUint64Array(run.buffer, run.byteOffset + RUN.registers, REGS_SIZE / 8)
    this.specialBytes = run.subarray(RUN.specialRegisters, RUN.specialRegisters + SREGS_SIZE)
    this.special = new DataView(run.buffer, run.byteOffset + RUN.specialRegisters, SREGS_SIZE)
    this.stopHandle = {
      engine: 'kvm',
      vmFd: this.#vm,
      runAddress: this.#runAddress,
      tid: hostCall(NR.gettid),
    }
    this.runView.setBigUint64(RUN.validRegisters, BigInt(SYNC.registers | SYNC.specialRegisters), true)
  }

  /** A request to the virtual CPU about what is at an address, or in `bytes`. @throws HostError */
  protected ask(request: number, what: string, about: Uint8Array | bigint): number {
    const address = typeof about === 'bigint' ? about : koffi.address(about)
    return check(ioctl(this.#vcpu, request, address), what)
  }

  /** Passes on all CPU features that KVM supports; returns the entries of struct kvm_cpuid_entry2. */
  protected offerCpuFeatures(): Buffer[] {
    const cpuid = Buffer.alloc(8 + MOST_CPUID_ENTRIES * CPUID_ENTRY)
    cpuid.writeUInt32LE(MOST_CPUID_ENTRIES, 0)
    check(ioctl(this.#kvm, KVM.GET_SUPPORTED_CPUID, koffi.address(cpuid)), 'KVM_GET_SUPPORTED_CPUID')
    this.ask(KVM.SET_CPUID2, 'KVM_SET_CPUID2', cpuid)
    return Array.from({ length: cpuid.readUInt32LE(0) }, (_, i) =>
      cpuid.subarray(8 + i * CPUID_ENTRY, 8 + (i + 1) * CPUID_ENTRY),
    )
  }

  /** KVM_RUN; returns the exit reason, `interrupted` for a signal. */
  protected enter(): number {
    this.runView.setUint32(RUN.dirtyRegisters, this.dirty, true)
    this.dirty = 0
    if (ioctl(this.#vcpu, KVM.RUN, 0) >= 0) return this.runView.getUint32(RUN.exitReason, true)
    const errno = koffi.errno()
    if (errno !== os.constants.errno.EINTR) throw new ImagoError(`KVM_RUN failed: errno ${errno}`)
    this.runView.setUint8(RUN.immediateExit, 0)
    return EXIT.interrupted
  }

  /** The privilege level that the CPU stands at. */
  protected get ring(): number {
    return this.special.getUint8(SREGS_OFFSET.csDpl)
  }

  get fsBase(): bigint {
    return this.special.getBigUint64(SREGS_OFFSET.fsBase, true)
  }
  set fsBase(value: bigint) {
    this.special.setBigUint64(SREGS_OFFSET.fsBase, value, true)
    this.dirty |= SYNC.specialRegisters
  }
  get gsBase(): bigint {
    return this.special.getBigUint64(SREGS_OFFSET.gsBase, true)
  }
  set gsBase(value: bigint) {
    this.special.setBigUint64(SREGS_OFFSET.gsBase, value, true)
    this.dirty |= SYNC.specialRegisters
  }

  /** What KVM has into struct kvm_run. */
  protected pullSpecialRegisters(): void {
    this.ask(KVM.GET_SREGS, 'KVM_GET_SREGS', this.#runAddress + BigInt(RUN.specialRegisters))
  }

  /** The registers of struct kvm_run to KVM, at once. */
  protected pushRegisters(): void {
    this.ask(KVM.SET_SREGS, 'KVM_SET_SREGS', this.#runAddress + BigInt(RUN.specialRegisters))
    this.ask(KVM.SET_REGS, 'KVM_SET_REGS', this.#runAddress + BigInt(RUN.registers))
    this.dirty = 0 // the first KVM_RUN must not find any
  }

  /** struct kvm_xsave: the area as the host's CPU lays it out. */
  protected getXsave(): Buffer {
    const xsave = Buffer.alloc(XSAVE_SIZE)
    this.ask(KVM.GET_XSAVE, 'KVM_GET_XSAVE', xsave)
    return xsave
  }
  protected setXsave(area: Uint8Array): void {
    const xsave = Buffer.alloc(XSAVE_SIZE)
    xsave.set(area)
    this.ask(KVM.SET_XSAVE, 'KVM_SET_XSAVE', xsave)
  }

  release(): void {
    hostCall(NR.munmap, this.#runAddress, this.#runBytes.length)
    for (const fd of [this.#vcpu, this.#vm]) hostCall(NR.close, fd)
    fs.closeSync(this.#kvm)
  }
}

function check(result: number, what: string): number {
  if (result < 0) throw new HostError(`${what} failed: errno ${koffi.errno()}`)
  return result
}

/** Descriptor of /dev/kvm. @throws HostError */
function openKvm(): number {
  try {
    return fs.openSync('/dev/kvm', 'r+')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new HostError(code === 'EACCES' ? '/dev/kvm is there, but denied' : '/dev/kvm is missing', {
      hint:
        code === 'EACCES'
          ? 'add yourself to the group kvm, or use --engine unicorn (slow)'
          : 'load the module kvm_intel or kvm_amd, or use --engine unicorn (slow)',
    })
  }
}

/** Slot 0 is all of guest physical memory, from 0 on. */
export function setMemoryRegion(
  vmFd: number,
  memory: { base: bigint; totalSize: number },
  logDirty: boolean,
): void {
  const region = Buffer.alloc(32) // slot u32, flags u32, guest address, size, host address: u64 each
  region.writeUInt32LE(logDirty ? MEM_LOG_DIRTY_PAGES : 0, 4)
  region.writeBigUInt64LE(BigInt(memory.totalSize), 16)
  region.writeBigUInt64LE(memory.base, 24)
  check(ioctl(vmFd, KVM.SET_USER_MEMORY_REGION, koffi.address(region)), 'KVM_SET_USER_MEMORY_REGION')
}

/** The pages of slot 0 that the guest wrote since the last call, a bit a page. */
export function readDirtyLog(vmFd: number, totalSize: number): Uint32Array {
  // The kernel counts in u64 words.
  const bitmap = new Uint32Array(Math.ceil(totalSize / PAGE_SIZE / 64) * 2)
  const bytes = Buffer.from(bitmap.buffer)
  const request = Buffer.alloc(16) // slot u32, padding, address of the bitmap
  request.writeBigUInt64LE(koffi.address(bytes), 8)
  check(ioctl(vmFd, KVM.GET_DIRTY_LOG, koffi.address(request)), 'KVM_GET_DIRTY_LOG')
  return bitmap.subarray(0, Math.ceil(totalSize / PAGE_SIZE / 32))
}
