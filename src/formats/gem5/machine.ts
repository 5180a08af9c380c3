/**
 * A gem5 checkpoint directory ↔ a machine image: the text by the table, the RAM by its stores, and what is left to
 * make a checkpoint taken elsewhere restorable (empty TLBs, no power state in the future, the script that restores it).
 */
import fs from 'node:fs'
import path from 'node:path'
import { writeDirectoryAtomically } from '../../lib/atomic-file.js'
import { LossError, UsageError } from '../../lib/errors.js'
import { parseFrequency } from '../../lib/quantities.js'
import type { MachineImage, MachineState } from '../../model/machine.js'
import { FOUR_GIB, lowRamBytes, ramRanges, ramText } from '../../model/machine-memory.js'
import type { Loss, WriteOptions } from '../format.js'
import { droppedDevice, lossesBetween, readTable, writeTable } from '../machine-table.js'
import { blankCheckpoint, type Gem5Era } from './blank-checkpoint.js'
import { CheckpointText } from './checkpoint-text.js'
import { apicClockOf, clocksOf, DEFAULT_CLOCK, guesses, OWN_SECTION, setClocks } from './clocks.js'
import { featureLosses, gem5Features, missingFeatures } from './cpu-features.js'
import { Gem5Fields } from './fields.js'
import { readRam, writeRam } from './ram.js'
import { restoreScript } from './restore-script.js'
import { type Gem5Timing, gem5Modes, gem5Table } from './table.js'

/** The folder of a checkpoint, given it or its `m5.cpt`. */
export function checkpointFolder(location: string): string {
  return path.basename(location) === 'm5.cpt' ? path.dirname(location) : location
}

class TimedFields extends Gem5Fields {
  readonly timing: Gem5Timing
  constructor(text: CheckpointText, timing: Gem5Timing, file?: string) {
    super(text, file)
    this.timing = timing
  }
}

/** The state alone, without the RAM. @throws UnreadableError for a text that is no checkpoint of an x86 machine. */
export function readState(
  text: CheckpointText,
  timing: Gem5Timing = { cpuClock: DEFAULT_CLOCK, apicClock: undefined },
) {
  return readTable(gem5Table, new TimedFields(text, timing))
}

/** @throws UnreadableError; LossError for more than one CPU. */
export async function readGem5(
  location: string,
  options: { readonly clock?: number } = {},
): Promise<MachineImage> {
  const folder = checkpointFolder(location)
  const file = path.join(folder, 'm5.cpt')
  const text = CheckpointText.read(file)
  const timing = clocksOf(text, folder, options.clock)
  const fields = new TimedFields(text, timing, file)
  const state = readTable(gem5Table, fields)
  const memory = await readRam(text, folder)
  const features = text.get(OWN_SECTION, 'cpu_features')
  return {
    isa: 'x86-64',
    memory,
    cpus: [state.cpu],
    devices: state.devices,
    notUnderstood: otherDevices(fields),
    ...(text.get('root', 'FullSystem') === 'false' ? { userOnly: true } : {}),
    // A guest that booted in gem5 has seen gem5's CPU.
    cpuFeatures: features ? new Set(features.split(' ')) : gem5Features(fields.is2011 ? '2011' : 'v24'),
    ...guesses(timing),
    origin: {
      format: 'gem5',
      path: folder,
      notes: {
        layout: fields.is2011 ? '2011' : 'v24',
        cpu: fields.cpu,
        'CPU clock': `${timing.cpuClock} Hz${timing.source === 'imago' ? '' : ` (${timing.source})`}`,
      },
      raw: text,
    },
  }
}

/** Sections of chipset devices with state of their own that no row reads. */
function otherDevices(fields: Gem5Fields): string[] {
  const known = new Set(Object.values(fields.roles).flat())
  return fields.text.names().filter(name => {
    if (!/\.pc\./.test(name) || known.has(name)) return false
    return fields.text.keys(name).some(key => key !== 'currState' && key !== 'prvEvalTick')
  })
}

