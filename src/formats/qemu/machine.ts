/**
 * A migration stream ↔ a machine image. Writing needs a template: a stream of the machine command line that shall go
 * on with the image (any guest). Its devices are patched in place, its RAM is written anew.
 */
import { LossError, UsageError } from '../../lib/errors.js'
import type { MachineImage, MachineState } from '../../model/machine.js'
import { FOUR_GIB, ramRanges, ramText } from '../../model/machine-memory.js'
import { type Extent, Memory, sliceExtent, ZERO } from '../../model/memory.js'
import type { Loss, WriteOptions } from '../format.js'
import { droppedDevice, lossesBetween, readTable, writeTable } from '../machine-table.js'
import { copyCaptureRecord, readCaptureRecord } from './capture-record.js'
import { offeredFeatures, widenedLine } from './cpu-line.js'
import { QemuFields } from './fields.js'
import { machineWords, readRecord } from './machine-line.js'
import { openStream } from './read-stream.js'
import { QemuStream } from './stream.js'
import { isUnderstood, qemuTable, virtualNow } from './table.js'
import { tscRateOf } from './tsc-rate.js'
import { unmodelledBlocks, unmodelledDevices, withTimersMoved } from './unmodelled.js'
import { withSerialAtWork } from './wake.js'

const RAM_BLOCK = 'pc.ram'
const PS_PER_NS = 1000n

/** @param cpu value of `-cpu` that the guest was started with, where no record beside the stream says it. */
export async function readQemu(path: string, options: { readonly cpu?: string } = {}): Promise<MachineImage> {
  const stream = openStream(path)
  const record = readCaptureRecord(path)
  const cpuLine = options.cpu ?? record.cpu
  const features = cpuLine === undefined ? undefined : offeredFeatures(cpuLine)
  if (stream.device('cpu', 1) !== undefined)
    throw new LossError('machines of one CPU only', { file: path, found: 'a second CPU' })
  const state = readTable(qemuTable, QemuFields.of(stream, record.icount))
  state.cpu.tscRate ??= record.tscRate
  const estimated = state.cpu.tscRate === undefined ? tscRateOf(stream) : undefined
  if (estimated !== undefined) state.cpu.tscRate = estimated
  return {
    isa: 'x86-64',
    memory: guestMemory(stream),
    cpus: [state.cpu],
    devices: state.devices,
    notUnderstood: stream.devices.filter(({ name }) => !isUnderstood(name)).map(({ title }) => title),
    ...(features ? { cpuFeatures: features } : {}),
    ...(estimated ? { workedOut: new Map([['cpu.tscRate', 'by the ticks that it has counted']]) } : {}),
    origin: {
      format: 'qemu',
      path,
      notes: {
        machine: stream.machine,
        ...(cpuLine === undefined ? {} : { cpu: cpuLine }),
      },
      raw: stream,
    },
  }
}

/** Where RAM below 4 GiB ends at most (`hw/i386/pc_piix.c`, `pc_q35.c`). */
function lowRamLimit(machine: string, ramBytes: number): number {
  if (machine.includes('q35')) return ramBytes >= 0xb0000000 ? 0x80000000 : ramBytes
  return ramBytes >= 0xe0000000 ? 0xc0000000 : ramBytes
}

function guestMemory(stream: QemuStream): Memory {
  const block = stream.block(RAM_BLOCK)
  if (block === undefined)
    throw new LossError(`the stream has no RAM block '${RAM_BLOCK}'`, {
      file: stream.source.path,
      found: stream.blocks.map(({ name }) => name).join(', '),
      hint: 'capture with -machine pc, without -object memory-backend-*',
    })
  const low = BigInt(lowRamLimit(stream.machine, block.size))
  const whole = Memory.from([{ address: 0n, length: block.size, content: ZERO }]).overlay(
    block.memory.extents,
  )
  return Memory.from(split(whole, low, FOUR_GIB))
}

/** The same memory with what lies from `at` on moved to `to`. */
function* split(memory: Memory, at: bigint, to: bigint): Generator<Extent> {
  for (const extent of memory.extents) {
    const end = extent.address + BigInt(extent.length)
    if (extent.address < at) yield sliceExtent(extent, extent.address, end < at ? end : at)
    if (end > at) {
      const high = sliceExtent(extent, at, end)
      yield { ...high, address: high.address - at + to }
    }
  }
}

export function qemuOptions({ options }: WriteOptions): { template: string } {
  const template = options.template
  if (typeof template !== 'string')
    throw new UsageError('a QEMU stream is written over a template', {
      hint: '--template FILE: any stream of the machine command line that shall go on with it. Where QEMU is installed, convert makes one by itself; or run there: imago vm template --memory SIZE -o FILE',
    })
  return { template }
}

