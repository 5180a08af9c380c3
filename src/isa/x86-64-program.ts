/**
 * A 64-bit program without a kernel below it, as whoever holds its CPU sees it: what is its own, and where its monitor
 * gives control back to it.
 */

/** The flags that a program in ring 3 has: CF PF AF ZF SF TF DF OF AC ID; RF and the like are of the moment. */
export const KEPT_FLAGS = 0x240dd5n
/** User addresses end here (four levels of page tables). */
export const USER_END = 1n << 47n

export const HLT = 0xf4
/** sysretq: to ring 3, at rcx, with the flags of r11. */
export const SYSRETQ: Uint8Array = Buffer.from([0x48, 0x0f, 0x07])

/** Whether a system call is done and only its return is left; `code` is what lies at rip: `sysretq`, or `hlt; sysretq`. */
export function standsAtReturn(code: Uint8Array): boolean {
  const rest = code[0] === HLT ? code.subarray(1) : code
  return SYSRETQ.every((byte, i) => rest[i] === byte)
}
