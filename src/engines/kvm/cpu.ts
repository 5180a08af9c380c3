/**
 * A virtual CPU of /dev/kvm.
 *
 *   ring 3 program ── syscall ──► LSTAR: out 0x10 ──► exit ──► monitor
 *                  ── fault ────► IDT:   out 0x11 ──► exit ──► monitor
 *
 * Ordinary KVM (VMX, SVM) enters the LSTAR stub at CPL 0, and the program goes on by its sysretq. Nested PVM
 * enters it still at CPL 3, where sysretq faults: there rip and rflags are set to rcx and r11 instead. Which of the
 * two it is, a probe finds out before the program runs.
 */
import { specialRegistersFor } from '../../formats/microvm/guest-cpu.js'
import {
  AREA,
  CONTROL,
  FAULT_PORT,
  FAULT_STUB_SIZE,
  SYSCALL_PORT,
} from '../../formats/microvm/guest-layout.js'
import { exceptionsWithErrorCode, MSR, R, REGS_SIZE, SREGS_OFFSET } from '../../isa/x86-64-kvm.js'
import { KEPT_FLAGS } from '../../isa/x86-64-program.js'
import { rearrangeXsave, STANDARD_XSAVE, type XsaveComponent } from '../../isa/x86-64-xsave.js'
import { hex } from '../../lib/bytes.js'
import { HostError, ImagoError } from '../../lib/errors.js'
import { type CpuExit, type CpuState, fitXsave, initialXsave, type VirtualCpu } from '../microvm/cpu.js'
import type { GuestMemory } from '../microvm/guest-memory.js'
import { EXIT, exitNames, KVM, RUN, SYNC } from './ioctl.js'
import { Vcpu } from './vcpu.js'

/** Those of the program, and IF. */
const RETURNED_FLAGS = KEPT_FLAGS | 0x200n

/** x87, SSE, AVX, and the three of AVX-512: what a program may use of XSAVE. */
const XCR0_WANTED = 0xe7n

export class KvmCpu extends Vcpu implements VirtualCpu {
  readonly #memory: GuestMemory
  readonly #xcr0: bigint
  /** Where this host's CPU keeps the components of XSAVE. */
  readonly #xsaveLayout = new Map<number, XsaveComponent>()
  /** True on nested PVM: the stub is entered at CPL 3. */
  #entersAtRing3 = false
  /** rip of the system call that `settle` has not settled yet. */
  #inSyscall = false

  /** @throws HostError where /dev/kvm is missing, denied or too old. */
  constructor(memory: GuestMemory) {
    super({ base: memory.base, totalSize: memory.layout.totalSize })
    this.#memory = memory
    this.#xcr0 = this.#learnXsave()
    this.#setModelSpecificRegisters()
    this.#probeRingOfSyscall()
  }

  /** True where a system call arrives in ring 3 (nested PVM): nothing there can run in ring 0. */
  get entersAtRing3(): boolean {
    return this.#entersAtRing3
  }

