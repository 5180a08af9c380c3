/** Numbers and offsets of linux/kvm.h (x86-64): requests, struct kvm_run, exit reasons. */

export const KVM = {
  GET_API_VERSION: 0xae00,
  CREATE_VM: 0xae01,
  CHECK_EXTENSION: 0xae03,
  GET_VCPU_MMAP_SIZE: 0xae04,
  GET_SUPPORTED_CPUID: 0xc008ae05,
  CREATE_VCPU: 0xae41,
  SET_TSS_ADDR: 0xae47,
  GET_DIRTY_LOG: 0x4010ae42,
  SET_USER_MEMORY_REGION: 0x4020ae46,
  RUN: 0xae80,
  GET_REGS: 0x8090ae81,
  SET_REGS: 0x4090ae82,
  GET_SREGS: 0x8138ae83,
  SET_SREGS: 0x4138ae84,
  GET_MSRS: 0xc008ae88,
  SET_MSRS: 0x4008ae89,
  GET_FPU: 0x81a0ae8c,
  SET_CPUID2: 0x4008ae90,
  GET_XSAVE: 0x9000aea4,
  SET_XSAVE: 0x5000aea5,
  SET_XCRS: 0x4188aea7,
} as const

/** Offsets in struct kvm_run. */
export const RUN = {
  immediateExit: 1,
  exitReason: 8,
  /** union: io.direction u8, size u8, port u16, count u32, data_offset u64 */
  ioPort: 34,
  /** union: internal.suberror u32; fail_entry.hardware_entry_failure_reason u64 */
  subReason: 32,
  mmioAddress: 32,
  validRegisters: 288,
  dirtyRegisters: 296,
  registers: 304,
  specialRegisters: 448,
} as const

/** Bits of valid_regs and dirty_regs. */
export const SYNC = { registers: 1, specialRegisters: 2 } as const

export const EXIT = {
  io: 2,
  hypercall: 3,
  halt: 5,
  mmio: 6,
  shutdown: 8,
  failEntry: 9,
  interrupted: 10,
  internalError: 17,
} as const

export const exitNames: Readonly<Record<number, string>> = {
  0: 'unknown',
  1: 'exception',
  2: 'port I/O',
  3: 'hypercall',
  4: 'debug',
  5: 'halt',
  6: 'access outside of memory',
  7: 'interrupt window',
  8: 'shutdown (triple fault)',
  9: 'entry failed',
  10: 'signal',
  17: 'internal error of KVM',
}

/** A flag of struct kvm_userspace_memory_region: keep a dirty log. */
export const MEM_LOG_DIRTY_PAGES = 1
