/**
 * gem5's SegAttr against VMX access rights (the neutral form), and its derived mode register.
 *
 *   SegAttr   0–1 DPL  2 unusable  3 D/B  4 L  5 AVL  6 G  7 P  8–11 type  12 writable  13 readable  14 expand down  15 S
 *   neutral   0–3 type  4 S  5–6 DPL  7 P  12 AVL  13 L  14 D/B  15 G  16 unusable
 *
 * Source: gem5 src/arch/x86/regs/misc.hh, isa.cc.
 */
import type { Cpu } from '../../model/machine.js'

const bit = (value: number, at: number) => (value >> at) & 1

/** Access rights as VMX has them → gem5's 16 bits. */
export function toSegAttributes(rights: number): number {
  const type = rights & 15
  const codeOrData = bit(rights, 4)
  const isCode = bit(type, 3)
  const writable = codeOrData ? (isCode ? 0 : bit(type, 1)) : 1
  const readable = codeOrData && isCode ? bit(type, 1) : 1
  const expandDown = codeOrData && !isCode ? bit(type, 2) : 0
  const present = bit(rights, 7)
  const unusable = bit(rights, 16) || !present ? 1 : 0
  return (
    ((rights >> 5) & 3) |
    (unusable << 2) |
    (bit(rights, 14) << 3) |
    (bit(rights, 13) << 4) |
    (bit(rights, 12) << 5) |
    (bit(rights, 15) << 6) |
    (present << 7) |
    (type << 8) |
    (writable << 12) |
    (readable << 13) |
    (expandDown << 14) |
    (codeOrData << 15)
  )
}

/** The other way. */
export function fromSegAttributes(attributes: number): number {
  return (
    ((attributes >> 8) & 15) |
    (bit(attributes, 15) << 4) |
    ((attributes & 3) << 5) |
    (bit(attributes, 7) << 7) |
    (bit(attributes, 5) << 12) |
    (bit(attributes, 4) << 13) |
    (bit(attributes, 3) << 14) |
    (bit(attributes, 6) << 15) |
    // A segment that is not present cannot be used, whether or not gem5 says so.
    ((bit(attributes, 2) | (1 - bit(attributes, 7))) << 16)
  )
}

const Submode = { long: 0, compatibility: 1, protected: 2, virtual8086: 3, real: 4 } as const

/** M5Reg, which v24 computes again when it loads and 2011 does not. */
export function modeRegister(cpu: Cpu): number {
  const { cs, ss } = cpu.segments
  const longMode = (cpu.msr.efer & 0x400n) !== 0n
  const protectedMode = (cpu.control.cr0 & 1n) !== 0n
  const paging = (cpu.control.cr0 & 0x80000000n) !== 0n
  const sixtyFour = longMode && bit(cs.attributes, 13) === 1
  const big = bit(cs.attributes, 14) === 1
  const submode = longMode
    ? sixtyFour
      ? Submode.long
      : Submode.compatibility
    : !protectedMode
      ? Submode.real
      : cpu.rflags & 0x20000n
        ? Submode.virtual8086
        : Submode.protected
  const [operand, otherOperand] = sixtyFour || big ? [2, 1] : [1, 2]
  const [address, otherAddress] = sixtyFour ? [3, 2] : big ? [2, 1] : [1, 2]
  const stack = sixtyFour ? 3 : bit(ss.attributes, 14) ? 2 : 1
  return (
    (longMode ? 0 : 1) |
    (submode << 1) |
    (((cs.attributes >> 5) & 3) << 4) |
    (Number(paging) << 6) |
    (Number(protectedMode) << 7) |
    (operand << 8) |
    (otherOperand << 10) |
    (address << 12) |
    (otherAddress << 14) |
    (stack << 16)
  )
}