  /** Where the components of XSAVE are, and the XCR0 that goes with what KVM supports. */
  #learnXsave(): bigint {
    let xcr0 = 3n
    // struct kvm_cpuid_entry2: function, index, flags, eax, ebx, …
    for (const entry of this.offerCpuFeatures()) {
      if (entry.readUInt32LE(0) !== 0xd) continue
      const component = entry.readUInt32LE(4)
      const eax = entry.readUInt32LE(12)
      if (component === 0) xcr0 = BigInt(eax)
      else if (STANDARD_XSAVE.has(component))
        this.#xsaveLayout.set(component, { size: eax, offset: entry.readUInt32LE(16) })
    }
    return (xcr0 & XCR0_WANTED) | 3n
  }

  #setXcr0(value: bigint): void {
    const xcrs = Buffer.alloc(392) // nr_xcrs, flags, 16 × {xcr, reserved, value u64}, padding
    xcrs.writeUInt32LE(1, 0)
    xcrs.writeBigUInt64LE(value, 16)
    this.ask(KVM.SET_XCRS, 'KVM_SET_XCRS', xcrs)
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
    const done = this.ask(KVM.SET_MSRS, 'KVM_SET_MSRS', msrs)
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
    const exit = this.enter()
    if (exit !== EXIT.io || this.runView.getUint16(RUN.ioPort, true) !== SYSCALL_PORT)
      throw new HostError(`this KVM does not run a guest in ring 3: ${exitNames[exit] ?? exit}`)
    this.#entersAtRing3 = this.ring === 3
    memory.bytes.fill(0, page + 0x10, page + 0x12)
  }

  run(): CpuExit {
    if (this.#inSyscall && this.#entersAtRing3) this.settle()
    this.#inSyscall = false
    this.dirty |= SYNC.registers
    for (;;) {
      const exit = this.enter()
      if (exit === EXIT.io) {
        const port = this.runView.getUint16(RUN.ioPort, true)
        if (port === SYSCALL_PORT) {
          this.#inSyscall = true
          return { kind: 'syscall' }
        }
        if (port === FAULT_PORT) return this.#fault()
      }
      if (exit !== EXIT.interrupted) this.#unexpected(exit)
      // Within the monitor's own stubs nothing can be saved: a few instructions on, there is an exit.
      if (this.registers[R.rip]! < BigInt(this.#memory.memorySize)) return { kind: 'stopped' }
      if (this.ring === 0 && this.#atSysret()) {
        this.#inSyscall = true
        this.settle()
        return { kind: 'stopped' }
      }
    }
  }

  #atSysret(): boolean {
    return this.registers[R.rip] === BigInt(this.#memory.memorySize + AREA.syscallStub + 2)
  }

  settle(): void {
    if (!this.#inSyscall) return
    this.#inSyscall = false
    this.registers[R.rip] = this.registers[R.rcx]!
    // A guest may have come to the port without `syscall`, with anything in them.
    this.registers[R.rflags] = (this.registers[R.r11]! & RETURNED_FLAGS) | 2n
    if (!this.#entersAtRing3) this.#backToRing3()
  }

  #backToRing3(): void {
    specialRegistersInto(this.specialBytes, this.#memory, this.fsBase, this.gsBase)
    this.dirty |= SYNC.specialRegisters
  }

  /** Reads the exception frame that the CPU pushed, and goes back to where it came from. */
  #fault(): CpuExit {
    const { registers } = this
    const memory = this.#memory
    const stub = Number(registers[R.rip]!) - memory.memorySize - AREA.faultStubs
    const vector = Math.floor(stub / FAULT_STUB_SIZE)
    const address = this.special.getBigUint64(SREGS_OFFSET.cr2, true)
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
        ? `, reason ${this.runView.getUint32(RUN.subReason, true)}`
        : exit === EXIT.mmio
          ? ` at ${hex(this.runView.getBigUint64(RUN.mmioAddress, true))}`
          : exit === EXIT.io
            ? `, port ${hex(this.runView.getUint16(RUN.ioPort, true))}`
            : ''
    throw new ImagoError(`the guest ended with ${exitNames[exit] ?? `exit ${exit}`}${detail}`, {
      address: this.registers[R.rip],
    })
  }

  readState(): CpuState {
    this.settle()
    return {
      registers: this.registers.slice(),
      fsBase: this.fsBase,
      gsBase: this.gsBase,
      xsave: fitXsave(rearrangeXsave(this.getXsave(), this.#xsaveLayout, STANDARD_XSAVE), this.#xcr0),
      xcr0: this.#xcr0,
    }
  }

  writeState(state: CpuState): void {
    this.#inSyscall = false
    this.#setXcr0(state.xcr0 & this.#xcr0)
    this.setXsave(rearrangeXsave(fitXsave(state.xsave, this.#xcr0), STANDARD_XSAVE, this.#xsaveLayout))
    this.registers.set(state.registers)
    specialRegistersInto(this.specialBytes, this.#memory, state.fsBase, state.gsBase)
    this.pushRegisters()
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
