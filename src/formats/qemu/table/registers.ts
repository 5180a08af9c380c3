/** The registers of the CPU. Source: QEMU target/i386/machine.c. */
import { generalRegisters, kvmMsrNumbers, segmentNames } from '../../../model/machine.js'
import { type CompoundRow, type Row, row, rows } from '../../machine-table.js'
import { hiddenFlags } from '../hidden-flags.js'
import { bits, type Fields } from './clock.js'

/** Descriptor bits 8–15 and 20–23 are VMX access rights 0–7 and 12–15. */
const toFlags = (rights: number) => (rights & 0x10000 ? rights & 0xf07f : rights & 0xf0ff) << 8
const fromFlags = (flags: number) => {
  const rights = (flags >>> 8) & 0xf0ff
  return rights & 0x80 ? rights : rights | 0x10000
}
const segmentFields: Readonly<Record<string, string>> = { ldtr: 'env.ldt', tr: 'env.tr' }
const segments: Row<Fields>[] = segmentNames.flatMap((name, i) => {
  const from = `cpu/${segmentFields[name] ?? `env.segs[${i}]`}`
  return [
    row<Fields>(`${from}.selector`, `cpu.segments.${name}.selector`, bits(0xffff)),
    row<Fields>(`${from}.base`, `cpu.segments.${name}.base`),
    row<Fields>(`${from}.limit`, `cpu.segments.${name}.limit`),
    row<Fields>(`${from}.flags`, `cpu.segments.${name}.attributes`, {
      read: raw => fromFlags(Number(raw)),
      write: value => BigInt(toFlags(value as number) >>> 0),
    }),
  ]
})

const msrs: readonly (readonly [field: string, path: string])[] = [
  ['efer', 'msr.efer'],
  ['star', 'msr.star'],
  ['lstar', 'msr.lstar'],
  ['cstar', 'msr.cstar'],
  ['fmask', 'msr.sfmask'],
  ['kernelgsbase', 'msr.kernelGsBase'],
  ['sysenter_cs', 'msr.sysenterCs'],
  ['sysenter_esp', 'msr.sysenterEsp'],
  ['sysenter_eip', 'msr.sysenterEip'],
  ['pat', 'msr.pat'],
  ['tsc_aux', 'msr.tscAux'],
  ['mtrr_deftype', 'mtrr.defaultType'],
  ['xcr0', 'xcr0'],
  ['mxcsr', 'mxcsr'],
  ['fpuc', 'x87.control'],
  ['fpus_vmstate', 'x87.status'],
]

const pair: (low: string, high: string, path: 'xmm' | 'ymmHigh', i: number) => CompoundRow<Fields> = (
  low,
  high,
  path,
  i,
) => ({
  about: `${path}[${i}] in two halves`,
  read(raw, { cpu }) {
    cpu[path][i] = raw.integer(low) | (raw.integer(high) << 64n)
  },
  write({ cpu }, raw) {
    raw.set(low, BigInt.asUintN(64, cpu[path][i]!))
    raw.set(high, cpu[path][i]! >> 64n)
  },
})

const vectors: Row<Fields>[] = [
  row('cpu/env.fptag_vmstate', 'cpu.x87.valid', bits(0xff)),
  row('cpu/cpu/fpop_ip_dp.env.fpop', 'cpu.x87.opcode'),
  row('cpu/cpu/fpop_ip_dp.env.fpip', 'cpu.x87.instruction'),
  row('cpu/cpu/fpop_ip_dp.env.fpdp', 'cpu.x87.data'),
  {
    about: 'x87 registers: mantissa, then sign and exponent, big endian',
    read(raw, { cpu }) {
      for (let i = 0; i < 8; i++) {
        const bytes = raw.get(`cpu/env.fpregs[${i}].tmp`)
        if (!(bytes instanceof Uint8Array) || bytes.length !== 10) continue
        const view = new DataView(bytes.buffer, bytes.byteOffset, 10)
        cpu.x87.registers[i] = view.getBigUint64(0) | (BigInt(view.getUint16(8)) << 64n)
      }
    },
    write({ cpu }, raw) {
      for (const [i, value] of cpu.x87.registers.entries()) {
        const bytes = new Uint8Array(10)
        const view = new DataView(bytes.buffer)
        view.setBigUint64(0, BigInt.asUintN(64, value))
        view.setUint16(8, Number(value >> 64n))
        raw.set(`cpu/env.fpregs[${i}].tmp`, bytes)
      }
      // x87 and SSE are not in their initial state: a KVM template would otherwise reset them.
      raw.set('cpu/env.xstate_bv', raw.integer('cpu/env.xstate_bv') | 3n)
    },
  },
  ...Array.from({ length: 16 }, (_, i) => [
    pair(`cpu/env.xmm_regs[0][${i}]._q_ZMMReg[0]`, `cpu/env.xmm_regs[0][${i}]._q_ZMMReg[1]`, 'xmm', i),
    pair(`cpu/env.xmm_regs[1][${i}]._q_ZMMReg[2]`, `cpu/env.xmm_regs[1][${i}]._q_ZMMReg[3]`, 'ymmHigh', i),
  ]).flat(),
]

