/** The CPU of a machine's page: where it stands, control registers with their bits by name, segments, features. */
import { baseFeatures, informationalFeatures } from '../../isa/x86-cpu-features.js'
import { readLinear } from '../../isa/x86-paging.js'
import { hex } from '../../lib/bytes.js'
import { frequencyText } from '../../lib/quantities.js'
import type { Cpu, Segment } from '../../model/machine.js'
import { columns, styled } from '../output.js'
import type { MachinePage, MachineViewOptions } from './machine-page.js'

const flagNames = 'CF . PF . AF . ZF SF TF IF DF OF . . NT . RF VM AC VIF VIP ID'.split(' ')
const named = (bits: readonly (readonly [bit: number, name: string])[]) => bits
const cr0Names = named([
  [0, 'PE'],
  [1, 'MP'],
  [2, 'EM'],
  [3, 'TS'],
  [4, 'ET'],
  [5, 'NE'],
  [16, 'WP'],
  [18, 'AM'],
  [29, 'NW'],
  [30, 'CD'],
  [31, 'PG'],
])
const cr4Names = named([
  ...'VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP LA57 VMXE SMXE'
    .split(' ')
    .map((name, bit) => [bit, name] as const),
  [16, 'FSGSBASE'],
  [17, 'PCIDE'],
  [18, 'OSXSAVE'],
  [20, 'SMEP'],
  [21, 'SMAP'],
  [22, 'PKE'],
])
const eferNames = named([
  [0, 'SCE'],
  [8, 'LME'],
  [10, 'LMA'],
  [11, 'NXE'],
  [12, 'SVME'],
  [14, 'FFXSR'],
])

function bitNames(value: bigint, names: readonly (readonly [number, string])[]): string {
  const set = names.filter(([at]) => (value >> BigInt(at)) & 1n).map(([, name]) => name)
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

const NEXT_BYTES = 24
const NEXT_INSTRUCTIONS = 3

/** The instructions ahead in words, where they are mapped and 64-bit code. */
async function nextText(page: MachinePage, cpu: Cpu): Promise<string | undefined> {
  const length = Math.min(NEXT_BYTES, 4096 - Number(cpu.rip & 0xfffn))
  const paging = { ...cpu.control, efer: cpu.msr.efer }
  const code = readLinear(page.image.memory, paging, cpu.rip, length)
  if (code === undefined) return undefined
  if (!(cpu.msr.efer & 0x400n) || !(cpu.segments.cs.attributes & 0x2000))
    return Buffer.from(code.subarray(0, 8)).toString('hex')
  const { disassemble } = await import('../../isa/disassemble.js')
  const instructions = await disassemble('x86-64', code, cpu.rip)
  return instructions
    .slice(0, NEXT_INSTRUCTIONS)
    .map(({ text }) => text)
    .join('; ')
}

export async function cpuLines(page: MachinePage, cpu: Cpu, options: MachineViewOptions): Promise<string[]> {
  const flags = flagNames.filter((name, i) => name !== '.' && (cpu.rflags >> BigInt(i)) & 1n).join(' ')
  const where = page.nameOf(cpu, cpu.rip)
  const next = await nextText(page, cpu)
  const rows: string[][] = [
    ['state', `${cpu.halted ? 'halted until an interrupt' : 'running'}, ${mode(cpu)}`],
    ['rip', `${hex(cpu.rip)}${where ? `  ${styled('cyan', where)}` : ''}`],
    ...(next ? [['next', styled('dim', next)]] : []),
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
        : `${cpu.tsc}${cpu.tscRate ? ` at ${frequencyText(cpu.tscRate)}` : ''}`,
    ],
    [
      'x87',
      `${count(cpu.x87.valid)} registers in use, control ${hex(cpu.x87.control)}, status ${hex(cpu.x87.status)}, mxcsr ${hex(cpu.mxcsr)}`,
    ],
    ['offers', featureText(page.image.cpuFeatures)],
  ]
  const general = Object.entries(cpu.general)
  const half = Math.ceil(general.length / 2)
  const registers = Array.from({ length: half }, (_, i) =>
    [general[i]!, general[i + half]!].flatMap(([name, value]) => [name, hex(value)]),
  )
  const tables = [
    ['gdt', '', hex(cpu.gdtr.base), hex(cpu.gdtr.limit)],
    ['idt', '', hex(cpu.idtr.base), hex(cpu.idtr.limit)],
  ]
  const segments = Object.entries(cpu.segments).map(([name, segment]) => [name, ...segmentCells(segment)])
  return [
    columns(rows, { indent: '  ' }),
    '',
    columns(registers, { indent: '  ' }),
    '',
    columns([['', 'selector', 'base', 'limit'].map(word => styled('dim', word)), ...segments, ...tables], {
      indent: '  ',
    }),
    ...(options.registers ? ['', columns(vectorRows(cpu), { indent: '  ' })] : []),
  ]
}

/** What is worth telling: nothing that every 64-bit CPU has. */
function featureText(features: ReadonlySet<string> | undefined): string {
  if (features === undefined) return 'not known (--vmlinux finds it out for Linux)'
  const beyond = [...features].filter(name => !baseFeatures.has(name) && !informationalFeatures.has(name))
  return beyond.sort().join(' ') || 'what every x86-64 CPU has'
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

const count = (bits: number) => bits.toString(2).replaceAll('0', '').length