export interface Gem5Options {
  /** Checkpoint folder whose text is the base; its RAM is not read. */
  readonly skeleton?: string
  readonly era: Gem5Era
  /** curTick of the checkpoint, in ps; the machine's time when left out. */
  readonly tick?: bigint
  /** CPU clock in Hz; the machine's TSC rate when left out. */
  readonly clock?: number
  readonly rawRam: boolean
  /** Write even where the guest's CPU offers what gem5's does not. */
  readonly ignoreFeatures: boolean
}

/** From the verb's options, named as on the command line. @throws UsageError for a value that is none. */
export function gem5Options({ options }: WriteOptions): Gem5Options {
  const text = (name: string) => options[name] as string | undefined
  const era = text('gem5Version') ?? 'v24'
  if (era !== 'v24' && era !== '2011')
    throw new UsageError(`no gem5 layout is called '${era}'`, { expected: 'v24 or 2011' })
  return {
    era,
    rawRam: options.rawRam === true,
    ignoreFeatures: options.ignoreCpu === true,
    ...(text('skeleton') === undefined ? {} : { skeleton: text('skeleton')! }),
    ...(text('tick') === undefined ? {} : { tick: tickOption(text('tick')!) }),
    ...(text('clock') === undefined ? {} : { clock: parseFrequency(text('clock')!) }),
  }
}

function tickOption(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new UsageError(`--tick is a number of picoseconds, not '${text}'`)
  return BigInt(text)
}

/**
 * Writes a checkpoint folder: `m5.cpt`, the RAM, and `restore.py`, which restores it.
 * @throws LossError where gem5 cannot run the machine at all: more CPUs, CPU features it lacks, RAM elsewhere.
 */
export async function writeGem5(
  image: MachineImage,
  target: string,
  options: Gem5Options,
): Promise<readonly Loss[]> {
  if (image.cpus.length !== 1)
    throw new LossError(`gem5 checkpoints of one CPU only: the machine has ${image.cpus.length}`)
  const cpu = image.cpus[0]!
  refuseFeatures(image, options.ignoreFeatures)
  refuseLayout(image, options.era)
  const text =
    options.skeleton === undefined
      ? blankCheckpoint(options.era, ramRanges(image.memory).length > 1 ? 2 : 1)
      : CheckpointText.read(path.join(checkpointFolder(options.skeleton), 'm5.cpt'))
  const { fields, losses } = writeState({ cpu, devices: image.devices }, text, {
    cpuClock: options.clock ?? cpu.tscRate ?? DEFAULT_CLOCK,
    apicClock: cpu.apic?.timer.rate,
    ...(options.tick === undefined ? {} : { tick: options.tick }),
    features: image.cpuFeatures,
  })
  await writeDirectoryAtomically(target, async folder => {
    await writeRam(text, image.memory, folder, {
      raw: options.rawRam,
      sizeIsFixed: options.skeleton !== undefined,
    })
    text.write(path.join(folder, 'm5.cpt'))
    const { name, content } = restoreScript({
      ramBytes: lowRamBytes(image.memory),
      highRamBytes: ramRanges(image.memory)[1]?.length ?? 0,
      cpuClock: fields.timing.cpuClock,
      apicClock: fields.timing.apicClock!,
      era: fields.is2011 ? '2011' : 'v24',
    })
    fs.writeFileSync(path.join(folder, name), content)
  })
  return [
    ...losses,
    ...featureLosses(image, fields.is2011 ? '2011' : 'v24'),
    ...image.notUnderstood.map(droppedDevice),
  ]
}

