/** A machine image as one page: CPU, interrupts, timers, devices, RAM, what the model does not know. */
import { hex } from '../../lib/bytes.js'
import type { MachineImage } from '../../model/machine.js'
import { columns, styled } from '../output.js'
import { cpuLines } from './machine-cpu.js'
import { apicRows, deviceRows, interruptRows, timerRows } from './machine-devices.js'
import { type MachineViewOptions, machinePage } from './machine-page.js'
import { ramLines, ramSummary } from './machine-ram.js'

export async function machineImageText(
  image: MachineImage,
  options: MachineViewOptions = {},
): Promise<string> {
  const page = machinePage(image, options)
  const lines = [`${styled('bold', `machine image, format ${image.origin.format}`)}, ${image.isa}`]
  const notes = Object.entries(image.origin.notes).map(([name, value]) => [name, String(value)])
  if (page.slide) notes.push(['kernel', `moved by ${hex(page.slide)} (KASLR)`])
  if (image.devices.time !== undefined)
    notes.push(['time', `${(Number(image.devices.time) / 1e12).toFixed(6)} s since the machine was started`])
  if (notes.length > 0) lines.push(columns(notes, { indent: '  ' }))
  for (const [i, cpu] of page.image.cpus.entries())
    lines.push(...section(`CPU ${i}`, await cpuLines(page, cpu, options)))
  const rows = (title: string, cells: string[][]) =>
    cells.length === 0 ? [] : section(title, [columns(cells, { indent: '  ' })])
  lines.push(
    ...rows('Interrupts', [...image.cpus.flatMap(cpu => apicRows(cpu)), ...interruptRows(image)]),
    ...rows('Timers', timerRows(image)),
    ...rows('Devices', deviceRows(image)),
    ...section('RAM', ramLines(image)),
  )
  if (image.notUnderstood.length > 0) lines.push(...section('Not in the model', wrapped(image.notUnderstood)))
  return lines.join('\n')
}

const section = (title: string, lines: string[]) => ['', styled('bold', title), ...lines]

const WIDTH = 100
/** Names separated by commas, in lines of a page's width. */
function wrapped(names: readonly string[]): string[] {
  const lines: string[] = []
  for (const [i, name] of names.entries()) {
    const word = i < names.length - 1 ? `${name}, ` : name
    const last = lines.at(-1)
    if (last === undefined || last.length + word.length > WIDTH) lines.push(`  ${word}`)
    else lines[lines.length - 1] = last + word
  }
  return lines.map(line => line.trimEnd())
}

/** Everything, with RAM as ranges. */
export function machineImageJson(image: MachineImage, options: MachineViewOptions = {}): object {
  const page = machinePage(image, options)
  const { raw: _, ...origin } = image.origin
  const names = image.cpus.map(cpu => page.nameOf(cpu, cpu.rip))
  return {
    kind: 'machine',
    isa: image.isa,
    origin,
    cpus: page.image.cpus,
    ...(names.some(name => name !== undefined) ? { functions: names.map(name => name ?? null) } : {}),
    devices: image.devices,
    ram: ramSummary(image),
    notUnderstood: image.notUnderstood,
    ...(page.image.cpuFeatures ? { cpuFeatures: [...page.image.cpuFeatures].sort() } : {}),
  }
}