/** KVM's own MSRs; QEMU has the rarer ones in subsections. */
const kvmFields: readonly (readonly [field: string, msr: number])[] = [
  ['env.wall_clock_msr', kvmMsrNumbers.wallClock],
  ['env.system_time_msr', kvmMsrNumbers.systemTime],
  ['cpu/async_pf_msr.env.async_pf_en_msr', kvmMsrNumbers.asyncPageFault],
  ['cpu/steal_time_msr.env.steal_time_msr', kvmMsrNumbers.stealTime],
  ['cpu/async_pv_eoi_msr.env.pv_eoi_en_msr', kvmMsrNumbers.endOfInterrupt],
]
const kvm: CompoundRow<Fields> = {
  about: 'MSRs by which a guest takes time and wake-ups from KVM',
  read(raw, { cpu }) {
    const set = kvmFields.flatMap(([field, msr]) => {
      const value = raw.integer(`cpu/${field}`)
      return value === 0n ? [] : [[msr, value] as const]
    })
    if (set.length > 0) cpu.otherMsrs = new Map(set)
  },
  write({ cpu }, raw) {
    for (const [field, msr] of kvmFields) raw.set(`cpu/${field}`, cpu.otherMsrs?.get(msr) ?? 0n)
  },
}

export const registers: readonly Row<Fields>[] = [
  ...rows<Fields>(
    16,
    i => `cpu/env.regs[${i}]`,
    i => `cpu.general.${generalRegisters[i]}`,
  ),
  row('cpu/env.eip', 'cpu.rip'),
  {
    about: 'the mode that the translator keeps beside the registers',
    read() {},
    write(state, raw) {
      raw.set('cpu/env.hflags', hiddenFlags(state, raw.integer('cpu/env.hflags')))
    },
  },
  row('cpu/env.eflags', 'cpu.rflags'),
  ...segments,
  row('cpu/env.gdt.base', 'cpu.gdtr.base'),
  row('cpu/env.gdt.limit', 'cpu.gdtr.limit', bits(0xffff)),
  row('cpu/env.idt.base', 'cpu.idtr.base'),
  row('cpu/env.idt.limit', 'cpu.idtr.limit', bits(0xffff)),
  ...[0, 2, 3, 4].map(i => row<Fields>(`cpu/env.cr[${i}]`, `cpu.control.cr${i}`)),
  ...[0, 1, 2, 3, 6, 7].map(i => row<Fields>(`cpu/env.dr[${i}]`, `cpu.debug.dr${i}`)),
  ...msrs.map(([field, path]) => row<Fields>(`cpu/env.${field}`, `cpu.${path}`)),
  ...rows<Fields>(
    11,
    i => `cpu/env.mtrr_fixed[${i}]`,
    i => `cpu.mtrr.fixed.${i}`,
  ),
  ...rows<Fields>(
    8,
    i => `cpu/env.mtrr_var[${i}].base`,
    i => `cpu.mtrr.variable.${i}.base`,
  ),
  ...rows<Fields>(
    8,
    i => `cpu/env.mtrr_var[${i}].mask`,
    i => `cpu.mtrr.variable.${i}.mask`,
  ),
  ...vectors,
  kvm,
]
