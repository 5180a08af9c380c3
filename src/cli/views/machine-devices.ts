/** Interrupt controllers, timers and ports of a machine's page: what is pending, masked, in service; how long is left. */

import { PIT_HERTZ } from '../../isa/pc.js'
import { pciClass, pciId } from '../../isa/pci.js'
import { hex } from '../../lib/bytes.js'
import { frequencyText } from '../../lib/quantities.js'
import type { Cpu, InterruptController, MachineImage, PitChannel } from '../../model/machine.js'

/** `in 480.8 µs`. */
function timeText(picoseconds: bigint | undefined): string {
  if (picoseconds === undefined) return 'not running'
  const ns = Number(picoseconds) / 1000
  if (ns < 1e3) return `in ${ns} ns`
  if (ns < 1e6) return `in ${(ns / 1e3).toFixed(1)} µs`
  return ns < 1e9 ? `in ${(ns / 1e6).toFixed(3)} ms` : `in ${(ns / 1e9).toFixed(3)} s`
}

function vectorsIn(words: readonly number[]): string {
  const vectors = words.flatMap((word, i) =>
    Array.from({ length: 32 }, (_, j) => j)
      .filter(j => (word >>> j) & 1)
      .map(j => hex(32 * i + j)),
  )
  return vectors.join(' ') || 'none'
}

/** `0 2 4`, or `none`. */
function bitsIn(value: number, count: number): string {
  const set = Array.from({ length: count }, (_, i) => i).filter(i => (value >>> i) & 1)
  if (set.length === count) return 'all'
  return set.join(' ') || 'none'
}

const deliveries: Readonly<Record<number, string>> = { 2: 'SMI', 4: 'NMI', 5: 'INIT', 7: 'ExtINT' }
/** Where an entry of the local vector table or the I/O APIC leads to. */
const targetText = (entry: number) => deliveries[(entry >>> 8) & 7] ?? `vector ${hex(entry & 0xff)}`

export function apicRows({ apic, taskPriority }: Cpu): string[][] {
  if (apic === undefined) return [['local APIC', 'none']]
  const open = Object.entries(apic.lvt).filter(([, value]) => !(value & 0x10000))
  const masked = Object.entries(apic.lvt).filter(([, value]) => value & 0x10000)
  return [
    [
      'local APIC',
      `id ${apic.id}, ${apic.spurious & 0x100 ? 'enabled' : 'disabled'}, task priority ${hex(taskPriority)}; pending ${vectorsIn(apic.requested)}; in service ${vectorsIn(apic.inService)}`,
    ],
    [
      '',
      `${open.map(([name, value]) => `${name} → ${targetText(value)}`).join(', ') || 'nothing open'}; masked ${masked.map(([name]) => name).join(' ') || 'none'}`,
    ],
  ]
}

export function interruptRows({ devices: { ioApic, pic } }: MachineImage): string[][] {
  const rows: string[][] = []
  if (ioApic !== undefined) {
    const open = [...ioApic.redirection.entries()].filter(([, entry]) => !(entry & 0x10000n))
    const inputs = open.map(([i, entry]) => {
      const level = entry & 0x8000n ? ' level' : ''
      return `${i} → ${targetText(Number(entry & 0xffffn))}${level}${entry & 0x4000n ? ' in service' : ''}`
    })
    rows.push([
      'I/O APIC',
      `id ${ioApic.id}; ${inputs.join(', ') || 'nothing open'}; pending ${bitsIn(ioApic.requested, 24)}; masked ${24 - open.length} of 24`,
    ])
  }
  if (pic !== undefined)
    rows.push(['PIC master', picText(pic.master, 0)], ['PIC slave', picText(pic.slave, 8)])
  return rows
}

function picText(pic: InterruptController, first: number): string {
  const waits = pic.initialisation ? `, awaits ICW${pic.initialisation + 1}` : ''
  return `IRQ ${first} → vector ${hex(pic.vectorBase)}; pending ${bitsIn(pic.requested, 8)}; in service ${bitsIn(pic.inService, 8)}; masked ${bitsIn(pic.mask, 8)}${waits}`
}

