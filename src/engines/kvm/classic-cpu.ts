/**
 * A virtual CPU that begins as the ScratchVM's does: in real mode at 0x8000, where a flat file of the user's brings it to
 * long mode and enters the program. What is in ring 0 is the guest's own; the monitor sees its `hlt`.
 *
 *   0x8000 bootstrap ── sysretq ──► program in ring 3 ── syscall ──► LSTAR: hlt ──► exit ──► monitor; sysretq
 *
 * The guest has no IDT, so a fault of it ends as a triple fault. Nested PVM cannot run it: there `hlt` at LSTAR is in ring 3.
 */
import fs from 'node:fs'
import koffi from 'koffi'
import { SEED_MEMORY } from '../../formats/scratchvm/seed-layout.js'
import {
  decodeSpecialRegisters,
  encodeSpecialRegisters,
  MSR,
  R,
  REGS_SIZE,
  type SpecialRegisters,
  SREGS_OFFSET,
  SREGS_SIZE,
} from '../../isa/x86-64-kvm.js'
import { XSAVE_SIZE } from '../../isa/x86-64-xsave.js'
import { HostError, ImagoError, UsageError } from '../../lib/errors.js'
import { type CpuExit, type CpuState, fitXsave, type StopHandle, type VirtualCpu } from '../microvm/cpu.js'
import type { GuestMemory } from '../microvm/guest-memory.js'
import { hostCall, MAP_SHARED, mapMemory, NR, PROT_READ, PROT_WRITE, viewOf } from '../microvm/libc.js'
import { Protection } from '../microvm/mappings.js'
import { ioctl, KvmCpu, openKvm } from './cpu.js'
import { EXIT, exitNames, KVM, RUN, SYNC } from './ioctl.js'

type Segments = SpecialRegisters['segments']

const BOOT_ADDRESS = 0x8000
const PROGRAM_ADDRESS = 0x9000
/** VMX wants a place for a TSS of its own while the guest is in real mode: below the BIOS, out of the way. */
const TSS_ADDRESS = 0xfffbd000
const SYSRET = [0x48, 0x0f, 0x07]
/** Of XSAVE, what a guest without CR4.OSXSAVE has. */
const X87_AND_SSE = 3n
const EINTR = 4
/** Kicks come every 4 ms: so long may ring 0 take. */
const MOST_KICKS_IN_RING_0 = 500

/**
 * Puts the bootstrap beside a program that is loaded, and makes the CPU that begins there.
 * @throws HostError where this KVM cannot, UsageError for a bootstrap that does not fit
 */
export function bootClassic(
  memory: GuestMemory,
  bootFile: string,
  entry: number,
  stackPointer: number,
): VirtualCpu {
  const probe = new KvmCpu(memory)
  probe.release()
  if (probe.entersAtRing3)
    throw new HostError("this host's KVM is nested PVM: it cannot run the bootstrap's hlt in ring 0", {
      hint: 'leave --boot out: imago vm run --seed-image PROGRAM enters long mode directly',
    })
  let boot: Buffer
  try {
    boot = fs.readFileSync(bootFile)
  } catch (cause) {
    throw new UsageError('the bootstrap cannot be read', { file: bootFile, cause })
  }
  if (boot.length === 0 || boot.length > PROGRAM_ADDRESS - BOOT_ADDRESS)
    throw new UsageError('the bootstrap does not fit between 0x8000 and the program at 0x9000', {
      file: bootFile,
      found: `${boot.length} bytes`,
      expected: `at most ${PROGRAM_ADDRESS - BOOT_ADDRESS}`,
    })
  memory.map(0, PROGRAM_ADDRESS, Protection.read | Protection.write | Protection.execute, 'bootstrap')
  memory.bytes.set(boot, BOOT_ADDRESS)
  // There is no more memory than this: brk and mmap find none.
  memory.map(SEED_MEMORY, memory.memorySize, Protection.none, 'beyond the ScratchVM')
  return new ClassicCpu(memory, entry, stackPointer)
}

class ClassicCpu implements VirtualCpu {
  readonly engine = 'kvm'
  readonly registers: BigUint64Array
  readonly stopHandle: StopHandle
  readonly #memory: GuestMemory
  readonly #kvm = openKvm()
  readonly #vm: number
  readonly #vcpu: number
  readonly #runAddress: bigint
  readonly #runBytes: Buffer
  readonly #run: DataView
  readonly #specialBytes: Uint8Array
  readonly #special: DataView
  /** Which registers the next KVM_RUN takes over from us. */
  #dirty: number = SYNC.registers
  #inSyscall = false

