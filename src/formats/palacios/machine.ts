/**
 * A Palacios checkpoint directory ↔ a machine image. RAM comes from a raw dump (`v3_guest_mem_access`, guest-physical
 * order) or from the context `memory_img`; it is written as a raw sparse dump beside the directory, `NAME.mem`.
 */
import fs from 'node:fs'
import path from 'node:path'
import { HLT } from '../../isa/x86-64-program.js'
import { readLinear } from '../../isa/x86-paging.js'
import { temporaryName, writeDirectoryAtomically, writeFully } from '../../lib/atomic-file.js'
import { FileSource } from '../../lib/byte-source.js'
import { LossError, UnreadableError, UsageError } from '../../lib/errors.js'
import { parseFrequency } from '../../lib/quantities.js'
import type { Cpu, MachineImage, MachineState } from '../../model/machine.js'
import { blocksOf, ramRanges } from '../../model/machine-memory.js'
import { Memory } from '../../model/memory.js'
import type { Loss, WriteOptions } from '../format.js'
import { droppedDevice, lossesBetween, readTable, writeTable } from '../machine-table.js'
import { PalaciosFields, type PalaciosTiming } from './fields.js'
import { blankContexts } from './layout.js'
import { MEMORY_KEY, memoryImage, writeMemoryImage } from './memory-image.js'
import { OWN_KEY, ownContext, readOwnContext } from './own-context.js'
import { type Context, formatBinary, formatText, isBinary, parseBinary, parseText } from './records.js'
import { palaciosTable } from './table.js'

/** Bytes of one context; a VMCB with its tags has some 8 KB, an IDE drive 10 KB. */
const MAX_CONTEXT_BYTES = 64 << 20
const MAX_CONTEXTS = 4096
const DEFAULT_CLOCK = 1_000_000_000

export interface Checkpoint {
  readonly contexts: Context[]
  readonly form: 'text' | 'binary'
}

/** All contexts of a directory but the memory. @throws UnreadableError for a file that is no context. */
export function readCheckpoint(directory: string): Checkpoint {
  const names = fs.readdirSync(directory).filter(name => name !== MEMORY_KEY)
  if (names.length > MAX_CONTEXTS) throw new UnreadableError('too many contexts', { file: directory })
  let form: Checkpoint['form'] = 'text'
  const contexts = names.sort().flatMap(name => {
    const file = path.join(directory, name)
    if (!fs.statSync(file).isFile()) return []
    const source = new FileSource(file)
    try {
      if (source.size > MAX_CONTEXT_BYTES)
        throw new UnreadableError('too large for a context', { file, found: `${source.size} bytes` })
      const bytes = source.read(0, source.size)
      if (bytes.length > 0 && isBinary(bytes)) form = 'binary'
      return [isBinary(bytes) ? parseBinary(bytes, name, file) : parseText(bytes, name, file)]
    } finally {
      source.close()
    }
  })
  return { contexts, form }
}

export interface PalaciosOptions {
  /** Raw memory dump of the source. */
  readonly memory?: string
  /** Directory whose contexts are the base, `tpair` of the old scripts. */
  readonly template?: string
  readonly timing: PalaciosTiming
  /** `textfile:` or `file:`; the template's when left out. */
  readonly form?: Checkpoint['form']
  /** The memory as the context `memory_img` instead of a dump beside the directory. */
  readonly memoryInside?: boolean
}

/** From the verb's options, named as on the command line. */
export function palaciosOptions({ options }: WriteOptions, apicClock = DEFAULT_CLOCK): PalaciosOptions {
  const { memory, template, paging, clock, store } = options as Record<string, string | undefined>
  if (store !== undefined && store !== 'textfile' && store !== 'file')
    throw new UsageError(`Palacios has no store '${store}'`, { expected: 'textfile or file' })
  if (paging !== undefined && paging !== 'shadow' && paging !== 'nested')
    throw new UsageError(`'${paging}' is no kind of paging`, { expected: 'shadow or nested' })
  return {
    timing: { apicClock: clock === undefined ? apicClock : parseFrequency(clock), paging },
    ...(store === undefined ? {} : { form: store === 'file' ? ('binary' as const) : ('text' as const) }),
    memoryInside: options.memoryInside === true,
    ...(memory === undefined ? {} : { memory }),
    ...(template === undefined ? {} : { template }),
  }
}

/** @throws UnreadableError */
export async function readPalacios(directory: string, options: PalaciosOptions): Promise<MachineImage> {
  const { contexts, form } = readCheckpoint(directory)
  const fields = new PalaciosFields(contexts, options.timing, directory)
  const state = readTable(palaciosTable, fields)
  const memory = await readMemory(directory, options.memory)
  leaveHalt(state.cpu, memory)
  const own = contexts.find(({ key }) => key === OWN_KEY)
  const features = own && readOwnContext(own, state)
  const known = fields.understood
  return {
    isa: 'x86-64',
    memory,
    cpus: [state.cpu],
    devices: state.devices,
    notUnderstood: contexts.map(({ key }) => key).filter(key => !known.has(key) && key !== OWN_KEY),
    ...(features ? { cpuFeatures: features } : {}),
    origin: {
      format: 'palacios',
      path: directory,
      notes: {
        form: form === 'text' ? 'textfile' : 'file',
        monitor: fields.has('vmcb') ? 'SVM' : 'VMX',
        memory:
          memory.byteCount === 0
            ? 'not given: --memory FILE'
            : options.memory === undefined && fs.existsSync(path.join(directory, MEMORY_KEY))
              ? 'in the checkpoint'
              : 'raw dump',
      },
      raw: contexts,
    },
  }
}

