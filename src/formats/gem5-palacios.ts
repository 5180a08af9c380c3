/**
 * The five steps of the Northwestern migration tools under their own file names: a skeleton `m5.p`, the Palacios
 * checkpoint in `tpair/`, gem5's text in `p25out/m5.cpt`, Palacios' files in `tmp/`, the memory in `gemmem`.
 * Both directions patch: gem5's skeleton, and Palacios' own checkpoint.
 */
import fs from 'node:fs'
import path from 'node:path'
import { writeDirectoryAtomically, writeFileAtomically, writeFully } from '../lib/atomic-file.js'
import { LossError } from '../lib/errors.js'
import { parseFrequency } from '../lib/quantities.js'
import { ramRanges } from '../model/machine-memory.js'
import { Memory } from '../model/memory.js'
import type { Loss } from './format.js'
import { CheckpointText } from './gem5/checkpoint-text.js'
import { readState, writeState } from './gem5/machine.js'
import { readRam } from './gem5/ram.js'
import { readSkeleton, skeletonOf } from './gem5/skeleton.js'
import {
  palaciosOptions,
  patchContexts,
  readCheckpoint,
  readPalacios,
  writeContexts,
  writeDump,
} from './palacios/machine.js'

/** `m5parse.py m5.cpt m5.p` */
export function makeSkeleton(checkpoint: string, output: string): { sections: number } {
  const text = CheckpointText.read(checkpoint)
  const bytes = skeletonOf(text)
  writeFileAtomically(output, fd => writeFully(fd, bytes, 0), 0o644)
  return { sections: text.names().length }
}

export interface FromPalacios {
  readonly skeleton: string
  /** Palacios' checkpoint directory. */
  readonly pair: string
  readonly memory?: string | undefined
  readonly output: string
  readonly clock?: string | undefined
  readonly tick?: bigint | undefined
}

/** `p2m.py`: Palacios' state over the skeleton. */
export async function fromPalacios(options: FromPalacios): Promise<readonly Loss[]> {
  const text = readSkeleton(options.skeleton)
  const clock = options.clock === undefined ? 1e9 : parseFrequency(options.clock)
  const { timing } = palaciosOptions({ options: {} }, clock)
  const image = await readPalacios(options.pair, {
    timing,
    ...(options.memory === undefined ? {} : { memory: options.memory }),
  })
  const { losses } = writeState({ cpu: image.cpus[0]!, devices: image.devices }, text, {
    cpuClock: clock,
    apicClock: clock,
    ...(options.tick === undefined ? {} : { tick: options.tick }),
  })
  fs.mkdirSync(path.dirname(options.output), { recursive: true })
  writeFileAtomically(options.output, fd => writeFully(fd, Buffer.from(text.toString(), 'latin1'), 0), 0o644)
  return losses
}

export interface ToPalacios {
  /** gem5's `m5.cpt`; the RAM is looked for beside it. */
  readonly checkpoint: string
  /** Palacios' checkpoint that is patched. */
  readonly pair: string
  /** Folder for the changed files. */
  readonly output: string
  /** Where the unpacked memory goes, when the RAM is there. */
  readonly memory: string
  readonly clock?: string | undefined
}

/** `m2p.py`, and `zcat system.physmem.physmem > gemmem` where that file lies beside the checkpoint. */
export async function toPalacios(
  options: ToPalacios,
): Promise<{ losses: readonly Loss[]; memory: string | undefined }> {
  const text = CheckpointText.read(options.checkpoint)
  const clock = options.clock === undefined ? 1e9 : parseFrequency(options.clock)
  const state = readState(text, { cpuClock: clock, apicClock: clock })
  const folder = path.dirname(path.resolve(options.checkpoint))
  const memory = await readRam(text, folder).catch(error => {
    if ((error as Error).message.startsWith('cannot open')) return Memory.empty
    throw error
  })
  const ranges = ramRanges(memory)
  if (ranges.length > 1) throw new LossError('RAM with a hole: Palacios has it in one piece')
  const checkpoint = readCheckpoint(options.pair)
  const image = {
    isa: 'x86-64' as const,
    memory,
    cpus: [state.cpu],
    devices: state.devices,
    notUnderstood: [],
    origin: { format: 'gem5', path: options.checkpoint, notes: {} },
  }
  const losses = patchContexts(image, checkpoint.contexts, palaciosOptions({ options: {} }, clock).timing)
  await writeDirectoryAtomically(options.output, into => writeContexts(checkpoint, into))
  if (ranges.length === 0) return { losses, memory: undefined }
  fs.rmSync(options.memory, { force: true })
  writeDump(memory, ranges[0]!.length, options.memory)
  return { losses, memory: options.memory }
}