  constructor(memory: GuestMemory, entry: number, stackPointer: number) {
    this.#memory = memory
    this.#vm = this.#ioctl(this.#kvm, KVM.CREATE_VM, 0)
    ioctl(this.#vm, KVM.SET_TSS_ADDR, TSS_ADDRESS) // SVM knows it not
    const region = Buffer.alloc(32) // slot u32, flags u32, guest address, size, host address: u64 each
    region.writeBigUInt64LE(BigInt(SEED_MEMORY), 16)
    region.writeBigUInt64LE(memory.base, 24)
    this.#ioctl(this.#vm, KVM.SET_USER_MEMORY_REGION, koffi.address(region))
    this.#vcpu = this.#ioctl(this.#vm, KVM.CREATE_VCPU, 0)
    const runSize = this.#ioctl(this.#kvm, KVM.GET_VCPU_MMAP_SIZE, 0)
    this.#runAddress = mapMemory(0n, runSize, PROT_READ | PROT_WRITE, MAP_SHARED, this.#vcpu)
    this.#runBytes = viewOf(this.#runAddress, runSize)
    const { buffer, byteOffset } = this.#runBytes
    this.#run = new DataView(buffer, byteOffset, runSize)
    this.registers = new BigUint64Array(buffer, byteOffset + RUN.registers, REGS_SIZE / 8)
    this.#specialBytes = this.#runBytes.subarray(RUN.specialRegisters, RUN.specialRegisters + SREGS_SIZE)
    this.#special = new DataView(buffer, byteOffset + RUN.specialRegisters, SREGS_SIZE)
    this.stopHandle = {
      engine: 'kvm',
      vmFd: this.#vm,
      runAddress: this.#runAddress,
      tid: hostCall(NR.gettid),
    }
    const cpuid = Buffer.alloc(8 + 256 * 40)
    cpuid.writeUInt32LE(256, 0)
    this.#ioctl(this.#kvm, KVM.GET_SUPPORTED_CPUID, koffi.address(cpuid))
    this.#ioctl(this.#vcpu, KVM.SET_CPUID2, koffi.address(cpuid))
    this.#run.setBigUint64(RUN.validRegisters, BigInt(SYNC.registers | SYNC.specialRegisters), true)
    this.#begin(entry, stackPointer)
  }

  /** Real mode, as after a reset, but for the code segment and what the bootstrap is told. */
  #begin(entry: number, stackPointer: number): void {
    const special = this.#runAddress + BigInt(RUN.specialRegisters)
    this.#ioctl(this.#vcpu, KVM.GET_SREGS, special)
    this.#changeSegments(segments => ({ ...segments, cs: { ...segments.cs, base: 0n, selector: 0 } }))
    this.#ioctl(this.#vcpu, KVM.SET_SREGS, special)
    this.registers.fill(0n)
    this.registers[R.rip] = BigInt(BOOT_ADDRESS)
    this.registers[R.rflags] = 2n
    this.registers[R.r14] = BigInt(stackPointer)
    this.registers[R.r15] = BigInt(entry)
    this.#ioctl(this.#vcpu, KVM.SET_REGS, this.#runAddress + BigInt(RUN.registers))
  }

