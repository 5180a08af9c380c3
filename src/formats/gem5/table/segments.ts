/**
 * Segments and descriptor tables: five groups of regVal (selectors, bases, effective bases, limits, attributes), each in
 * the order ES CS SS DS FS GS HS LDTR GDTR LS MS TR IDTR. Source: gem5 src/arch/x86/regs/misc.hh.
 */
import type { SegmentName } from '../../../model/machine.js'
import type { CompoundRow } from '../../machine-table.js'
import { fromSegAttributes, modeRegister, toSegAttributes } from '../segment-attributes.js'
import { type Fields, integer, reg } from './common.js'

/** Position of a segment within each of the five groups of regVal (selector, base, effective base, limit, attributes). */
const segmentPositions: Readonly<Record<SegmentName, number>> = {
  es: 0,
  cs: 1,
  ss: 2,
  ds: 3,
  fs: 4,
  gs: 5,
  ldtr: 7,
  tr: 11,
}
const GDTR = 8
const IDTR = 12
const SELECTOR = 126
export const BASE = 139
const EFFECTIVE_BASE = 152
const LIMIT = 165
export const ATTRIBUTES = 178

export const segments: CompoundRow<Fields> = {
  about:
    'segments: selector (garbage above bit 15 is dropped), base, limit, attributes; derived: effective base',
  read(raw, { cpu }) {
    for (const [name, at] of Object.entries(segmentPositions) as [SegmentName, number][])
      Object.assign(cpu.segments[name], {
        selector: Number(integer(raw, reg(SELECTOR + at)) & 0xffffn),
        base: integer(raw, reg(BASE + at)),
        limit: Number(integer(raw, reg(LIMIT + at)) & 0xffffffffn),
        attributes: fromSegAttributes(Number(integer(raw, reg(ATTRIBUTES + at)) & 0xffffn)),
      })
    for (const [table, at] of [
      [cpu.gdtr, GDTR],
      [cpu.idtr, IDTR],
    ] as const) {
      table.base = integer(raw, reg(BASE + at))
      // gem5 leaves garbage above bit 15, as in selectors.
      table.limit = Number(integer(raw, reg(LIMIT + at)) & 0xffffn)
    }
  },
  write({ cpu }, raw) {
    const long = (cpu.msr.efer & 0x400n) !== 0n && (cpu.segments.cs.attributes & 0x2000) !== 0
    for (const [name, at] of Object.entries(segmentPositions) as [SegmentName, number][]) {
      const { selector, base, limit, attributes } = cpu.segments[name]
      const flat = long && at < segmentPositions.fs
      raw.set(reg(SELECTOR + at), BigInt(selector))
      raw.set(reg(BASE + at), base)
      raw.set(reg(EFFECTIVE_BASE + at), flat ? 0n : base)
      raw.set(reg(LIMIT + at), BigInt(limit))
      raw.set(reg(ATTRIBUTES + at), BigInt(toSegAttributes(attributes)))
    }
    for (const [table, at] of [
      [cpu.gdtr, GDTR],
      [cpu.idtr, IDTR],
    ] as const) {
      raw.set(reg(BASE + at), table.base)
      raw.set(reg(EFFECTIVE_BASE + at), table.base)
      raw.set(reg(LIMIT + at), BigInt(table.limit))
    }
    raw.set(reg(25), BigInt(modeRegister(cpu)))
  },
}
