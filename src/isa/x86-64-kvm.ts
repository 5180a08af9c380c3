/**
 * The state of an x86-64 CPU in the layouts of KVM (linux/kvm.h, Linux 6.x): what the engines exchange with the
 * kernel, and what the formats `microvm` and `scratchvm` hold. All little endian.
 *
 *   kvm_regs   144 bytes   18 × u64 in the order of `registerNames`
 *   kvm_sregs  312 bytes   8 segments of 24 bytes, 2 tables of 16, 7 × u64, interrupt bitmap of 32
 */

/** The order of struct kvm_regs. */
export const registerNames = [
  ...['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'],
  ...['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags'],
] as const

/** Index of each register in struct kvm_regs. */
export const R = {
  rax: 0,
  rbx: 1,
  rcx: 2,
  rdx: 3,
  rsi: 4,
  rdi: 5,
  rsp: 6,
  rbp: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
  rip: 16,
  rflags: 17,
} as const

export const REGS_SIZE = 144
export const SREGS_SIZE = 312

/** The order of the segments of struct kvm_sregs. */
const segmentNames = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const
export type SegmentName = (typeof segmentNames)[number]

/** struct kvm_segment: the hidden part of a segment register (Intel SDM 3A, 3.4.3). */
export interface KvmSegment {
  base: bigint
  limit: number
  selector: number
  type: number
  present: number
  dpl: number
  db: number
  s: number
  l: number
  g: number
  avl: number
  unusable: number
}

const segmentFlags = ['type', 'present', 'dpl', 'db', 's', 'l', 'g', 'avl', 'unusable'] as const

/** struct kvm_dtable: a descriptor table register. */
export interface KvmTable {
  base: bigint
  limit: number
}

/** struct kvm_sregs. */
export interface SpecialRegisters {
  segments: Record<SegmentName, KvmSegment>
  gdt: KvmTable
  idt: KvmTable
  cr0: bigint
  cr2: bigint
  cr3: bigint
  cr4: bigint
  cr8: bigint
  efer: bigint
  apicBase: bigint
  /** One bit an interrupt vector that waits for injection, as four u64. */
  interrupts: readonly bigint[]
}

/** The u64 fields from offset 224 on, in order. */
const controlFields = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const

/** Bytes of a struct kvm_sregs → its fields. */
export function decodeSpecialRegisters(bytes: Uint8Array): SpecialRegisters {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SREGS_SIZE)
  const u64 = (at: number) => view.getBigUint64(at, true)
  const segment = (at: number): KvmSegment => ({
    base: u64(at),
    limit: view.getUint32(at + 8, true),
    selector: view.getUint16(at + 12, true),
    ...(Object.fromEntries(segmentFlags.map((name, i) => [name, view.getUint8(at + 14 + i)])) as Pick<
      KvmSegment,
      (typeof segmentFlags)[number]
    >),
  })
  const table = (at: number): KvmTable => ({ base: u64(at), limit: view.getUint16(at + 8, true) })
  return {
    segments: Object.fromEntries(
      segmentNames.map((name, i) => [name, segment(i * 24)]),
    ) as SpecialRegisters['segments'],
    gdt: table(192),
    idt: table(208),
    ...(Object.fromEntries(controlFields.map((name, i) => [name, u64(224 + i * 8)])) as Record<
      (typeof controlFields)[number],
      bigint
    >),
    interrupts: [u64(280), u64(288), u64(296), u64(304)],
  }
}

/** The reverse of `decodeSpecialRegisters` (padding becomes zero). */
export function encodeSpecialRegisters(registers: SpecialRegisters): Uint8Array {
  const bytes = new Uint8Array(SREGS_SIZE)
  const view = new DataView(bytes.buffer)
  const u64 = (at: number, value: bigint) => view.setBigUint64(at, value, true)
  for (const [i, name] of segmentNames.entries()) {
    const segment = registers.segments[name]
    u64(i * 24, segment.base)
    view.setUint32(i * 24 + 8, segment.limit, true)
    view.setUint16(i * 24 + 12, segment.selector, true)
    for (const [k, flag] of segmentFlags.entries()) view.setUint8(i * 24 + 14 + k, segment[flag])
  }
  for (const [at, table] of [
    [192, registers.gdt],
    [208, registers.idt],
  ] as const) {
    u64(at, table.base)
    view.setUint16(at + 8, table.limit, true)
  }
  for (const [i, name] of controlFields.entries()) u64(224 + i * 8, registers[name])
  for (const [i, word] of registers.interrupts.entries()) u64(280 + i * 8, word)
  return bytes
}

/** Offsets in a struct kvm_sregs that a monitor reads often. */
export const SREGS_OFFSET = { csDpl: 16, fsBase: 72, gsBase: 96, cr2: 232 } as const

/** Model-specific registers by the names of the manuals. */
export const MSR = {
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  SFMASK: 0xc0000084,
} as const

/** Exceptions by vector (Intel SDM 3A, table 6-1). */
export const exceptionNames: Readonly<Record<number, string>> = {
  0: 'divide error',
  1: 'debug',
  2: 'NMI',
  3: 'breakpoint',
  4: 'overflow',
  5: 'bound range',
  6: 'invalid opcode',
  7: 'device not available',
  8: 'double fault',
  10: 'invalid TSS',
  11: 'segment not present',
  12: 'stack fault',
  13: 'general protection',
  14: 'page fault',
  16: 'x87 error',
  17: 'alignment check',
  18: 'machine check',
  19: 'SIMD error',
  20: 'virtualization',
  21: 'control protection',
}
/** The vectors for which the CPU pushes an error code. */
export const exceptionsWithErrorCode: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21, 29, 30])
