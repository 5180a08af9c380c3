/**
 * The neutral model of a frozen machine: CPU, memory and devices, whatever monitor or simulator froze it.
 * The schemas below are the model: types, reset state, comparison and loss reports come from them
 * (`machine-schema.ts`). Readers fill a state field by field; nobody changes an image once it is read.
 *
 *   MachineImage ─┬─ memory        guest physical memory, pointed to
 *                 ├─ cpus[]        registers, x87, SSE, MSRs, local APIC
 *                 ├─ devices       I/O APIC, PICs, PIT, RTC, serial, keyboard, mouse, speaker, PCI; each may be absent
 *                 └─ notUnderstood devices that the model has no place for, by name
 *
 * Names follow the Intel SDM; devices those of the PC/AT data sheets (8259A, 8254, MC146818, 16550, 8042).
 * Times are picoseconds: the finest unit of any platform (gem5's tick), so that none is rounded on the way in.
 */

import type { HostedProgram } from './hosted-program.js'
import {
  bits,
  byteString,
  duration,
  each,
  flag,
  frequency,
  initialValue,
  leavesOf,
  list,
  maybe,
  optionalGroup,
  setValueAt,
  u8,
  u16,
  u32,
  u64,
  u80,
  u128,
  type Value,
  valueAt,
} from './machine-schema.js'
import type { Memory } from './memory.js'
import type { Origin } from './process.js'

