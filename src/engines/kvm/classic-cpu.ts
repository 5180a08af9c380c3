/**
 * A virtual CPU that begins as the ScratchVM's does: in real mode at 0x8000, where a flat file of the user's brings it to
 * long mode and enters the program. What is in ring 0 is the guest's own; the monitor sees its `hlt`.
 *
 *   0x8000 bootstrap ── sysretq ──► program in ring 3 ── syscall ──► LSTAR: hlt ──► exit ──► monitor; sysretq
 *
 * The guest has no IDT, so a fault of it ends as a triple fault. Nested PVM cannot run it: there `hlt` at LSTAR is in ring 3.
 */
import fs from 'node:fs'
import { SEED_MEMORY } from '../../formats/scratchvm/seed-layout.js'
import {
  decodeSpecialRegisters,
  encodeSpecialRegisters,
  MSR,
  R,
  type SpecialRegisters,
} from '../../isa/x86-64-kvm.js'
import { SYSRETQ } from '../../isa/x86-64-program.js'
import { HostError, ImagoError, UsageError } from '../../lib/errors.js'
import { type CpuExit, type CpuState, fitXsave, type VirtualCpu } from '../microvm/cpu.js'
import type { GuestMemory } from '../microvm/guest-memory.js'
import { Protection } from '../microvm/mappings.js'
import { KvmCpu } from './cpu.js'
import { EXIT, exitNames, KVM, SYNC } from './ioctl.js'
import { Vcpu } from './vcpu.js'

type Segments = SpecialRegisters['segments']

const BOOT_ADDRESS = 0x8000
const PROGRAM_ADDRESS = 0x9000
/** VMX wants a place for a TSS of its own while the guest is in real mode: below the BIOS, out of the way. */
const TSS_ADDRESS = 0xfffbd000
/** Of XSAVE, what a guest without CR4.OSXSAVE has. */
const X87_AND_SSE = 3n
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

class ClassicCpu extends Vcpu implements VirtualCpu {
  readonly #memory: GuestMemory
  #inSyscall = false

  constructor(memory: GuestMemory, entry: number, stackPointer: number) {
    super({ base: memory.base, totalSize: SEED_MEMORY }, TSS_ADDRESS)
    this.#memory = memory
    this.offerCpuFeatures()
    this.#begin(entry, stackPointer)
  }

  /** Real mode, as after a reset, but for the code segment and what the bootstrap is told. */
  #begin(entry: number, stackPointer: number): void {
    this.pullSpecialRegisters()
    this.#changeSegments(segments => ({ ...segments, cs: { ...segments.cs, base: 0n, selector: 0 } }))
    this.registers.fill(0n)
    this.registers[R.rip] = BigInt(BOOT_ADDRESS)
    this.registers[R.rflags] = 2n
    this.registers[R.r14] = BigInt(stackPointer)
    this.registers[R.r15] = BigInt(entry)
    this.pushRegisters()
  }

  #changeSegments(change: (segments: Segments) => Segments): void {
    const special = decodeSpecialRegisters(this.specialBytes)
    this.specialBytes.set(encodeSpecialRegisters({ ...special, segments: change(special.segments) }))
    this.dirty |= SYNC.specialRegisters
  }

  #atSysret(): boolean {
    const rip = Number(this.registers[R.rip]!)
    return this.ring === 0 && SYSRETQ.every((byte, i) => this.#memory.bytes[rip + i] === byte)
  }

  run(): CpuExit {
    this.#inSyscall = false
    for (let kicks = 0; ; ) {
      this.dirty |= SYNC.registers
      const exit = this.enter()
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
      if (this.ring === 3) return { kind: 'stopped' }
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
    this.ask(KVM.GET_MSRS, 'KVM_GET_MSRS', msrs)
    return msrs.readUInt16LE(22)
  }

  readState(): CpuState {
    this.settle()
    const { registers, fsBase, gsBase } = this
    return {
      ...{ registers: registers.slice(), fsBase, gsBase, xcr0: X87_AND_SSE },
      xsave: fitXsave(this.getXsave(), X87_AND_SSE),
    }
  }

  /** For a program that runs already: after a handler of it. */
  writeState(state: CpuState): void {
    this.settle()
    this.setXsave(fitXsave(state.xsave, X87_AND_SSE))
    this.registers.set(state.registers)
    this.fsBase = state.fsBase
    this.gsBase = state.gsBase
  }
}
