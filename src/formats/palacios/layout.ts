/**
 * The contexts of a Palacios checkpoint with their tags in the order in which Palacios asks for them (devel of 2014-01
 * to 2017), each with its length in bytes. Made whole from this list where no template is given.
 * Older trees lack some: `run_state`, `cpu_mode`, `mem_mode`, `CPL` (before 2014-01), `FP_STATE_*` (before 2013-10),
 * `COMn_int_state` (before 2013-08), `PIT_CHn_LATCH_VALUE` (before 2013-05); those checkpoints are read, and patched
 * as they are.
 */
import { type Context, newContext } from './records.js'

export type Tags = ReadonlyArray<readonly [tag: string, bytes: number]>

const all = (bytes: number, text: string): Tags =>
  text
    .trim()
    .split(/\s+/)
    .map(tag => [tag, bytes])
const masterAndSlave = (name: string) => `MASTER_${name} SLAVE_${name}`

const pic: Tags = [
  ...all(1, ['IRR', 'ISR', 'ELCR', 'ELCR_MASK'].map(masterAndSlave).join(' ')),
  ...all(1, 'MASTER_ICW1 MASTER_ICW2 MASTER_ICW3 MASTER_ICW4 SLAVE_ICW1 SLAVE_ICW2 SLAVE_ICW3 SLAVE_ICW4'),
  ...all(1, 'MASTER_IMR SLAVE_IMR MASTER_OCW2 MASTER_OCW3 SLAVE_OCW2 SLAVE_OCW3'),
  ...all(4, 'MASTER_STATE SLAVE_STATE'),
]

const pit: Tags = [
  ...all(8, 'PIT_COUNTER PIT_RELOAD'),
  ...[0, 1, 2].flatMap(n => {
    const tags = (bytes: number, names: string) =>
      all(bytes, names).map(([name]) => [`PIT_CH${n}_${name}`, bytes] as const)
    return [
      ...tags(4, 'ACCESS_MODE ACCESS_STATE RUN_STATE OP_MODE'),
      ...tags(2, 'COUNTER RELOAD_VALUE LATCH_VALUE'),
      ...tags(4, 'LATCH_STATE READ_STATE'),
      ...tags(1, 'PINS'),
    ]
  }),
  ['PIT_SPEAKER', 1],
]

const apic: Tags = [
  ['NUM_APICS', 4],
  ...(
    [
      ...all(8, 'BASE_ADDR BASE_ADDR_MSR'),
      ...all(4, 'LAPIC_ID APIC_VER EXT_APIC_CTRL LOCAL_VEC_TBL TMR_VEC_TBL TMR_DIV_CFG LINT0_VEC_TBL'),
      ...all(4, 'LINT1_VEC_TBL PERF_CTR_LOC_VEC_TBL THERM_LOC_VEC_TBL ERR_VEC_TBL ERR_STATUS SPURIOUS_INT'),
      ...all(8, 'INT_CMD'),
      ...all(
        4,
        'LOG_DST DST_FMT ARB_PRIO TASK_PRIO PROC_PRIO EXT_APIC_FEATURE SPEC_EOI TMR_CUR_CNT TMR_INIT_CNT',
      ),
      ...all(16, 'EXT_INTR_VEC_TBL'),
      ...all(4, 'REM_RD_DATA IPI_STATE'),
      ...all(32, 'INT_REQ_REG INT_SVC_REG INT_EN_REG TRIG_MODE_REG'),
      ...all(4, 'EOI'),
    ] as Tags
  ).map(([tag, bytes]) => [`${tag}0`, bytes] as const),
]

const ioApic: Tags = [
  ['BASE_ADDR', 8],
  ...all(4, 'INDEX_REG IOAPIC_ID IOAPIC_VER IOAPIC_ARB_ID'),
  ['REDIR_TABLE', 192],
]

const fifo = (n: number, name: string): Tags => [
  ...all(4, `COM${n}_${name}_HEAD COM${n}_${name}_TAIL COM${n}_${name}_FULL`),
  [`COM${n}_${name}_DATA`, 16],
]
const serial: Tags = [0, 1, 2, 3].flatMap(n => [
  ...all(1, 'RBR THR IER IIR FCR LCR MCR LSR MSR SCR DLL DLM int_state').map(
    ([tag, bytes]) => [`COM${n}_${tag}`, bytes] as const,
  ),
  ...fifo(n, 'TX'),
  ...fifo(n, 'RX'),
  [`COM${n}_IRQ_NUM`, 4] as const,
])

const keyboard: Tags = [
  ...all(1, 'CMD_REG STATUS_REG'),
  ...all(4, 'STATE MOUSE_STATE'),
  ...all(1, 'OUTPUT INPUT SCANCODE_SET MOUSE_ENABLED'),
]