/** In the order of the instruction encoding, which gem5, QEMU and KVM's numbering share. */
export const generalRegisters = [
  ...(['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
] as const

export const segmentNames = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const
export type SegmentName = (typeof segmentNames)[number]

/** A segment register with its hidden part. */
const segment = {
  selector: u16(),
  base: u64(),
  /** In bytes: granularity is already applied. */
  limit: u32(0xffff),
  /** VMX access rights: type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16 (set whenever P is not). Intel SDM 3, 24.4.1. */
  attributes: bits(17, 0x10000),
}

/** MSR → its number; `efer` and the rest are fields of `msr` by the same name. */
export const msrNumbers = {
  efer: 0xc0000080,
  star: 0xc0000081,
  lstar: 0xc0000082,
  cstar: 0xc0000083,
  sfmask: 0xc0000084,
  kernelGsBase: 0xc0000102,
  tscAux: 0xc0000103,
  sysenterCs: 0x174,
  sysenterEsp: 0x175,
  sysenterEip: 0x176,
  pat: 0x277,
  apicBase: 0x1b,
} as const

/** KVM's own MSRs, which a guest sets when its clock or wake-ups come from the host. Source: Linux Documentation/virt/kvm/x86/msr.rst. */
export const kvmMsrNumbers = {
  wallClock: 0x4b564d00,
  systemTime: 0x4b564d01,
  asyncPageFault: 0x4b564d02,
  stealTime: 0x4b564d03,
  endOfInterrupt: 0x4b564d04,
} as const

const localApic = {
  id: u8(),
  /** LDR: the logical id, in bits 24–31. */
  logicalDestination: u32(),
  /** DFR: 0xffffffff is the flat model. */
  destinationFormat: u32(0xffffffff),
  /** SVR: vector in 0–7, bit 8 enables the APIC. */
  spurious: u32(0xff),
  /** Vectors 32·i … 32·i+31 in word i. */
  inService: list(8, u32()),
  triggerMode: list(8, u32()),
  requested: list(8, u32()),
  errorStatus: u32(),
  commandLow: u32(),
  commandHigh: u32(),
  lvt: each(['timer', 'thermal', 'performance', 'lint0', 'lint1', 'error'] as const, u32(0x10000)),
  timer: {
    initialCount: u32(),
    /** The divide configuration register: bits 0, 1 and 3. */
    divide: u32(),
    remaining: duration(),
    /** Counts per second before division: a property of the platform that the guest has calibrated. */
    rate: frequency(),
  },
}

const cpuFields = {
  general: each(generalRegisters, u64()),
  rip: u64(0xfff0n),
  rflags: u64(2n),
  /** Waiting in HLT for an interrupt; rip is behind the instruction. */
  halted: flag(),
  segments: each(segmentNames, segment),
  gdtr: { base: u64(), limit: u16(0xffff) },
  idtr: { base: u64(), limit: u16(0xffff) },
  control: { cr0: u64(0x60000010n), cr2: u64(), cr3: u64(), cr4: u64() },
  /** TPR, 8 bits; CR8 is its upper half. */
  taskPriority: u8(),
  debug: { dr0: u64(), dr1: u64(), dr2: u64(), dr3: u64(), dr6: u64(0xffff0ff0n), dr7: u64(0x400n) },
  msr: {
    efer: u64(),
    star: u64(),
    lstar: u64(),
    sfmask: u64(),
    kernelGsBase: u64(),
    apicBase: u64(0xfee00900n),
    cstar: maybe(u64()),
    sysenterCs: maybe(u64()),
    sysenterEsp: maybe(u64()),
    sysenterEip: maybe(u64()),
    pat: maybe(u64()),
    tscAux: maybe(u64()),
  },
  mtrr: {
    defaultType: maybe(u64()),
    /** fix64K_00000, fix16K_80000, A0000, fix4K_C0000 … F8000. */
    fixed: list(11, maybe(u64())),
    variable: list(8, { base: maybe(u64()), mask: maybe(u64()) }),
  },
  x87: {
    control: u16(0x37f),
    /** With the top of stack in bits 11–13. */
    status: u16(),
    /** Bit i: physical register i holds a value (the abridged tag of FXSAVE). */
    valid: u8(),
    opcode: u16(),
    instruction: u64(),
    data: u64(),
    /** Physical registers R0–R7, not rotated by the top of stack. */
    registers: list(8, u80()),
  },
  mxcsr: u32(0x1f80),
  xmm: list(16, u128()),
  /** Upper halves of YMM0–15. */
  ymmHigh: list(16, u128()),
  xcr0: u64(1n),
  tsc: maybe(u64()),
  /** Ticks of the TSC per second, where the image (or the user) says. */
  tscRate: frequency(),
  apic: optionalGroup(localApic),
}

/** 8259A. */
const interruptController = {
  requested: u8(),
  inService: u8(),
  mask: u8(),
  /** Vector of input 0 (ICW2). */
  vectorBase: u8(),
  /** Level-triggered inputs (ELCR). */
  levelTriggered: u8(),
  /** ICW1 bit 3: all inputs level-triggered. */
  allLevel: flag(),
  /** Lines that were high when last looked at, for edge detection. */
  lines: u8(),
  lowestPriority: bits(3),
  /** OCW3: a read of the command port gives the in-service register, not the requests. */
  readInService: flag(),
  poll: flag(),
  specialMask: flag(),
  specialFullyNested: flag(),
  autoEnd: flag(),
  rotateOnAutoEnd: flag(),
  /** 0 ready; 1–3 the next initialisation word is ICW2, 3, 4. */
  initialisation: bits(2),
  expectsIcw4: flag(),
  single: flag(),
}

/** A channel of the 8254, clocked at 1.193182 MHz. */
const pitChannel = {
  /** 1 … 65536. */
  reload: bits(17, 65536),
  /** 0 terminal count, 1 one-shot, 2 rate, 3 square wave, 4 and 5 strobes. */
  mode: bits(3, 3),
  bcd: flag(),
  gate: flag(),
  /** 1 low byte, 2 high byte, 3 low then high. */
  access: bits(2, 3),
  /** Time to the end of this period, or of the count; undefined when it does not count. */
  remaining: duration(),
  /** A latched count waits to be read: bytes still to be read as in `access`, 0 none. */
  countLatched: bits(2),
  latchedCount: u16(),
  statusLatched: flag(),
  latchedStatus: u8(),
  readHighNext: flag(),
  writeHighNext: flag(),
  /** Low byte written, high byte awaited. */
  writeLatch: u8(),
}

const deviceFields = {
  /** Virtual time since the machine was started. */
  time: duration(),
  ioApic: optionalGroup({
    id: u8(),
    index: u8(),
    /** Requests that are not yet delivered, a bit an input. */
    requested: bits(24),
    redirection: list(24, u64(0x10000n)),
  }),
  pic: optionalGroup({ master: interruptController, slave: interruptController }),
  pit: optionalGroup({ channels: list(3, pitChannel) }),
  /** MC146818 with its 128 bytes: 0–9 the clock, 10–13 registers A–D. */
  rtc: optionalGroup({
    index: u8(),
    cmos: list(128, u8()),
    nextUpdate: duration(),
    nextPeriodic: duration(),
  }),
  /** COM1, 16550A. */
  serial: optionalGroup({
    divisor: u16(12),
    received: u8(),
    interruptEnable: u8(),
    interruptIdentification: u8(1),
    fifoControl: u8(),
    lineControl: u8(),
    modemControl: u8(),
    lineStatus: u8(0x60),
    modemStatus: u8(),
    scratch: u8(),
    /** The transmitter has become empty and nobody has been told. */
    transmitInterrupt: flag(),
    /** The byte in the shift register, while the line takes none. */
    transmitting: maybe(u8()),
    receiveFifo: byteString(16),
    transmitFifo: byteString(16),
  }),
  /** 8042. */
  keyboard: optionalGroup({
    commandByte: u8(),
    status: u8(),
    /** The command whose data byte is awaited. */
    pendingCommand: u8(),
    output: u8(),
    /** The keyboard behind it sends what is pressed. */
    scanning: flag(true),
    scancodeSet: u8(2),
  }),
  /** PS/2 mouse behind the second port of the 8042. */
  mouse: optionalGroup({
    /** As the status request gives it: bit 5 reporting, bit 6 remote mode. */
    status: u8(),
    /** Counts per millimetre, as a power of two. */
    resolution: u8(2),
    sampleRate: u8(100),
  }),
  /** Port 0x61 bit 1; bit 0 is the gate of PIT channel 2. */
  speaker: optionalGroup({ data: flag() }),
  /** The latch at port 0xCF8. */
  pciHost: optionalGroup({ configAddress: u32() }),
}

export type Cpu = Value<typeof cpuFields> & {
  /** MSRs that have no field of their own, by number. */
  otherMsrs?: ReadonlyMap<number, bigint>
  /** XSAVE components beyond x87, SSE and AVX: number → bytes (5–7 AVX-512, 9 PKRU). */
  extendedState?: ReadonlyMap<number, Uint8Array>
}
export type Segment = Value<typeof segment>
export type InterruptController = Value<typeof interruptController>
export type PitChannel = Value<typeof pitChannel>
export type Devices = Value<typeof deviceFields> & {
  /** Configuration space of the PCI functions by address, `00:01.1` (bus, device, function; hexadecimal): up to 256 bytes. */
  pciFunctions?: ReadonlyMap<string, Uint8Array>
}

export interface MachineImage {
  readonly isa: 'x86-64'
  /** Guest physical memory. */
  readonly memory: Memory
  readonly cpus: readonly Cpu[]
  readonly devices: Devices
  /** Names of devices that the image holds and the model does not. */
  readonly notUnderstood: readonly string[]
  /** A process without a kernel (gem5's SE mode): control registers and page tables are not real. */
  readonly userOnly?: boolean
  /** The one program of a machine without a kernel, whose system calls a monitor serves: what the monitor keeps for it. */
  readonly program?: HostedProgram
  /** What the guest's CPU offered it (CPUID), as QEMU spells features, where known. */
  readonly cpuFeatures?: ReadonlySet<string>
  /** What the image itself does not say: path of the field → where its value was taken from. A conversion tells it. */
  readonly workedOut?: ReadonlyMap<string, string>
  readonly origin: Origin
}

/** A CPU after reset, as the schema says. */
export const initialCpu = (): Cpu => initialValue(cpuFields) as Cpu
/** No devices, time unknown. */
export const noDevices = (): Devices => initialValue(deviceFields)

/** One CPU and the devices: what adapters fill and diff walks. Paths are `cpu.…`, or begin with a device. */
export interface MachineState {
  cpu: Cpu
  devices: Devices
}
export const emptyState = (): MachineState => ({ cpu: initialCpu(), devices: noDevices() })

/** Every leaf of a machine state by its path: `cpu.control.cr0`, `pit.channels.0.mode`. */
export const machineLeaves = new Map([...leavesOf(cpuFields, 'cpu'), ...leavesOf(deviceFields)])

/** The value at a path of `machineLeaves`; undefined in a device that is absent. */
export function getField(state: MachineState, path: string): unknown {
  return path.startsWith('cpu.') ? valueAt(state.cpu, path.slice(4)) : valueAt(state.devices, path)
}

/** Absent devices come into being in their reset state. */
export function setField(state: MachineState, path: string, value: unknown): void {
  if (path.startsWith('cpu.')) setValueAt(cpuFields, state.cpu, path.slice(4), value)
  else setValueAt(deviceFields, state.devices, path, value)
}

/** True when the image holds the device that `path` belongs to (CPU fields always). */
export function hasDeviceOf(state: MachineState, path: string): boolean {
  if (path.startsWith('cpu.apic.')) return state.cpu.apic !== undefined
  const [group] = path.split('.') as [string]
  return (
    group === 'cpu' || group === 'time' || (state.devices as Record<string, unknown>)[group] !== undefined
  )
}