async function readMemory(directory: string, given: string | undefined): Promise<Memory> {
  const own = path.join(directory, MEMORY_KEY)
  if (given === undefined && fs.existsSync(own)) return memoryImage(own)
  const beside = `${directory.replace(/\/+$/, '')}.mem`
  const file = given ?? (fs.existsSync(beside) ? beside : undefined)
  if (file === undefined) return Memory.empty
  const source = new FileSource(file)
  return Memory.from([{ address: 0n, length: source.size, content: { kind: 'slice', source, offset: 0 } }])
}

const INTERRUPTS = 0x200n
const pagingOf = (cpu: Cpu) => ({ ...cpu.control, efer: cpu.msr.efer })

/** Palacios saves a core that waits in HLT with RIP at the instruction; everyone else with RIP behind it. */
function leaveHalt(cpu: Cpu, memory: Memory): void {
  const linear = cpu.rip + (cpu.msr.efer & 0x400n ? 0n : cpu.segments.cs.base)
  if ((cpu.rflags & INTERRUPTS) === 0n) return
  if (readLinear(memory, pagingOf(cpu), linear, 1)?.[0] !== HLT) return
  cpu.rip++
  cpu.halted = true
}

/** The other way; a CPU whose HLT is not found there wakes up, which every idle loop takes. */
function enterHalt(cpu: Cpu, memory: Memory): Cpu {
  if (!cpu.halted) return cpu
  const linear = cpu.rip - 1n + (cpu.msr.efer & 0x400n ? 0n : cpu.segments.cs.base)
  const found = readLinear(memory, pagingOf(cpu), linear, 1)?.[0] === HLT
  return found ? { ...cpu, rip: cpu.rip - 1n } : cpu
}

/** @throws LossError for a machine that Palacios cannot have, UsageError */
export async function writePalacios(
  image: MachineImage,
  target: string,
  options: PalaciosOptions,
): Promise<readonly Loss[]> {
  if (image.cpus.length !== 1)
    throw new LossError(`Palacios checkpoints of one core only: the machine has ${image.cpus.length}`)
  const ranges = ramRanges(image.memory)
  if (ranges.length > 1 || (ranges[0] && ranges[0].start !== 0n))
    throw new LossError('RAM with a hole: Palacios has it in one piece', {
      found: ranges.map(({ start, length }) => `${length} bytes at 0x${start.toString(16)}`).join(', '),
    })
  const checkpoint: Checkpoint =
    options.template === undefined
      ? { contexts: blankContexts(), form: 'text' }
      : readCheckpoint(options.template)
  const losses = patchContexts(image, checkpoint.contexts, options.timing)
  const own = ownContext({ cpu: image.cpus[0]!, devices: image.devices }, image.cpuFeatures)
  const contexts = [...checkpoint.contexts.filter(({ key }) => key !== OWN_KEY), own]
  const memory = `${target.replace(/\/+$/, '')}.mem`
  const temporary = temporaryName(memory)
  const length = ranges[0]?.length ?? 0
  const form = options.form ?? checkpoint.form
  try {
    if (!options.memoryInside) writeDump(image.memory, length, temporary)
    await writeDirectoryAtomically(target, folder => {
      writeContexts({ form, contexts }, folder)
      if (options.memoryInside) writeMemoryImage(image.memory, length, path.join(folder, MEMORY_KEY), form)
    })
    if (!options.memoryInside) fs.renameSync(temporary, memory)
  } finally {
    fs.rmSync(temporary, { force: true })
  }
  return [...losses, ...image.notUnderstood.map(droppedDevice)]
}

/** Patches contexts with a machine's state; returns what that lost. */
export function patchContexts(
  image: MachineImage,
  contexts: readonly Context[],
  timing: PalaciosTiming,
): Loss[] {
  const state: MachineState = { cpu: image.cpus[0]!, devices: image.devices }
  const fields = new PalaciosFields(contexts, timing)
  writeTable(palaciosTable, { ...state, cpu: enterHalt(state.cpu, image.memory) }, fields)
  const after = readTable(palaciosTable, fields)
  leaveHalt(after.cpu, image.memory)
  return lossesBetween(state, after)
}

/** Each context as a file of `folder`. */
export function writeContexts({ contexts, form }: Checkpoint, folder: string): void {
  for (const context of contexts)
    fs.writeFileSync(
      path.join(folder, context.key),
      form === 'text' ? formatText(context) : formatBinary(context),
      { mode: 0o600 },
    )
}

const DUMP_BLOCK_BYTES = 1 << 20
/** The first `length` bytes of memory as a raw file, with holes for zeros. */
export function writeDump(memory: Memory, length: number, file: string): void {
  const fd = fs.openSync(file, 'wx', 0o600)
  try {
    for (const { offset, bytes } of blocksOf(memory, 0n, length, DUMP_BLOCK_BYTES))
      if (bytes !== undefined) writeFully(fd, bytes, offset)
    fs.ftruncateSync(fd, length)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}