export function timerRows({ cpus, devices: { pit, rtc } }: MachineImage): string[][] {
  const rows: string[][] = []
  for (const { apic } of cpus)
    if (apic !== undefined) {
      const { timer, lvt } = apic
      const kind = lvt.timer & 0x40000 ? 'TSC deadline' : lvt.timer & 0x20000 ? 'periodic' : 'one-shot'
      rows.push([
        'APIC timer',
        timeText(timer.remaining),
        `${kind}${timer.initialCount ? `, from ${timer.initialCount}` : ''}${timer.rate ? ` at ${frequencyText(timer.rate)}` : ''}${lvt.timer & 0x10000 ? ', masked' : ''}`,
      ])
    }
  for (const [i, channel] of (pit?.channels ?? []).entries())
    rows.push([`PIT ${i}`, timeText(channel.remaining), pitText(channel)])
  if (rtc !== undefined) {
    const next = rtc.nextPeriodic ?? rtc.nextUpdate
    rows.push(['RTC', next === undefined ? '' : timeText(next), rtcText(rtc.cmos)])
  }
  return rows
}

const pitModes = ['terminal count', 'one-shot', 'rate', 'square wave', 'software strobe', 'hardware strobe']
function pitText(channel: PitChannel): string {
  const rate = (Number(PIT_HERTZ) / channel.reload).toFixed(channel.reload < 5000 ? 0 : 1)
  return `${pitModes[channel.mode] ?? `mode ${channel.mode}`}, from ${channel.reload} (${rate} Hz)${channel.gate ? '' : ', gate closed'}`
}

const BINARY = 4
/** Date and time as the guest reads them, and the interrupts that are on. */
function rtcText(cmos: readonly number[]): string {
  const at = (i: number) =>
    (cmos[11]! & BINARY ? cmos[i]!.toString() : cmos[i]!.toString(16)).padStart(2, '0')
  const on = ['update', 'alarm', 'periodic'].filter((_, i) => cmos[11]! & (0x10 << i))
  return `${at(9)}-${at(8)}-${at(7)} ${at(4)}:${at(2)}:${at(0)}, interrupts ${on.join(' ') || 'off'}`
}

export function deviceRows({ devices }: MachineImage): string[][] {
  const { serial, keyboard, mouse, speaker, pciHost, pciFunctions } = devices
  const rows: string[][] = []
  if (serial !== undefined) rows.push(['COM1', serialText(serial)])
  if (keyboard !== undefined)
    rows.push([
      'keyboard',
      `controller command byte ${hex(keyboard.commandByte)}, status ${hex(keyboard.status)}; ${keyboard.scanning ? 'scans' : 'silent'}, scan-code set ${keyboard.scancodeSet}`,
    ])
  if (mouse !== undefined)
    rows.push(['mouse', `${mouse.status & 0x20 ? 'reports' : 'silent'}, ${mouse.sampleRate} samples/s`])
  if (speaker !== undefined) rows.push(['speaker', speaker.data ? 'on' : 'off'])
  if (pciHost !== undefined) rows.push(['PCI', `configuration address ${hex(pciHost.configAddress)}`])
  for (const [address, bytes] of pciFunctions ?? [])
    rows.push([`PCI ${address}`, `${pciId(bytes)} ${pciClass(bytes)}`])
  return rows
}

const UART_BAUD = 115_200
function serialText(serial: NonNullable<MachineImage['devices']['serial']>): string {
  const { lineControl, divisor, interruptEnable } = serial
  const parity = lineControl & 8 ? (lineControl & 16 ? 'E' : 'O') : 'N'
  const line = `${divisor ? Math.round(UART_BAUD / divisor) : '?'} ${5 + (lineControl & 3)}${parity}${lineControl & 4 ? 2 : 1}`
  const on = ['received', 'transmitter empty', 'line', 'modem'].filter((_, i) => interruptEnable & (1 << i))
  const held = [
    [serial.receiveFifo.length, 'received'],
    [serial.transmitFifo.length, 'to send'],
  ].flatMap(([count, name]) => (count ? [`${count} bytes ${name}`] : []))
  return [
    line,
    `interrupts ${on.join(', ') || 'off'}`,
    ...(serial.transmitInterrupt ? ['transmitter waits to be served'] : []),
    ...(serial.transmitting === undefined ? [] : ['sends a byte']),
    ...held,
  ].join('; ')
}