  #ioctl(fd: number, request: number, argument: number | bigint): number {
    const result = ioctl(fd, request, argument) as number
    if (result < 0) throw new HostError(`KVM request ${request.toString(16)} failed: errno ${koffi.errno()}`)
    return result
  }

  #changeSegments(change: (segments: Segments) => Segments): void {
    const special = decodeSpecialRegisters(this.#specialBytes)
    this.#specialBytes.set(encodeSpecialRegisters({ ...special, segments: change(special.segments) }))
    this.#dirty |= SYNC.specialRegisters
  }

  get #ring(): number {
    return this.#special.getUint8(SREGS_OFFSET.csDpl)
  }

  #atSysret(): boolean {
    const rip = Number(this.registers[R.rip]!)
    return this.#ring === 0 && SYSRET.every((byte, i) => this.#memory.bytes[rip + i] === byte)
  }

  run(): CpuExit {
    this.#inSyscall = false
    for (let kicks = 0; ; ) {
      this.#run.setUint32(RUN.dirtyRegisters, SYNC.registers | this.#dirty, true)
      this.#dirty = 0
      const exit = this.#enter()
      if (exit === EXIT.halt && this.#atSysret()) {
        this.#inSyscall = true
        return { kind: 'syscall' }
      }
      if (exit !== EXIT.interrupted)
        throw new ImagoError(
          exit === EXIT.halt
            ? 'the bootstrap halted outside of its system call handler'
            : `the guest ended with ${exitNames[exit] ?? `exit ${exit}`}`,
          { address: this.registers[R.rip], hint: 'a booted guest has no IDT: each fault is a triple fault' },
        )
      this.#run.setUint8(RUN.immediateExit, 0)
      if (this.#ring === 3) return { kind: 'stopped' }
      if (this.#atSysret()) {
        this.#inSyscall = true
        this.settle()
        return { kind: 'stopped' }
      }
      if (++kicks > MOST_KICKS_IN_RING_0)
        throw new ImagoError('the bootstrap does not come to its program', {
          address: this.registers[R.rip],
        })
    }
  }

  /** Returns the exit reason, `interrupted` for a signal. */
  #enter(): number {
    if ((ioctl(this.#vcpu, KVM.RUN, 0) as number) >= 0) return this.#run.getUint32(RUN.exitReason, true)
    const errno = koffi.errno()
    if (errno === EINTR) return EXIT.interrupted
    throw new ImagoError(`KVM_RUN failed: errno ${errno}`)
  }

  /** What the sysretq would do (AMD APM 3, SYSRET), with the selectors of the guest's own STAR. */
  settle(): void {
    if (!this.#inSyscall) return
    this.#inSyscall = false
    this.registers[R.rip] = this.registers[R.rcx]!
    this.registers[R.rflags] = this.registers[R.r11]!
    const selector = this.#sysretSelector()
    const flat = { base: 0n, limit: 0xffffffff, present: 1, dpl: 3, s: 1, g: 1, avl: 0, unusable: 0 }
    this.#changeSegments(segments => ({
      ...segments,
      cs: { ...flat, selector: (selector + 16) | 3, type: 11, db: 0, l: 1 },
      ss: { ...flat, selector: (selector + 8) | 3, type: 3, db: 1, l: 0 },
    }))
  }

  #sysretSelector(): number {
    const msrs = Buffer.alloc(24) // count u32, padding, index u32, reserved, value u64
    msrs.writeUInt32LE(1, 0)
    msrs.writeUInt32LE(MSR.STAR, 8)
    this.#ioctl(this.#vcpu, KVM.GET_MSRS, koffi.address(msrs))
    return msrs.readUInt16LE(22)
  }

  get fsBase(): bigint {
    return this.#special.getBigUint64(SREGS_OFFSET.fsBase, true)
  }
  set fsBase(value: bigint) {
    this.#special.setBigUint64(SREGS_OFFSET.fsBase, value, true)
    this.#dirty |= SYNC.specialRegisters
  }
  get gsBase(): bigint {
    return this.#special.getBigUint64(SREGS_OFFSET.gsBase, true)
  }
  set gsBase(value: bigint) {
    this.#special.setBigUint64(SREGS_OFFSET.gsBase, value, true)
    this.#dirty |= SYNC.specialRegisters
  }

  readState(): CpuState {
    this.settle()
    const xsave = Buffer.alloc(XSAVE_SIZE)
    this.#ioctl(this.#vcpu, KVM.GET_XSAVE, koffi.address(xsave))
    const { registers, fsBase, gsBase } = this
    return {
      ...{ registers: registers.slice(), fsBase, gsBase, xcr0: X87_AND_SSE },
      xsave: fitXsave(xsave, X87_AND_SSE),
    }
  }

  /** For a program that runs already: after a handler of it. */
  writeState(state: CpuState): void {
    this.settle()
    const xsave = Buffer.alloc(XSAVE_SIZE)
    xsave.set(fitXsave(state.xsave, X87_AND_SSE))
    this.#ioctl(this.#vcpu, KVM.SET_XSAVE, koffi.address(xsave))
    this.registers.set(state.registers)
    this.fsBase = state.fsBase
    this.gsBase = state.gsBase
  }

  release(): void {
    hostCall(NR.munmap, this.#runAddress, this.#runBytes.length)
    for (const fd of [this.#vcpu, this.#vm]) hostCall(NR.close, fd)
    fs.closeSync(this.#kvm)
  }
}