/** Patches `text` with a machine's state. Used alone where only the text is wanted (the seed's steps). */
export function writeState(
  state: MachineState,
  text: CheckpointText,
  options: Gem5Timing & { readonly tick?: bigint; readonly features?: ReadonlySet<string> | undefined },
): { fields: Gem5Fields & { timing: Gem5Timing }; losses: Loss[] } {
  const { cpuClock } = options
  const apicClock = apicClockOf(options, new Gem5Fields(text).is2011)
  setClocks(text, { cpuClock, apicClock })
  if (options.features?.size) text.set(OWN_SECTION, 'cpu_features', [...options.features].join(' '))
  const fields = new TimedFields(text, { cpuClock, apicClock })
  const moved: MachineState =
    options.tick === undefined ? state : { ...state, devices: { ...state.devices, time: options.tick } }
  writeTable(gem5Table, moved, fields)
  fields.flush()
  const tick = fields.get('globals.curTick') as bigint
  settle(fields, tick)
  const after = readTable(gem5Table, new TimedFields(text, fields.timing))
  return { fields, losses: [...unsupportedTimer(state), ...lossesBetween(moved, after)] }
}

/** A kernel without an APIC lives on one-shot interrupts of the PIT, and gem5 ends with a panic at the next one. */
function unsupportedTimer({ devices }: MachineState): Loss[] {
  const channel = devices.pit?.channels[0]
  if (channel?.remaining === undefined || gem5Modes.has(channel.mode)) return []
  const detail = `gem5 panics when the guest programs PIT mode ${channel.mode} again; boot a kernel that finds its APIC`
  return [{ kind: 'dropped', subject: 'PIT', field: 'one-shot interrupts', detail }]
}

/** What must not be taken over from a skeleton: TLB entries, power states in the future, sleeping threads, pin levels. */
function settle(fields: Gem5Fields, tick: bigint): void {
  const { text } = fields
  text.remove(name => /\.[id]tb\.Entry\d+$/.test(name))
  for (const name of text.names()) {
    if (/\.[id]tb$/.test(name) && text.get(name, '_size') !== undefined) text.set(name, '_size', '0')
    const evaluated = text.get(name, 'prvEvalTick')
    if (evaluated !== undefined && BigInt(evaluated) > tick) text.set(name, 'prvEvalTick', String(tick))
    for (const key of text.keys(name)) if (key.startsWith('quiesceEndTick')) text.set(name, key, '0')
  }
  for (const role of ['ioApic', 'pic1', 'pic2']) {
    const pins = fields.string(role, 'pinStates')
    if (pins !== undefined) fields.setString(role, 'pinStates', pins.replaceAll('true', 'false'))
  }
  if (fields.is2011) {
    // The CPU's next cycle: due now, unless it sleeps in HLT.
    const runs = fields.string('xc', '_status') === '0'
    if (text.has(`${fields.cpu}.tickEvent`)) {
      text.set(`${fields.cpu}.tickEvent`, '_when', runs ? String(tick) : '0')
      text.set(`${fields.cpu}.tickEvent`, '_flags', runs ? String(SCHEDULED) : '0')
    }
  }
}
const SCHEDULED = 2

/** gem5's PC has its devices from 3 to 4 GiB; RAM beyond 3 GiB goes on from 4 GiB (configs/common/FSConfig.py). */
function refuseLayout({ memory }: MachineImage, era: Gem5Era): void {
  const [low, high, ...more] = ramRanges(memory)
  const fits =
    low === undefined ||
    (low.start === 0n &&
      low.length <= HOLE_START &&
      more.length === 0 &&
      (high === undefined || (era === 'v24' && low.length === HOLE_START && high.start === FOUR_GIB)))
  if (fits) return
  throw new LossError('gem5 has no such RAM', {
    found: ramText(ramRanges(memory)),
    expected: era === '2011' ? 'at most 3 GiB, from 0' : 'from 0 to at most 3 GiB, and then on from 4 GiB',
    hint: 'capture with a machine of at most 3 GiB, or (v24) of 4 GiB and more',
  })
}
const HOLE_START = 3 * 2 ** 30

function refuseFeatures(image: MachineImage, ignore: boolean): void {
  const missing = missingFeatures(image)
  if (missing.length === 0 || ignore) return
  throw new LossError(`gem5's CPU lacks what the guest may use: ${missing.join(', ')}`, {
    hint: `capture with -cpu …${missing.map(name => `,-${name}`).join('')}, or say --ignore-cpu if the guest never looked`,
  })
}
