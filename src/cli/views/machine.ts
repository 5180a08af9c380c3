/** A machine image as one page: CPU, interrupt controllers, timers, devices, RAM. */
import { readLinear } from '../../isa/x86-paging.js'
import { hex, isZero } from '../../lib/bytes.js'
import { Symbolizer } from '../../lib/symbolizer.js'
import type { Cpu, InterruptController, MachineImage, PitChannel, Segment } from '../../model/machine.js'
import type { MachineDiff } from '../../model/machine-diff.js'
import { blocksOf, ramRanges } from '../../model/machine-memory.js'
import { bytesText, columns, styled } from '../output.js'

export interface MachineViewOptions {
  /** An ELF file with the kernel's symbols, at the addresses it runs at. */
  readonly vmlinux?: string
  readonly registers?: boolean
}

export function machineImageText(image: MachineImage, options: MachineViewOptions = {}): string {
  const notes = Object.entries(image.origin.notes).map(([name, value]) => `${name} ${value}`)
  return [
    [styled('bold', `machine image, format ${image.origin.format}`), image.isa, ...notes].join(', '),
    ...image.cpus.flatMap((cpu, i) => ['', styled('bold', `CPU ${i}`), ...cpuLines(cpu, image, options)]),
    '',
    styled('bold', 'Interrupts and timers'),
    ...image.cpus.flatMap(cpu => apicLines(cpu)),
    ...deviceLines(image),
    '',
    styled('bold', 'RAM'),
    ...ramLines(image),
    ...(image.notUnderstood.length > 0
      ? ['', styled('bold', 'Devices that imago does not know'), `  ${image.notUnderstood.join(', ')}`]
      : []),
  ].join('\n')
}

const flagNames = 'CF . PF . AF . ZF SF TF IF DF OF . . NT . RF VM AC VIF VIP ID'.split(' ')
const cr0Names: Record<number, string> = {
  0: 'PE',
  1: 'MP',
  2: 'EM',
  3: 'TS',
  4: 'ET',
  5: 'NE',
  16: 'WP',
  18: 'AM',
  29: 'NW',
  30: 'CD',
  31: 'PG',
}
const cr4Names: Record<number, string> = {
  0: 'VME',
  1: 'PVI',
  2: 'TSD',
  3: 'DE',
  4: 'PSE',
  5: 'PAE',
  6: 'MCE',
  7: 'PGE',
  8: 'PCE',
  9: 'OSFXSR',
  10: 'OSXMMEXCPT',
  11: 'UMIP',
  12: 'LA57',
  13: 'VMXE',
  16: 'FSGSBASE',
  17: 'PCIDE',
  18: 'OSXSAVE',
  20: 'SMEP',
  21: 'SMAP',
  22: 'PKE',
}
const eferNames: Record<number, string> = {
  0: 'SCE',
  8: 'LME',
  10: 'LMA',
  11: 'NXE',
  12: 'SVME',
  14: 'FFXSR',
}

function bitNames(value: bigint, names: Record<number, string>): string {
  const set = Object.entries(names)
    .filter(([at]) => (value >> BigInt(at)) & 1n)
    .map(([, name]) => name)
  return set.join(' ') || '–'
}

function mode(cpu: Cpu): string {
  const { cr0 } = cpu.control
  const ring = `ring ${(cpu.segments.ss.attributes >> 5) & 3}`
  if (!(cr0 & 1n)) return 'real mode'
  if (cpu.rflags & 0x20000n) return 'virtual-8086 mode'
  if (!(cpu.msr.efer & 0x400n)) return `protected mode, ${ring}`
  return `${cpu.segments.cs.attributes & 0x2000 ? '64-bit' : 'compatibility'} mode, ${ring}`
}