/** @throws LossError when the template's machine has other RAM. */
export async function writeQemu(
  image: MachineImage,
  target: string,
  options: { readonly template: string },
): Promise<readonly Loss[]> {
  if (image.cpus.length !== 1)
    throw new LossError(`a machine of ${image.cpus.length} CPUs does not fit a template of one`)
  const template = openStream(options.template)
  try {
    const record = readCaptureRecord(options.template)
    const fields = QemuFields.of(template, record.icount)
    const state: MachineState = { cpu: image.cpus[0]!, devices: image.devices }
    const devices = patchDevices(state, fields, record.tscRate ?? tscRateOf(template))
    const source = image.origin.raw instanceof QemuStream ? image.origin.raw : undefined
    const shift = virtualNow(fields) - (image.devices.time ?? 0n) / PS_PER_NS
    const carried = source === undefined ? [] : unmodelledDevices(source, template)
    template.write(target, {
      devices: [...devices.changed, ...carried.map(each => withTimersMoved(each, shift))],
      memory: new Map([
        ...(source === undefined ? [] : unmodelledBlocks(source, template, RAM_BLOCK)),
        [RAM_BLOCK, blockMemory(image.memory, template)],
      ]),
    })
    const isCarried = (title: string) => carried.some(each => each.title === title)
    copyCaptureRecord(options.template, target, image.cpuFeatures)
    return [
      ...devices.losses,
      ...unknownFeatures(image),
      ...image.notUnderstood
        .filter(
          name =>
            !isCarried(name) &&
            (source === undefined || template.devices.every(({ title }) => title !== name)),
        )
        .map(droppedDevice),
      ...template.devices
        .filter(({ name, title }) => !isUnderstood(name) && !isCarried(title))
        .map(({ title }) => ({
          kind: 'defaulted' as const,
          subject: title,
          field: 'all',
          detail: 'as in the template',
        })),
    ]
  } finally {
    template.source.close()
  }
}

function unknownFeatures(image: MachineImage): Loss[] {
  if (image.cpuFeatures !== undefined) return []
  const detail = 'nothing says what the guest’s CPU offered: as the template’s line has it (--cpu, --vmlinux)'
  return [{ kind: 'defaulted', subject: 'CPU', field: 'features', detail }]
}

/**
 * The template's devices with a machine's state, and what that lost.
 * @param hostRate of the TSC there, where no icount gives it.
 */
export function patchDevices(machine: MachineState, fields: QemuFields, hostRate?: number) {
  const state = withSerialAtWork(machine)
  writeTable(qemuTable, state, fields)
  const after = readTable(qemuTable, fields)
  after.cpu.tscRate ??= hostRate
  // The clock goes on from where the template stands; everything is rebased to it, and no guest can see it.
  const moved = { ...state, devices: { ...state.devices, time: virtualNow(fields) * 1000n } }
  if (sameRate(state.cpu.tscRate, after.cpu.tscRate)) moved.cpu = { ...state.cpu, tscRate: after.cpu.tscRate }
  return { changed: fields.patched(), losses: lossesBetween(moved, after) }
}

/** Two measurements of one clock differ by less than a thousandth. */
function sameRate(a: number | undefined, b: number | undefined): boolean {
  return a !== undefined && b !== undefined && Math.abs(a - b) < b / 1000
}

function blockMemory(memory: Memory, template: QemuStream): Memory {
  const block = template.block(RAM_BLOCK)
  if (block === undefined)
    throw new UsageError(`the template has no RAM block '${RAM_BLOCK}'`, { file: template.source.path })
  const low = BigInt(lowRamLimit(template.machine, block.size))
  const expected = [
    { start: 0n, length: Number(low) },
    ...(block.size > Number(low) ? [{ start: FOUR_GIB, length: block.size - Number(low) }] : []),
  ]
  const found = ramRanges(memory)
  if (ramText(found) !== ramText(expected))
    throw new LossError('the template has another amount of RAM', {
      file: template.source.path,
      found: ramText(found),
      expected: ramText(expected),
      hint: 'make the template with the same -m',
    })
  return Memory.from(
    memory.extents.map(extent =>
      extent.address >= FOUR_GIB ? { ...extent, address: extent.address - FOUR_GIB + low } : extent,
    ),
  )
}

/** How to resume a stream: imago's own verb, or the whole command line. */
export function resumeHints(path: string, image: MachineImage, template: string): string[] {
  const recorded = readRecord(path)
  const own = `resume it with  imago vm resume ${path} --engine qemu`
  const incoming = `-serial stdio -incoming ${quoted(`exec:cat ${quoted(path)}`)}`
  if (recorded !== undefined)
    return [
      own,
      `or QEMU itself  qemu-system-x86_64 ${machineWords(recorded).map(quoted).join(' ')} ${incoming}`,
    ]
  const stream = openStream(template)
  stream.source.close()
  const memory = (stream.block(RAM_BLOCK)?.size ?? 0) / 2 ** 20
  const cpu = widenedLine('qemu64', image.cpuFeatures ?? [])
  return [
    own,
    `or QEMU itself  qemu-system-x86_64 -M ${stream.machine} -m ${memory}M -cpu ${cpu} WORDS ${incoming}`,
    '(WORDS: whatever else the template was made with; no record beside it says)',
  ]
}

/** A word as a shell takes it. */
const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
