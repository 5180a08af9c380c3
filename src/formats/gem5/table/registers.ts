/** The registers of the CPU: general, control, MSRs, RFLAGS, RIP, x87 and SSE, time. Sources: gem5 src/arch/x86/isa.cc, regs/. */
import { abridgedTags, doubleToExtended, extendedToDouble, fullTags, topOfStack } from '../../../isa/x87.js'
import { generalRegisters, type MachineState } from '../../../model/machine.js'
import { type CompoundRow, type Row, row, rows } from '../../machine-table.js'
import { cyclesAt, type Fields, integer, reg, tickOf } from './common.js'
import { BASE, segments } from './segments.js'

const FLAGS_READABLE = 0x3f7fd5n
/** Microcode's condition registers: PF AF ZF SF | CF OF | DF. */
const ZAPS = 0xd4n
const CFOF = 0x801n
const DIRECTION = 0x400n
const FLAGS_2011 = 0x8d5n

/** Neutral MSRs and control registers that are one element of regVal. */
const miscRegisters: readonly (readonly [index: number, path: string])[] = [
  [0, 'control.cr0'],
  [2, 'control.cr2'],
  [3, 'control.cr3'],
  [4, 'control.cr4'],
  ...[0, 1, 2, 3, 6, 7].map(i => [16 + i, `debug.dr${i}`] as const),
  [28, 'msr.sysenterCs'],
  [29, 'msr.sysenterEsp'],
  [30, 'msr.sysenterEip'],
  ...Array.from({ length: 8 }, (_, i) => [39 + i, `mtrr.variable.${i}.base`] as const),
  ...Array.from({ length: 8 }, (_, i) => [47 + i, `mtrr.variable.${i}.mask`] as const),
  ...Array.from({ length: 11 }, (_, i) => [55 + i, `mtrr.fixed.${i}`] as const),
  [66, 'msr.pat'],
  [67, 'mtrr.defaultType'],
  [100, 'msr.efer'],
  [101, 'msr.star'],
  [102, 'msr.lstar'],
  [103, 'msr.cstar'],
  [104, 'msr.sfmask'],
  [105, 'msr.kernelGsBase'],
  [106, 'msr.tscAux'],
  [192, 'mxcsr'],
  [193, 'x87.control'],
  [198, 'x87.instruction'],
  [200, 'x87.data'],
  [201, 'x87.opcode'],
  [202, 'msr.apicBase'],
]

const flags: CompoundRow<Fields> = {
  about: 'RFLAGS: condition bits live in registers of their own, in 2011 in integer register 32',
  read(raw, { cpu }) {
    const kept = integer(raw, reg(24))
    cpu.rflags = raw.is2011
      ? kept | (integer(raw, 'xc.integer[32]') & FLAGS_2011) | 2n
      : ((kept |
          integer(raw, 'xc.condition[0]') |
          integer(raw, 'xc.condition[1]') |
          integer(raw, 'xc.condition[2]')) &
          FLAGS_READABLE) |
        2n
  },
  write({ cpu }, raw) {
    const { rflags } = cpu
    if (raw.is2011) {
      raw.set('xc.integer[32]', rflags & FLAGS_2011)
      raw.set(reg(24), rflags & ~FLAGS_2011)
      return
    }
    for (const [i, mask] of [ZAPS, CFOF, DIRECTION, 0n, 0n].entries())
      raw.set(`xc.condition[${i}]`, rflags & mask)
    raw.set(reg(24), rflags & ~(ZAPS | CFOF | DIRECTION))
  },
}

const instructionPointer: CompoundRow<Fields> = {
  about: 'RIP: _pc is linear (with CS base); a clean boundary has no micro-op under way',
  read(raw, { cpu }) {
    const long = (integer(raw, reg(100)) & 0x400n) !== 0n
    cpu.rip = BigInt.asUintN(64, integer(raw, 'xc._pc') - (long ? 0n : integer(raw, reg(BASE + 1))))
    cpu.halted = integer(raw, 'xc._status') === 1n
  },
  write({ cpu }, raw) {
    const long = (cpu.msr.efer & 0x400n) !== 0n
    const linear = BigInt.asUintN(64, cpu.rip + (long ? 0n : cpu.segments.cs.base))
    raw.set('xc._pc', linear)
    raw.set('xc._npc', BigInt.asUintN(64, linear + 8n))
    raw.set('xc._upc', 0n)
    raw.set('xc._nupc', 1n)
    raw.set('xc._size', 0n)
    raw.set('xc._status', cpu.halted ? 1n : 0n)
  },
}