function cpuLines(cpu: Cpu, image: MachineImage, options: MachineViewOptions): string[] {
  const flags = flagNames.filter((name, i) => name !== '.' && (cpu.rflags >> BigInt(i)) & 1n).join(' ')
  const code = readLinear(image.memory, { ...cpu.control, efer: cpu.msr.efer }, cpu.rip, 8)
  const where = options.vmlinux === undefined ? undefined : functionAt(options.vmlinux, cpu.rip)
  const rows: string[][] = [
    ['state', `${cpu.halted ? 'halted (HLT), waits for an interrupt' : 'running'}, ${mode(cpu)}`],
    [
      'rip',
      `${hex(cpu.rip)}${where ? ` ${where}` : ''}${code ? `  ${styled('dim', Buffer.from(code).toString('hex'))}` : ''}`,
    ],
    ['rflags', `${hex(cpu.rflags)}  ${flags}`],
    ['cr0', `${hex(cpu.control.cr0)}  ${bitNames(cpu.control.cr0, cr0Names)}`],
    ['cr2', hex(cpu.control.cr2)],
    ['cr3', hex(cpu.control.cr3)],
    ['cr4', `${hex(cpu.control.cr4)}  ${bitNames(cpu.control.cr4, cr4Names)}`],
    ['efer', `${hex(cpu.msr.efer)}  ${bitNames(cpu.msr.efer, eferNames)}`],
    [
      'tsc',
      cpu.tsc === undefined
        ? 'not in the image'
        : `${cpu.tsc}${cpu.tscRate ? ` at ${frequency(cpu.tscRate)}` : ''}`,
    ],
    [
      'x87',
      `${count(cpu.x87.valid)} registers in use, control ${hex(cpu.x87.control)}, status ${hex(cpu.x87.status)}, mxcsr ${hex(cpu.mxcsr)}`,
    ],
  ]
  const general = Object.entries(cpu.general)
  const half = Math.ceil(general.length / 2)
  const registers = Array.from({ length: half }, (_, i) =>
    [general[i]!, general[i + half]!].flatMap(([name, value]) => [name, hex(value)]),
  )
  return [
    columns(rows, { indent: '  ' }),
    columns(registers, { indent: '  ' }),
    columns(
      Object.entries(cpu.segments).map(([name, segment]) => [name, ...segmentCells(segment)]),
      { indent: '  ' },
    ),
    columns(
      [
        ['gdt', hex(cpu.gdtr.base), `limit ${hex(cpu.gdtr.limit)}`],
        ['idt', hex(cpu.idtr.base), `limit ${hex(cpu.idtr.limit)}`],
      ],
      { indent: '  ' },
    ),
    ...(options.registers ? [columns(vectorRows(cpu), { indent: '  ' })] : []),
  ]
}

function vectorRows(cpu: Cpu): string[][] {
  return [
    ...cpu.x87.registers.map((value, i) => [`r${i}`, hex(value)]),
    ...cpu.xmm.map((value, i) => [`xmm${i}`, hex(value)]),
    ...Object.entries(cpu.msr).map(([name, value]) => [name, value === undefined ? '–' : hex(value)]),
    ...Object.entries(cpu.debug).map(([name, value]) => [name, hex(value)]),
  ]
}

function segmentCells({ selector, base, limit, attributes }: Segment): string[] {
  if (attributes & 0x10000) return [hex(selector), hex(base), hex(limit), styled('dim', 'unusable')]
  const system = !(attributes & 0x10)
  const kind = system ? `system type ${attributes & 15}` : attributes & 8 ? 'code' : 'data'
  const size = attributes & 0x2000 ? '64' : attributes & 0x4000 ? '32' : '16'
  return [
    hex(selector),
    hex(base),
    hex(limit),
    system ? kind : `${kind}${size}, DPL ${(attributes >> 5) & 3}`,
  ]
}

let symbolizer: Symbolizer | undefined
function functionAt(vmlinux: string, address: bigint): string | undefined {
  symbolizer ??= new Symbolizer()
  const symbol = symbolizer.atAddress(vmlinux, address)
  return symbol && `${symbol.name}${symbol.offset > 0 ? `+${hex(symbol.offset)}` : ''}`
}