const guestInfo: Tags = [
  ...all(4, 'run_state cpu_mode mem_mode CPL'),
  ...all(8, 'RIP RDI RSI RBP RSP RBX RDX RCX RAX R8 R9 R10 R11 R12 R13 R14 R15'),
  ...all(8, 'CR0 CR2 CR3 CR4 CR8 APIC_TPR RFLAGS EFER DR0 DR1 DR2 DR3 DR6 DR7'),
  ...all(16, 'CS DS ES FS GS SS LDTR GDTR IDTR TR'),
  ...all(8, 'STAR LSTAR SFMASK KERN_GS_BASE GUEST_CR3 GUEST_CR0 GUEST_EFER'),
  ['FP_STATE_TYPE', 4],
  ['FP_STATE_BLOB', 512],
]

const vmcb: Tags = [
  ['CPL', 4],
  ...all(8, 'STAR CSTAR LSTAR SFMASK KERNELGSBASE SYSENTER_CS SYSENTER_ESP SYSENTER_EIP'),
  ['VMCB_DATA', 4096],
]

/** Tag that only this device's context has: device ids are the user's choice. */
export const signatures: Readonly<Record<string, string>> = {
  pic: 'MASTER_IRR',
  pit: 'PIT_RELOAD',
  apic: 'NUM_APICS',
  ioApic: 'REDIR_TABLE',
  serial: 'COM0_RBR',
  keyboard: 'SCANCODE_SET',
  pci: 'ADDR_REG',
  guest: 'RIP',
  vmcb: 'VMCB_DATA',
}

export const DEVICE_ID_BYTES = 32
const HEADER = 'v3vee palacios checkpoint version: x.x, SVM x.x'
const devices: readonly (readonly [id: string, tags: Tags])[] = [
  ['PIC', pic],
  ['keyboard', keyboard],
  ['PIT', pit],
  ['apic', apic],
  ['ioapic', ioApic],
  ['serial', serial],
]

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** Values that are not zero in a machine after reset, or that Palacios sets once. */
const presets: Readonly<Record<string, Uint8Array>> = {
  run_state: u32(1),
  MASTER_ELCR_MASK: Buffer.from([0xf8]),
  SLAVE_ELCR_MASK: Buffer.from([0xde]),
  MASTER_ICW1: Buffer.from([0x11]),
  SLAVE_ICW1: Buffer.from([0x11]),
  MASTER_ICW3: Buffer.from([4]),
  SLAVE_ICW3: Buffer.from([2]),
  MASTER_ICW4: Buffer.from([1]),
  SLAVE_ICW4: Buffer.from([1]),
  MASTER_OCW3: Buffer.from([0x0a]),
  SLAVE_OCW3: Buffer.from([0x0a]),
  NUM_APICS: u32(1),
  BASE_ADDR0: Buffer.from('0000e0fe00000000', 'hex'),
  APIC_VER0: u32(0x80050010),
  EXT_APIC_FEATURE0: u32(0x40007),
  IPI_STATE0: u32(2),
  INT_EN_REG0: new Uint8Array(32).fill(0xff),
  BASE_ADDR: Buffer.from('0000c0fe00000000', 'hex'),
  IOAPIC_VER: u32(0x00170011),
  SCANCODE_SET: Buffer.from([2]),
  FP_STATE_TYPE: u32(1),
  // The rate of a 1 GHz host: Palacios counts host cycles between two ticks of the PIT.
  PIT_RELOAD: Buffer.from('4603000000000000', 'hex'),
  PIT_COUNTER: Buffer.from('4603000000000000', 'hex'),
  ...Object.fromEntries(
    [0, 1, 2, 3].flatMap(n => [
      [`COM${n}_LSR`, Buffer.from([0x60])],
      [`COM${n}_IIR`, Buffer.from([1])],
      [`COM${n}_IRQ_NUM`, u32(n % 2 === 0 ? 4 : 3)],
    ]),
  ),
}

/** A checkpoint of a machine after reset, in Palacios' order of contexts. */
export function blankContexts(): Context[] {
  const context = (key: string, tags: Tags) =>
    newContext(
      key,
      tags.map(([tag, bytes]) => [tag, presets[tag] ?? new Uint8Array(bytes)]),
    )
  const names = Buffer.alloc(devices.length * DEVICE_ID_BYTES)
  for (const [i, [id]] of devices.entries()) names.write(id, i * DEVICE_ID_BYTES, 'latin1')
  return [
    newContext('devices', [
      ['num_devs', u32(devices.length)],
      ['names', names],
    ]),
    ...devices.map(([id, tags]) => context(id, tags)),
    newContext('header', [['header', Buffer.from(HEADER)]]),
    context('guest_info0', guestInfo),
    context('vmcb_data0', vmcb),
  ]
}

/** The length that Palacios reads for a tag, where it is known. */
export const tagLengths: ReadonlyMap<string, number> = new Map(
  [...devices.map(([, tags]) => tags), guestInfo, vmcb].flat().map(([tag, bytes]) => [tag, bytes]),
)

const rolesInOrder: Readonly<Record<string, Tags>> = {
  pic,
  pit,
  apic,
  ioApic,
  serial,
  keyboard,
  guest: guestInfo,
  vmcb,
}
/** Role of a context → its tags with their places in Palacios' order. */
export const tagOrder: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map(
  Object.entries(rolesInOrder).map(([role, tags]) => [role, new Map(tags.map(([tag], i) => [tag, i]))]),
)