/** MMX values lie in the x87 registers with an exponent of all ones, all tags valid and the top of stack at 0. */
const inMmx = (cpu: MachineState['cpu']) => cpu.x87.valid === 0xff && topOfStack(cpu.x87.status) === 0
const MMX_EXPONENT = 0xffffn << 64n

const vectors: CompoundRow<Fields> = {
  about: 'x87 registers are doubles in gem5 (MMX: raw), XMM pairs of 64 bits',
  read(raw, { cpu }) {
    cpu.x87.status =
      (Number(integer(raw, reg(194)) & 0xffffn) & ~0x3800) | (Number(integer(raw, reg(191)) & 7n) << 11)
    cpu.x87.valid = abridgedTags(Number(integer(raw, reg(195)) & 0xffffn))
    const mmx = inMmx(cpu)
    for (let i = 0; i < 8; i++) {
      const value = integer(raw, `xc.float[${i}]`)
      cpu.x87.registers[i] = mmx ? MMX_EXPONENT | value : doubleToExtended(value)
    }
    for (let i = 0; i < 16; i++)
      cpu.xmm[i] = integer(raw, `xc.float[${8 + 2 * i}]`) | (integer(raw, `xc.float[${9 + 2 * i}]`) << 64n)
  },
  write({ cpu }, raw) {
    raw.set(reg(191), BigInt(topOfStack(cpu.x87.status)))
    raw.set(reg(194), BigInt(cpu.x87.status))
    raw.set(reg(195), BigInt(fullTags(cpu.x87.valid)))
    const mmx = inMmx(cpu)
    for (const [i, value] of cpu.x87.registers.entries())
      raw.set(
        `xc.float[${i}]`,
        mmx && value >> 64n === 0xffffn ? BigInt.asUintN(64, value) : extendedToDouble(value),
      )
    for (const [i, value] of cpu.xmm.entries()) {
      raw.set(`xc.float[${8 + 2 * i}]`, BigInt.asUintN(64, value))
      raw.set(`xc.float[${9 + 2 * i}]`, value >> 64n)
    }
  },
}

const time: CompoundRow<Fields> = {
  about:
    'curTick is virtual time in ps; the TSC is regVal[26] plus the cycles since tick 0; CR8 and XCR0 follow others',
  read(raw, { cpu, devices }) {
    const tick = integer(raw, 'globals.curTick')
    devices.time = tick
    cpu.tsc = BigInt.asUintN(64, integer(raw, reg(26)) + cyclesAt(tick, raw.timing.cpuClock))
    cpu.tscRate = raw.timing.cpuClock
    cpu.xcr0 = raw.is2011 ? 1n : integer(raw, reg(204)) | 1n
  },
  write({ cpu, devices }, raw) {
    const tick = tickOf(raw, devices)
    raw.set('globals.curTick', tick)
    if (cpu.tsc !== undefined)
      raw.set(reg(26), BigInt.asUintN(64, cpu.tsc - cyclesAt(tick, raw.timing.cpuClock)))
    raw.set(reg(8), BigInt(cpu.taskPriority >> 4))
    if (!raw.is2011) raw.set(reg(204), cpu.xcr0 | 1n)
  },
}

export const registers: readonly Row<Fields>[] = [
  ...rows<Fields>(
    16,
    i => `xc.integer[${i}]`,
    i => `cpu.general.${generalRegisters[i]}`,
  ),
  ...miscRegisters.map(([index, path]) => row<Fields>(reg(index), `cpu.${path}`, widths(path))),
  segments,
  flags,
  instructionPointer,
  vectors,
  time,
]

/** regVal elements are 64 bits; narrow registers keep their own width. */
function widths(path: string) {
  const width =
    path === 'mxcsr' ? 0xffffffffn : path === 'x87.control' || path === 'x87.opcode' ? 0xffffn : 0n
  if (width === 0n) return undefined
  return { read: (raw: bigint) => Number(raw & width), write: (value: unknown) => BigInt(value as number) }
}
