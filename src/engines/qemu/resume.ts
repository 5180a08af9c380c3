/**
 * Resuming a machine: QEMU is started, standing still, with the command line that the stream wants, reads it, and
 * is told to go on. (A stream captured after `stop` says `paused`: by itself the machine would stay so.)
 */
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QemuStream } from '../../formats/qemu/stream.js'
import { PeerError } from '../../lib/errors.js'
import { Emulator } from './emulator.js'
import { DEFAULT_CPU, DEFAULT_MACHINE, type MachineLine, machineWords, readRecord } from './machine-line.js'

/** The command line that loads `stream`: its record where there is one, else what the stream itself tells. */
export function lineFor(image: string, stream: QemuStream): MachineLine {
  const recorded = readRecord(image)
  const memory = stream.block('pc.ram')?.size ?? 0
  if (recorded !== undefined) return { ...recorded, memory }
  const counted = stream.device('timer')?.has('timer/icount.qemu_icount') === true
  return {
    machine: DEFAULT_MACHINE.replace(/^pc/, stream.machine || 'pc'),
    cpu: DEFAULT_CPU,
    memory,
    icount: counted ? 0 : undefined,
    more: [],
  }
}

export interface ResumeOptions {
  readonly line: MachineLine
  /** Who reads the serial line. */
  readonly serial: ((bytes: Uint8Array) => void) | 'terminal'
  /** Load the machine and leave it standing: for comparing. */
  readonly paused?: boolean
  /** Kills it when it is aborted. */
  readonly abort?: AbortSignal | undefined
}

/**
 * Loads the stream at `image` and lets it run. The image is only read.
 * @throws PeerError with QEMU's own words when the machine does not load.
 */
export async function resume(image: string, options: ResumeOptions): Promise<Emulator> {
  const words = [
    ...machineWords(options.line),
    ...['-incoming', `exec:cat '${path.resolve(image).replaceAll("'", "'\\''")}'`],
  ]
  const emulator = await Emulator.start(words, {
    serial: options.serial,
    paused: true,
    abort: options.abort,
  })
  try {
    await loaded(emulator)
    if (!options.paused) await emulator.qmp.execute('cont')
    return emulator
  } catch (error) {
    const found = emulator.messages.split('\n').slice(-3).join('\n')
    await emulator.stop()
    throw new PeerError('QEMU did not load the machine', {
      found: found || (error as Error).message,
      hint: 'the command line must be the one it was captured with: see --cpu, --machine and the words after --',
    })
  }
}

/** Waits until the stream has been read. */
async function loaded(emulator: Emulator): Promise<void> {
  for (;;) {
    const { status } = await emulator.qmp.execute<{ status: string }>('query-status')
    if (status !== 'inmigrate') return
    await sleep(10)
  }
}
