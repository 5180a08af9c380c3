/**
 * A virtual CPU of /dev/kvm.
 *
 *   ring 3 program ── syscall ──► LSTAR: out 0x10 ──► exit ──► monitor
 *                  ── fault ────► IDT:   out 0x11 ──► exit ──► monitor
 *
 * Ordinary KVM (VMX, SVM) enters the LSTAR stub at CPL 0, and the program goes on by its sysretq. Nested PVM
 * enters it still at CPL 3, where sysretq faults: there rip and rflags are set to rcx and r11 instead. Which of the
 * two it is, a probe finds out before the program runs.
 *
 * General registers travel in struct kvm_run (KVM_CAP_SYNC_REGS), so that an exit costs one ioctl.
 */
import fs from 'node:fs'
import koffi from 'koffi'
import { specialRegistersFor } from '../../formats/microvm/guest-cpu.js'
import {
  AREA,
  CONTROL,
  FAULT_PORT,
  FAULT_STUB_SIZE,
  SYSCALL_PORT,
} from '../../formats/microvm/guest-layout.js'
import { exceptionsWithErrorCode, MSR, R, REGS_SIZE, SREGS_OFFSET, SREGS_SIZE } from '../../isa/x86-64-kvm.js'
import { rearrangeXsave, STANDARD_XSAVE, XSAVE_SIZE, type XsaveComponent } from '../../isa/x86-64-xsave.js'
import { hex } from '../../lib/bytes.js'
import { HostError, ImagoError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import {
  type CpuExit,
  type CpuState,
  fitXsave,
  initialXsave,
  type StopHandle,
  type VirtualCpu,
} from '../microvm/cpu.js'
import type { GuestMemory } from '../microvm/guest-memory.js'
import { hostCall, MAP_SHARED, mapMemory, NR, PROT_READ, PROT_WRITE, viewOf } from '../microvm/libc.js'
import { EXIT, exitNames, KVM, MEM_LOG_DIRTY_PAGES, RUN, SYNC } from './ioctl.js'

const EINTR = 4
/** x87, SSE, AVX, and the three of AVX-512: what a program may use of XSAVE. */
const XCR0_WANTED = 0xe7n

const libc = koffi.load('libc.so.6')
export const ioctl = libc.func('int ioctl(int fd, unsigned long request, uintptr_t argument)')

export class KvmCpu implements VirtualCpu {
  readonly engine = 'kvm'
  readonly registers: BigUint64Array
  readonly stopHandle: StopHandle
  readonly #memory: GuestMemory
  readonly #kvm: number
  readonly #vm: number
  readonly #vcpu: number
  readonly #run: DataView
  readonly #runBytes: Buffer
  readonly #runAddress: bigint
  readonly #special: DataView
  readonly #specialBytes: Uint8Array
  readonly #xcr0: bigint
  /** Where this host's CPU keeps the components of XSAVE. */
  readonly #xsaveLayout = new Map<number, XsaveComponent>()
  /** True on nested PVM: the stub is entered at CPL 3. */
  #entersAtRing3 = false
  /** rip of the system call that `settle` has not settled yet. */
  #inSyscall = false

  /** @throws HostError where /dev/kvm is missing, denied or too old. */
  constructor(memory: GuestMemory) {
    this.#memory = memory
    this.#kvm = openKvm()
    this.#vm = this.#check(ioctl(this.#kvm, KVM.CREATE_VM, 0), 'KVM_CREATE_VM')
    this.setDirtyLog(false)
    this.#vcpu = this.#check(ioctl(this.#vm, KVM.CREATE_VCPU, 0), 'KVM_CREATE_VCPU')
    const runSize = this.#check(ioctl(this.#kvm, KVM.GET_VCPU_MMAP_SIZE, 0), 'KVM_GET_VCPU_MMAP_SIZE')
    this.#runAddress = mapMemory(0n, runSize, PROT_READ | PROT_WRITE, MAP_SHARED, this.#vcpu)
    const run = viewOf(this.#runAddress, runSize)
    this.#runBytes = run
    this.#run = new DataView(run.buffer, run.byteOffset, run.length)
    this.registers = new BigUint64Array(run.buffer, run.byteOffset + RUN.registers, REGS_SIZE / 8)
    this.#specialBytes = run.subarray(RUN.specialRegisters, RUN.specialRegisters + SREGS_SIZE)
    this.#special = new DataView(run.buffer, run.byteOffset + RUN.specialRegisters, SREGS_SIZE)
    this.stopHandle = {
      engine: 'kvm',
      vmFd: this.#vm,
      runAddress: this.#runAddress,
      tid: hostCall(NR.gettid),
    }
    this.#xcr0 = this.#offerCpuFeatures()
    this.#setModelSpecificRegisters()
    this.#run.setBigUint64(RUN.validRegisters, BigInt(SYNC.registers | SYNC.specialRegisters), true)
    this.#probeRingOfSyscall()
  }

  /** True where a system call arrives in ring 3 (nested PVM): nothing there can run in ring 0. */
  get entersAtRing3(): boolean {
    return this.#entersAtRing3
  }

  #check(result: number, what: string): number {
    if (result < 0) throw new HostError(`${what} failed: errno ${koffi.errno()}`)
    return result
  }

  /** The kernel notes which pages the guest writes, or stops noting. */
  setDirtyLog(on: boolean): void {
    setMemoryRegion(this.#vm, this.#memory, on)
  }

  /** Passes on all that KVM supports; returns the XCR0 that goes with it. */
  #offerCpuFeatures(): bigint {
    const cpuid = Buffer.alloc(8 + 256 * 40)
    cpuid.writeUInt32LE(256, 0)
    this.#check(ioctl(this.#kvm, KVM.GET_SUPPORTED_CPUID, koffi.address(cpuid)), 'KVM_GET_SUPPORTED_CPUID')
    this.#check(ioctl(this.#vcpu, KVM.SET_CPUID2, koffi.address(cpuid)), 'KVM_SET_CPUID2')
    let xcr0 = 3n
    // struct kvm_cpuid_entry2: function, index, flags, eax, ebx, …
    for (let i = 0, at = 8; i < cpuid.readUInt32LE(0); i++, at += 40) {
      if (cpuid.readUInt32LE(at) !== 0xd) continue
      const component = cpuid.readUInt32LE(at + 4)
      const eax = cpuid.readUInt32LE(at + 12)
      if (component === 0) xcr0 = BigInt(eax)
      else if (STANDARD_XSAVE.has(component))
        this.#xsaveLayout.set(component, { size: eax, offset: cpuid.readUInt32LE(at + 16) })
    }
    return (xcr0 & XCR0_WANTED) | 3n
  }

  #setXcr0(value: bigint): void {
    const xcrs = Buffer.alloc(392) // nr_xcrs, flags, 16 × {xcr, reserved, value u64}, padding
    xcrs.writeUInt32LE(1, 0)
    xcrs.writeBigUInt64LE(value, 16)
    this.#check(ioctl(this.#vcpu, KVM.SET_XCRS, koffi.address(xcrs)), 'KVM_SET_XCRS')
  }

  #setModelSpecificRegisters(): void {
    const lstar = BigInt(this.#memory.memorySize + AREA.syscallStub)
    const wanted = [
      [MSR.STAR, CONTROL.star],
      [MSR.LSTAR, lstar],
      [MSR.SFMASK, CONTROL.sfmask],
    ] as const
    const msrs = Buffer.alloc(8 + wanted.length * 16)
    msrs.writeUInt32LE(wanted.length, 0)
    for (const [i, [index, value]] of wanted.entries()) {
      msrs.writeUInt32LE(index, 8 + i * 16)
      msrs.writeBigUInt64LE(value, 16 + i * 16)
    }
    const done = this.#check(ioctl(this.#vcpu, KVM.SET_MSRS, koffi.address(msrs)), 'KVM_SET_MSRS')
    if (done !== wanted.length) throw new HostError(`KVM refused MSR ${hex(wanted[done]![0])}`)
  }

  /** Runs one `syscall` from a page of the monitor and looks at which privilege level it arrives. */
  #probeRingOfSyscall(): void {
    const memory = this.#memory
    const page = memory.memorySize + AREA.syscallStub
    memory.bytes.set([0x0f, 0x05], page + 0x10)
    this.writeState({
      registers: probeRegisters(page + 0x10),
      fsBase: 0n,
      gsBase: 0n,
      xsave: initialXsave(),
      xcr0: this.#xcr0,
    })
    const exit = this.#enter()
    if (exit !== EXIT.io || this.#run.getUint16(RUN.ioPort, true) !== SYSCALL_PORT)
      throw new HostError(`this KVM does not run a guest in ring 3: ${exitNames[exit] ?? exit}`)
    this.#entersAtRing3 = this.#special.getUint8(SREGS_OFFSET.csDpl) === 3
    memory.bytes.fill(0, page + 0x10, page + 0x12)
  }

  /** KVM_RUN; returns the exit reason, `interrupted` for a signal. */
  #enter(): number {
    if (ioctl(this.#vcpu, KVM.RUN, 0) < 0) {
      const errno = koffi.errno()
      if (errno === EINTR) return EXIT.interrupted
      throw new ImagoError(`KVM_RUN failed: errno ${errno}`)
    }
    return this.#run.getUint32(RUN.exitReason, true)
  }

  run(): CpuExit {
    const run = this.#run
    if (this.#inSyscall && this.#entersAtRing3) this.settle()
    this.#inSyscall = false
    let dirty: number = SYNC.registers
    for (;;) {
      run.setUint32(RUN.dirtyRegisters, dirty | this.#specialDirty, true)
      this.#specialDirty = 0
      const exit = this.#enter()
      dirty = 0
      if (exit === EXIT.io) {
        const port = run.getUint16(RUN.ioPort, true)
        if (port === SYSCALL_PORT) {
          this.#inSyscall = true
          return { kind: 'syscall' }
        }
        if (port === FAULT_PORT) return this.#fault()
      }
      if (exit !== EXIT.interrupted) this.#unexpected(exit)
      run.setUint8(RUN.immediateExit, 0)
      // Within the monitor's own stubs nothing can be saved: a few instructions on, there is an exit.
      if (this.registers[R.rip]! < BigInt(this.#memory.memorySize)) return { kind: 'stopped' }
      if (this.#special.getUint8(SREGS_OFFSET.csDpl) === 0 && this.#atSysret()) {
        this.#inSyscall = true
        this.settle()
        return { kind: 'stopped' }
      }
    }
  }

  #specialDirty = 0

  #atSysret(): boolean {
    return this.registers[R.rip] === BigInt(this.#memory.memorySize + AREA.syscallStub + 2)
  }

  settle(): void {
    if (!this.#inSyscall) return
    this.#inSyscall = false
    this.registers[R.rip] = this.registers[R.rcx]!
    this.registers[R.rflags] = this.registers[R.r11]!
    if (!this.#entersAtRing3) this.#backToRing3()
  }

  #backToRing3(): void {
    specialRegistersInto(this.#specialBytes, this.#memory, this.fsBase, this.gsBase)
    this.#specialDirty = SYNC.specialRegisters
  }

  /** Reads the exception frame that the CPU pushed, and goes back to where it came from. */
  #fault(): CpuExit {
    const { registers } = this
    const memory = this.#memory
    const stub = Number(registers[R.rip]!) - memory.memorySize - AREA.faultStubs
    const vector = Math.floor(stub / FAULT_STUB_SIZE)
    const address = this.#special.getBigUint64(SREGS_OFFSET.cr2, true)
    let frame = Number(registers[R.rsp]!)
    if (vector < 0 || vector > 255 || frame < memory.memorySize || frame + 48 > memory.layout.totalSize)
      throw new ImagoError("the guest reached the monitor's fault port by itself", {
        address: registers[R.rip],
      })
    let errorCode = 0
    if (exceptionsWithErrorCode.has(vector)) {
      errorCode = memory.view.getUint32(frame, true)
      frame += 8
    }
    registers[R.rip] = memory.view.getBigUint64(frame, true)
    registers[R.rflags] = memory.view.getBigUint64(frame + 16, true)
    registers[R.rsp] = memory.view.getBigUint64(frame + 24, true)
    this.#backToRing3()
    return { kind: 'fault', vector, errorCode, address }
  }

  #unexpected(exit: number): never {
    const detail =
      exit === EXIT.internalError || exit === EXIT.failEntry
        ? `, reason ${this.#run.getUint32(RUN.subReason, true)}`
        : exit === EXIT.mmio
          ? ` at ${hex(this.#run.getBigUint64(RUN.mmioAddress, true))}`
          : exit === EXIT.io
            ? `, port ${hex(this.#run.getUint16(RUN.ioPort, true))}`
            : ''
    throw new ImagoError(`the guest ended with ${exitNames[exit] ?? `exit ${exit}`}${detail}`, {
      address: this.registers[R.rip],
    })
  }

  get fsBase(): bigint {
    return this.#special.getBigUint64(SREGS_OFFSET.fsBase, true)
  }
  set fsBase(value: bigint) {
    this.#special.setBigUint64(SREGS_OFFSET.fsBase, value, true)
    this.#specialDirty = SYNC.specialRegisters
  }
  get gsBase(): bigint {
    return this.#special.getBigUint64(SREGS_OFFSET.gsBase, true)
  }
  set gsBase(value: bigint) {
    this.#special.setBigUint64(SREGS_OFFSET.gsBase, value, true)
    this.#specialDirty = SYNC.specialRegisters
  }

  readState(): CpuState {
    this.settle()
    const xsave = Buffer.alloc(XSAVE_SIZE)
    this.#check(ioctl(this.#vcpu, KVM.GET_XSAVE, koffi.address(xsave)), 'KVM_GET_XSAVE')
    return {
      registers: this.registers.slice(),
      fsBase: this.fsBase,
      gsBase: this.gsBase,
      xsave: fitXsave(rearrangeXsave(xsave, this.#xsaveLayout, STANDARD_XSAVE), this.#xcr0),
      xcr0: this.#xcr0,
    }
  }

  writeState(state: CpuState): void {
    this.#inSyscall = false
    this.#setXcr0(state.xcr0 & this.#xcr0)
    const xsave = Buffer.alloc(XSAVE_SIZE)
    xsave.set(rearrangeXsave(fitXsave(state.xsave, this.#xcr0), STANDARD_XSAVE, this.#xsaveLayout))
    this.#check(ioctl(this.#vcpu, KVM.SET_XSAVE, koffi.address(xsave)), 'KVM_SET_XSAVE')
    this.registers.set(state.registers)
    specialRegistersInto(this.#specialBytes, this.#memory, state.fsBase, state.gsBase)
    this.#check(
      ioctl(this.#vcpu, KVM.SET_SREGS, this.#runAddress + BigInt(RUN.specialRegisters)),
      'KVM_SET_SREGS',
    )
    this.#check(ioctl(this.#vcpu, KVM.SET_REGS, this.#runAddress + BigInt(RUN.registers)), 'KVM_SET_REGS')
  }

  release(): void {
    hostCall(NR.munmap, this.#runAddress, this.#runBytes.length)
    for (const fd of [this.#vcpu, this.#vm]) hostCall(NR.close, fd)
    fs.closeSync(this.#kvm)
  }
}

function probeRegisters(entry: number): BigUint64Array {
  const registers = new BigUint64Array(REGS_SIZE / 8)
  registers[R.rip] = BigInt(entry)
  registers[R.rflags] = 2n
  return registers
}

function specialRegistersInto(into: Uint8Array, memory: GuestMemory, fsBase: bigint, gsBase: bigint): void {
  into.set(specialRegistersFor(memory.layout, fsBase, gsBase))
}

/** Descriptor of /dev/kvm. @throws HostError */
export function openKvm(): number {
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
  memory: { base: bigint; layout: { totalSize: number } },
  logDirty: boolean,
): void {
  const region = Buffer.alloc(32)
  region.writeUInt32LE(logDirty ? MEM_LOG_DIRTY_PAGES : 0, 4)
  region.writeBigUInt64LE(BigInt(memory.layout.totalSize), 16)
  region.writeBigUInt64LE(memory.base, 24)
  if (ioctl(vmFd, KVM.SET_USER_MEMORY_REGION, koffi.address(region)) < 0)
    throw new HostError(`KVM_SET_USER_MEMORY_REGION failed: errno ${koffi.errno()}`)
}

/** The pages of slot 0 that the guest wrote since the last call, a bit a page. */
export function readDirtyLog(vmFd: number, totalSize: number): Uint32Array {
  // The kernel counts in u64 words.
  const bitmap = new Uint32Array(Math.ceil(totalSize / PAGE_SIZE / 64) * 2)
  const bytes = Buffer.from(bitmap.buffer)
  const request = Buffer.alloc(16) // slot u32, padding, address of the bitmap
  request.writeBigUInt64LE(koffi.address(bytes), 8)
  if (ioctl(vmFd, KVM.GET_DIRTY_LOG, koffi.address(request)) < 0)
    throw new HostError(`KVM_GET_DIRTY_LOG failed: errno ${koffi.errno()}`)
  return bitmap.subarray(0, Math.ceil(totalSize / PAGE_SIZE / 32))
}
