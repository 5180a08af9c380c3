/** The registers of a core: `guest_info0`, and what only the VMCB holds. Sources: vmm_checkpoint.c; AMD APM 2, B. */
import { decodeFxsave, encodeFxsave } from '../../../isa/fxsave.js'
import type { SegmentName } from '../../../model/machine.js'
import { type CompoundRow, type Row, row } from '../../machine-table.js'
import type { PalaciosFields } from '../fields.js'

type Fields = PalaciosFields

const general = [
  ...(['rdi', 'rsi', 'rbp', 'rsp', 'rbx', 'rdx', 'rcx', 'rax'] as const),
  ...(['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const),
]

/** Bits of the 13-bit descriptor: type, S, DPL, P as in VMX access rights; AVL, L, D/B, G four lower; unusable at 12. */
const fromBits = (bits: number) => {
  const rights = (bits & 0xff) | ((bits & 0xf00) << 4) | ((bits & 0x1000) << 4)
  return rights & 0x80 ? rights : rights | 0x10000
}
const toBits = (rights: number) => (rights & 0xff) | ((rights & 0xf000) >> 4) | ((rights & 0x10000) >> 4)

const segmentTags: Readonly<Record<SegmentName, string>> = {
  cs: 'CS',
  ds: 'DS',
  es: 'ES',
  fs: 'FS',
  gs: 'GS',
  ss: 'SS',
  ldtr: 'LDTR',
  tr: 'TR',
}

const SEGMENT_BYTES = 16
const segments: CompoundRow<Fields> = {
  about:
    'segments: u16 selector, u32 limit, u64 base, 13 bits of attributes; GDTR and IDTR only base and limit',
  read(raw, { cpu }) {
    const parts = (tag: string) => {
      const bytes = raw.bytes(`guest/${tag}`)
      if (bytes === undefined || bytes.length < SEGMENT_BYTES) return undefined
      const view = new DataView(bytes.buffer, bytes.byteOffset, SEGMENT_BYTES)
      return {
        selector: view.getUint16(0, true),
        limit: view.getUint32(2, true),
        base: view.getBigUint64(6, true),
        attributes: fromBits(view.getUint16(14, true)),
      }
    }
    for (const [name, tag] of Object.entries(segmentTags) as [SegmentName, string][])
      Object.assign(cpu.segments[name], parts(tag))
    for (const [table, tag] of [
      [cpu.gdtr, 'GDTR'],
      [cpu.idtr, 'IDTR'],
    ] as const) {
      const { base, limit } = parts(tag) ?? table
      Object.assign(table, { base, limit: limit & 0xffff })
    }
  },
  write({ cpu }, raw) {
    const put = (tag: string, selector: number, limit: number, base: bigint, bits: number) => {
      const bytes = new Uint8Array(SEGMENT_BYTES)
      const view = new DataView(bytes.buffer)
      view.setUint16(0, selector, true)
      view.setUint32(2, limit, true)
      view.setBigUint64(6, base, true)
      view.setUint16(14, bits, true)
      raw.set(`guest/${tag}`, bytes)
    }
    for (const [name, tag] of Object.entries(segmentTags) as [SegmentName, string][]) {
      const { selector, limit, base, attributes } = cpu.segments[name]
      put(tag, selector, limit, base, toBits(attributes))
    }
    put('GDTR', 0, cpu.gdtr.limit, cpu.gdtr.base, 0)
    put('IDTR', 0, cpu.idtr.limit, cpu.idtr.base, 0)
  },
}

/** EFER.SVME belongs to the monitor. */
const SVME = 1n << 12n
const PAGING = 1n << 31n

const controlRegisters: CompoundRow<Fields> = {
  about: 'CR0, CR3, EFER: under shadow paging the guest’s own are GUEST_*; both sets are written equal',
  read(raw, { cpu }) {
    const shadow = usesShadowPaging(raw)
    const prefix = shadow ? 'guest/GUEST_' : 'guest/'
    // Trees up to 2013-05 misspell one of the tags.
    const cr0 = shadow && raw.get('guest/GUEST_CR0') === undefined ? 'guest/GUEST_CRO' : `${prefix}CR0`
    cpu.control.cr0 = raw.integer(cr0)
    cpu.control.cr3 = raw.integer(`${prefix}CR3`)
    cpu.msr.efer = raw.integer(`${prefix}EFER`) & ~SVME
  },
  write({ cpu }, raw) {
    for (const [name, value] of [
      ['CR0', cpu.control.cr0],
      ['CR3', cpu.control.cr3],
      ['EFER', cpu.msr.efer],
    ] as const) {
      raw.set(`guest/${name}`, value)
      raw.set(`guest/GUEST_${name}`, value)
    }
    raw.set('guest/GUEST_CRO', cpu.control.cr0)
  },
}

function usesShadowPaging(raw: Fields): boolean {
  if (raw.timing.paging !== undefined) return raw.timing.paging === 'shadow'
  const guest = raw.integer('guest/GUEST_CR3')
  const enabled = (raw.integer('guest/GUEST_CR0') | raw.integer('guest/GUEST_CRO')) & PAGING
  return guest !== 0n && guest !== raw.integer('guest/CR3') && enabled !== 0n
}

/** Enums of vmm.h. */
const CpuMode = { real: 0n, protected: 1n, pae: 2n, long: 3n, longCompat: 4n } as const
/** Stands behind the APIC in the table, whose task priority is the register's. */
export const modes: CompoundRow<Fields> = {
  about: 'what follows from the registers: CPL, mode of the CPU and of memory, CR8; the core runs',
  read(raw, { cpu }) {
    cpu.taskPriority = Number(raw.integer('guest/APIC_TPR') & 0xffn)
  },
  write({ cpu }, raw) {
    const { cr0, cr4 } = cpu.control
    const long = (cpu.msr.efer & 0x400n) !== 0n
    const mode = long
      ? cpu.segments.cs.attributes & 0x2000
        ? CpuMode.long
        : CpuMode.longCompat
      : (cr0 & 1n) === 0n
        ? CpuMode.real
        : cr4 & 0x20n
          ? CpuMode.pae
          : CpuMode.protected
    const cpl = BigInt((cpu.segments.ss.attributes >> 5) & 3)
    raw.set('guest/run_state', 1n)
    raw.set('guest/cpu_mode', mode)
    raw.set('guest/mem_mode', cr0 & PAGING ? 1n : 0n)
    raw.set('guest/CPL', cpl)
    raw.set('guest/CR8', BigInt(cpu.taskPriority >> 4))
    raw.set('guest/APIC_TPR', BigInt(cpu.taskPriority))
    raw.set('apic/TASK_PRIO0', BigInt(cpu.taskPriority))
    raw.set('vmcb/CPL', cpl)
  },
}

const vectors: CompoundRow<Fields> = {
  about: 'x87 and SSE as an FXSAVE64 image, registers in the order of the stack',
  read(raw, { cpu }) {
    const blob = raw.bytes('guest/FP_STATE_BLOB')
    if (blob !== undefined && blob.length >= 416) Object.assign(cpu, decodeFxsave(blob))
  },
  write({ cpu }, raw) {
    const old = raw.bytes('guest/FP_STATE_BLOB')
    raw.set('guest/FP_STATE_BLOB', encodeFxsave(cpu, old?.some(byte => byte !== 0) ? old : undefined))
    raw.set('guest/FP_STATE_TYPE', 1n)
  },
}

/** Tag of `vmcb_data` and place in the VMCB for registers that are nowhere else. */
const onlyInVmcb = [
  ['CSTAR', 0x610, 'cstar'],
  ['SYSENTER_CS', 0x628, 'sysenterCs'],
  ['SYSENTER_ESP', 0x630, 'sysenterEsp'],
  ['SYSENTER_EIP', 0x638, 'sysenterEip'],
  [undefined, 0x668, 'pat'],
] as const
const vmcb: CompoundRow<Fields> = {
  about: 'SVM: CSTAR, SYSENTER_* and PAT live in the VMCB only; its control area stays the template’s',
  read(raw, { cpu }) {
    const block = raw.bytes('vmcb/VMCB_DATA')
    for (const [tag, offset, name] of onlyInVmcb) {
      const tagged = tag && raw.get(`vmcb/${tag}`)
      if (typeof tagged === 'bigint') cpu.msr[name] = tagged
      else if (block !== undefined && block.length >= 4096)
        cpu.msr[name] = new DataView(block.buffer, block.byteOffset).getBigUint64(offset, true)
    }
  },
  write({ cpu }, raw) {
    const block = raw.bytes('vmcb/VMCB_DATA')?.slice()
    const view = block && block.length >= 4096 ? new DataView(block.buffer, block.byteOffset) : undefined
    for (const [tag, offset, name] of onlyInVmcb) {
      const value = cpu.msr[name]
      if (value === undefined) continue
      if (tag) raw.set(`vmcb/${tag}`, value)
      view?.setBigUint64(offset, value, true)
    }
    if (block) raw.set('vmcb/VMCB_DATA', block)
    for (const [tag, value] of [
      ['STAR', cpu.msr.star],
      ['LSTAR', cpu.msr.lstar],
      ['SFMASK', cpu.msr.sfmask],
      ['KERNELGSBASE', cpu.msr.kernelGsBase],
    ] as const)
      raw.set(`vmcb/${tag}`, value)
  },
}

const guest = (tags: readonly (readonly [tag: string, path: string])[]): Row<Fields>[] =>
  tags.map(([tag, path]) => row<Fields>(`guest/${tag}`, `cpu.${path}`))

export const registers: readonly Row<Fields>[] = [
  ...guest([['RIP', 'rip'], ...general.map(name => [name.toUpperCase(), `general.${name}`] as const)]),
  ...guest([
    ['RFLAGS', 'rflags'],
    ['CR2', 'control.cr2'],
    ['CR4', 'control.cr4'],
    ...[0, 1, 2, 3, 6, 7].map(i => [`DR${i}`, `debug.dr${i}`] as const),
    ['STAR', 'msr.star'],
    ['LSTAR', 'msr.lstar'],
    ['SFMASK', 'msr.sfmask'],
    ['KERN_GS_BASE', 'msr.kernelGsBase'],
  ]),
  segments,
  controlRegisters,
  vectors,
  vmcb,
]