const count = (bits: number) => bits.toString(2).replaceAll('0', '').length
const frequency = (hertz: number) => (hertz >= 1e9 ? `${hertz / 1e9} GHz` : `${hertz / 1e6} MHz`)

function timeText(picoseconds: bigint | undefined): string {
  if (picoseconds === undefined) return 'not running'
  const ns = Number(picoseconds) / 1000
  return ns < 1e3
    ? `in ${ns} ns`
    : ns < 1e6
      ? `in ${(ns / 1e3).toFixed(1)} µs`
      : `in ${(ns / 1e6).toFixed(3)} ms`
}

function vectorsIn(words: readonly number[]): string {
  const vectors = words.flatMap((word, i) =>
    Array.from({ length: 32 }, (_, j) => j)
      .filter(j => (word >>> j) & 1)
      .map(j => hex(32 * i + j)),
  )
  return vectors.join(' ') || 'none'
}

function apicLines({ apic, taskPriority }: Cpu): string[] {
  if (apic === undefined) return ['  local APIC  none']
  const lvt = Object.entries(apic.lvt).map(
    ([name, value]) =>
      `${name} ${value & 0x10000 ? 'masked' : `vector ${hex(value & 0xff)}${name === 'timer' ? (value & 0x20000 ? ' periodic' : ' one-shot') : ''}`}`,
  )
  const { timer } = apic
  return [
    columns(
      [
        [
          'local APIC',
          `id ${apic.id}, ${apic.spurious & 0x100 ? 'enabled' : 'disabled'}, task priority ${hex(taskPriority)}`,
        ],
        ['', `pending ${vectorsIn(apic.requested)}; in service ${vectorsIn(apic.inService)}`],
        ['', lvt.join(', ')],
        [
          'APIC timer',
          `${timeText(timer.remaining)}, initial count ${timer.initialCount}${timer.rate ? ` at ${frequency(timer.rate)}` : ''}`,
        ],
      ],
      { indent: '  ' },
    ),
  ]
}

function picText(pic: InterruptController): string {
  return `vectors from ${hex(pic.vectorBase)}, pending ${hex(pic.requested)}, masked ${hex(pic.mask)}, in service ${hex(pic.inService)}${pic.initialisation ? `, awaits ICW${pic.initialisation + 1}` : ''}`
}

const pitModes = ['terminal count', 'one-shot', 'rate', 'square wave', 'software strobe', 'hardware strobe']
function pitText(channel: PitChannel): string {
  const rate = (1193182 / channel.reload).toFixed(channel.reload < 5000 ? 0 : 1)
  return `${pitModes[channel.mode] ?? `mode ${channel.mode}`}, from ${channel.reload} (${rate} Hz), ${timeText(channel.remaining)}`
}

function deviceLines({ devices }: MachineImage): string[] {
  const rows: string[][] = []
  const { ioApic, pic, pit, rtc, serial, keyboard, speaker, pciHost } = devices
  if (ioApic)
    rows.push([
      'I/O APIC',
      `id ${ioApic.id}; open inputs: ${
        ioApic.redirection
          .flatMap((entry, i) =>
            entry & 0x10000n
              ? []
              : [`${i} → ${(entry & 0x700n) === 0x700n ? 'ExtINT' : `vector ${hex(entry & 0xffn)}`}`],
          )
          .join(', ') || 'none'
      }`,
    ])
  if (pic) rows.push(['PIC master', picText(pic.master)], ['PIC slave', picText(pic.slave)])
  for (const [i, channel] of (pit?.channels ?? []).entries()) rows.push([`PIT ${i}`, pitText(channel)])
  if (rtc) {
    const at = (i: number) =>
      (rtc.cmos[11]! & 4 ? rtc.cmos[i]!.toString() : rtc.cmos[i]!.toString(16)).padStart(2, '0')
    rows.push([
      'RTC',
      `${at(9)}-${at(8)}-${at(7)} ${at(4)}:${at(2)}:${at(0)}, registers A ${hex(rtc.cmos[10]!)} B ${hex(rtc.cmos[11]!)}`,
    ])
  }
  if (serial)
    rows.push([
      'COM1',
      `line ${hex(serial.lineControl)}, interrupts ${hex(serial.interruptEnable)}, divisor ${serial.divisor}${serial.transmitInterrupt ? ', transmitter waits' : ''}`,
    ])
  if (keyboard)
    rows.push(['keyboard', `command byte ${hex(keyboard.commandByte)}, status ${hex(keyboard.status)}`])
  if (speaker) rows.push(['speaker', speaker.data ? 'on' : 'off'])
  if (pciHost) rows.push(['PCI', `configuration address ${hex(pciHost.configAddress)}`])
  if (devices.time !== undefined)
    rows.push(['time', `${(Number(devices.time) / 1e12).toFixed(6)} s of virtual time`])
  return rows.length > 0 ? [columns(rows, { indent: '  ' })] : []
}

