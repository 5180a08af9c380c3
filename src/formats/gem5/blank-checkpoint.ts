/**
 * The smallest checkpoint that gem5 restores a PC from: the sections that hold state, every key at its reset value.
 * A section that is missing leaves its object as constructed; within a section no key may be missing, and lists must
 * have exactly these lengths. Made so that no checkpoint of gem5 ("skeleton") is needed for a conversion.
 * Sources: gem5 v24.0.0.1 and git b61e34fab8 (2011-10), the serialize functions of each object.
 */
import { CheckpointText } from './checkpoint-text.js'

export type Gem5Era = 'v24' | '2011'

/** Tags of v24.0: a missing one only makes gem5 warn. */
const VERSION_TAGS =
  'arm-ccregs arm-contextidr-el2 arm-gem5-gic-ext arm-gicv2-banked-regs arm-hdlcd-upgrade arm-miscreg-teehbr arm-sve ' +
  'arm-sysreg-mapping-ns armv8 cpu-pid dvfs-perflevel etherswitch globals-to-root ide-dma-abort isa-is-simobject ' +
  'memory-per-range mempool-sections mempool-to-seworkload multiple-event-queues process-fdmap-rename register-files ' +
  'remove-arm-cpsr-mode-miscreg riscv-dyn-vlen riscv-pcstate riscv-vext ruby-block-size-bytes smt-interrupts ' +
  'x86-add-tlb x86-add-xcr0'

type Keys = Record<string, string | number | boolean>

const repeat = (value: string | number | boolean, count: number) => new Array(count).fill(value).join(' ')

/** The 70 registers after reset: version, flat destination format, masked LVT entries. */
const apicRegisters = Array.from({ length: 70 }, (_, i) =>
  i === 1 ? 0x50014 : i === 7 ? 0xffffffff : i === 8 ? 0xff : i >= 60 && i <= 65 ? 0x10000 : 0,
).join(' ')

const apic = (era: Gem5Era): Keys => ({
  regs: apicRegisters,
  ...(era === '2011' ? { clock: 1000 } : {}),
  pendingSmi: false,
  smiVector: 0,
  pendingNmi: false,
  nmiVector: 0,
  pendingExtInt: false,
  extIntVector: 0,
  pendingInit: false,
  initVector: 0,
  pendingStartup: false,
  startupVector: 0,
  startedUp: false,
  pendingUnmaskableInt: false,
  pendingIPIs: 0,
  IRRV: 0,
  ISRV: 0,
  apicTimerEventScheduled: false,
  apicTimerEventTick: 0,
})

const programCounter: Keys = { _pc: 0, _upc: 0, _npc: 8, _nupc: 1, _size: 0 }

const pic = (slave: boolean): Keys => ({
  pinStates: repeat(false, 8),
  mode: slave ? 1 : 0,
  IRR: 0,
  ISR: 0,
  IMR: 0,
  vectorOffset: 0,
  cascadeMode: true,
  cascadeBits: slave ? 2 : 4,
  edgeTriggered: false,
  readIRR: true,
  expectICW4: true,
  initControlWord: 0,
  autoEOI: false,
})

const pit = (era: Gem5Era): Keys =>
  Object.assign(
    {},
    ...[0, 1, 2].map(n => ({
      [`pit.counter${n}.initial_count`]: 0,
      [`pit.counter${n}.latched_count`]: 0,
      [`pit.counter${n}.period`]: 0,
      [`pit.counter${n}.mode`]: 0,
      [`pit.counter${n}.output_high`]: false,
      [`pit.counter${n}.latch_on`]: false,
      [`pit.counter${n}.read_byte`]: 0,
      [`pit.counter${n}.write_byte`]: 0,
      [`pit.counter${n}.${era === '2011' ? 'event_tick' : 'event_tick_offset'}`]: 0,
    })),
  ) as Keys

const southBridge = (era: Gem5Era): Record<string, Keys> => ({
  cmos: {
    address: 0,
    regs: repeat(0, 128),
    'rtc.clock_data': '0 0 0 0 0 0 1 1 1 18',
    'rtc.stat_regA': 38,
    'rtc.stat_regB': 2,
    rtcTimerInterruptTickOffset: 976_562_500,
    rtcClockTickOffset: 500_000_000_000,
  },
  pit: pit(era),
  pic1: pic(false),
  pic2: pic(true),
  io_apic: {
    regSel: 0,
    initialApicId: 1,
    id: 0,
    arbId: 0,
    lowestPriorityOffset: 0,
    redirTableArray: repeat(65536, 24),
    pinStates: repeat(false, 24),
  },
  speaker: { [era === '2011' ? 'controlValData' : 'controlVal']: 0 },
  dma1: { maskReg: 15 },
})

