/**
 * The global descriptor table of a guest in long mode (Intel SDM 3A, 3.4.5 and 5.2.1): flat segments, in the order that
 * `syscall` and `sysret` want (kernel code, kernel data; user code 32, user data, user code 64), then the TSS.
 */

/** Selectors; the low two bits are the privilege level. */
export const SELECTOR = {
  kernelCode: 0x08,
  kernelData: 0x10,
  userData: 0x23,
  userCode: 0x2b,
  tss: 0x30,
} as const

/** null, kernel code, kernel data, user code 32, user data, user code 64; the TSS descriptor of 16 bytes follows. */
export const GDT_DESCRIPTORS: readonly bigint[] = [
  0n,
  0x00af9b000000ffffn,
  0x00cf93000000ffffn,
  0x00cffb000000ffffn,
  0x00cff3000000ffffn,
  0x00affb000000ffffn,
]
export const GDT_LIMIT = 0x3f