const LOOK_BYTES = 64 * 1024
/** How much of RAM is zero, page by page. */
export function ramSummary(
  image: MachineImage,
): { start: bigint; bytes: number; zeroPages: number; pages: number }[] {
  return ramRanges(image.memory).map(({ start, length }) => {
    let zeroPages = 0
    for (const { bytes, length: size } of blocksOf(image.memory, start, length, LOOK_BYTES))
      if (bytes === undefined || isZero(bytes)) zeroPages += size / 4096
      else for (let at = 0; at < size; at += 4096) if (isZero(bytes.subarray(at, at + 4096))) zeroPages++
    return { start, bytes: length, zeroPages: Math.floor(zeroPages), pages: Math.ceil(length / 4096) }
  })
}

function ramLines(image: MachineImage): string[] {
  const rows = ramSummary(image).map(({ start, bytes, zeroPages, pages }) => [
    hex(start),
    bytesText(bytes),
    `${Math.round((100 * zeroPages) / Math.max(1, pages))} % zero`,
  ])
  return rows.length > 0 ? [columns(rows, { indent: '  ' })] : ['  none in the image']
}

/** Everything, with RAM as ranges. */
export function machineImageJson(image: MachineImage): object {
  const { raw: _, ...origin } = image.origin
  return {
    kind: 'machine',
    isa: image.isa,
    origin,
    cpus: image.cpus,
    devices: image.devices,
    ram: ramSummary(image),
    notUnderstood: image.notUnderstood,
    ...(image.cpuFeatures ? { cpuFeatures: [...image.cpuFeatures].sort() } : {}),
  }
}

const valueText = (value: unknown): string =>
  typeof value === 'bigint' || typeof value === 'number'
    ? hex(value)
    : value === undefined
      ? '–'
      : value instanceof Uint8Array
        ? Buffer.from(value).toString('hex')
        : String(value)

/** A line a field; RAM as a count of pages and its first ranges. */
export function machineDiffText(diff: MachineDiff): string {
  const rows = diff.fields.map(({ field, before, after, cpu }) => [
    field.replace(/^cpu\./, `cpu${cpu > 0 ? cpu : ''}.`),
    valueText(before),
    '→',
    valueText(after),
  ])
  const pages = diff.memory.reduce((sum, range) => sum + range.pages, 0)
  const lines = [
    ...(diff.cpus ? [`${diff.cpus[0]} CPUs → ${diff.cpus[1]}`] : []),
    ...(rows.length > 0 ? [columns(rows)] : []),
    ...(pages > 0
      ? [
          `RAM: ${pages} ${pages === 1 ? 'page differs' : 'pages differ'}`,
          ...diff.memory
            .slice(0, 16)
            .map(({ start, pages, change }) => `  ${hex(start)}  ${pages} ${change}`),
          ...(diff.memory.length > 16 ? [`  and ${diff.memory.length - 16} more ranges`] : []),
        ]
      : []),
  ]
  return lines.length > 0 ? lines.join('\n') : 'the machines are the same'
}