const NO_COMMAND = 65535
const keyboardPorts: Keys = { dataPort: '9223372036854775904', commandPort: '9223372036854775908' }

/** v24 gives the PS/2 devices sections of their own. */
const keyboard: Record<string, Keys> = {
  'system.pc.south_bridge.keyboard': {
    ...keyboardPorts,
    statusReg: 16,
    commandByte: 112,
    dataReg: 0,
    lastCommand: NO_COMMAND,
  },
  'system.pc.south_bridge.keyboard.mouse': {
    outBuffer: '',
    inBuffer: '',
    status: 0,
    resolution: 4,
    sampleRate: 100,
  },
  'system.pc.south_bridge.keyboard.keyboard': {
    outBuffer: '',
    inBuffer: '',
    shiftDown: false,
    enabled: true,
  },
}

/** 2011 keeps them in the controller's, their queues with a length. Source: src/dev/x86/i8042.cc before 2012. */
const keyboard2011: Keys = {
  ...keyboardPorts,
  statusRegData: 16,
  commandByteData: 112,
  dataReg: 0,
  lastCommand: NO_COMMAND,
  ...Object.fromEntries(
    ['mouse', 'keyboard'].flatMap(name => [
      [`${name}.lastCommand`, NO_COMMAND],
      [`${name}.outBuffer.size`, 0],
      [`${name}.outBuffer.elts`, ''],
    ]),
  ),
  'mouse.status': 0,
  'mouse.resolution': 4,
  'mouse.sampleRate': 100,
}

function sections(era: Gem5Era): Record<string, Keys> {
  const chipset = Object.fromEntries(
    Object.entries(southBridge(era)).map(([name, keys]) => [`system.pc.south_bridge.${name}`, keys]),
  )
  const serial = {
    status: 0,
    IER: 0,
    ...(era === '2011' ? { DLAB: 0 } : {}),
    LCR: 3,
    MCR: 0,
    rxintrwhen: 0,
    txintrwhen: 0,
  }
  if (era === '2011')
    return {
      Globals: { curTick: 0 },
      MainEventQueue: { numEvents: 0 },
      'system.physmem': { lal_addr: '', lal_cid: '', filename: 'system.physmem.physmem', _size: 0 },
      'system.cpu': { so_state: 2, locked: false, _status: 0, instCnt: 0, ...apic(era) },
      'system.cpu.xc.0': {
        _status: 0,
        funcExeInst: 0,
        quiesceEndTick: 0,
        iplLast: 0,
        iplLastTick: 0,
        'floatRegs.i': repeat(0, 48),
        intRegs: repeat(0, 39),
        ...programCounter,
        regVal: repeat(0, 204),
      },
      'system.cpu.tickEvent': { _when: 0, _priority: 50, _flags: 0 },
      'system.cpu.interrupts': apic(era),
      ...chipset,
      'system.pc.south_bridge.keyboard': keyboard2011,
      'system.pc.com_1': serial,
    }
  return {
    ...chipset,
    ...keyboard,
    'system.pc.com_1': serial,
    'system.cpu': { instCnt: 0, _pid: '4294967295' },
    'system.cpu.xc.0': {
      ...apic(era),
      _status: 0,
      'regs.integer': repeat(0, 312),
      'regs.floating_point': repeat(0, 384),
      'regs.vector': repeat(0, 8),
      'regs.vector_element': repeat(0, 16),
      'regs.vector_predicate': repeat(0, 8),
      'regs.matrix': '',
      'regs.condition_code': repeat(0, 40),
      ...programCounter,
    },
    'system.cpu.interrupts': apic(era),
    'system.cpu.isa': { isaName: 'x86', regVal: repeat(0, 205) },
    system: { quiesceEndTick_0: 0 },
    'system.physmem': { lal_addr: '', lal_cid: '', nbr_of_stores: 1 },
    'system.physmem.store0': { store_id: 0, filename: 'system.physmem.store0.pmem', range_size: 0 },
    root: { FullSystem: true },
    'root.globals': { curTick: 0, version_tags: VERSION_TAGS },
  }
}

/** @param stores memory stores: 2 for a machine with RAM above 4 GiB. */
export function blankCheckpoint(era: Gem5Era, stores = 1): CheckpointText {
  const all = sections(era)
  if (stores === 2) {
    all['system.physmem']!.nbr_of_stores = 2
    all['system.physmem.store1'] = { store_id: 1, filename: 'system.physmem.store1.pmem', range_size: 0 }
  }
  const text = Object.entries(all)
    .map(
      ([name, keys]) =>
        `\n[${name}]\n${Object.entries(keys)
          .map(([key, value]) => `${key}=${value}\n`)
          .join('')}`,
    )
    .join('')
  return CheckpointText.fromString(`## checkpoint written by imago\n${text}`)
}
