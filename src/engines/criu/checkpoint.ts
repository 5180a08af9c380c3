/**
 * Checkpoint by criu. The source goes on, or stands still with `stop`, until its image is complete, read back and verified
 * under its final name; only then is it ended.
 *
 *   criu dump into a temporary folder ─► read and verify ─► rename ─► (stop) kill the tree
 */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { criu as format } from '../../formats/criu/format.js'
import { readCriu } from '../../formats/criu/read.js'
import { writeDirectoryAtomically } from '../../lib/atomic-file.js'
import { HostError, InterruptedError, PeerError, UsageError } from '../../lib/errors.js'
import { verifyProcessImage } from '../../model/process-verify.js'
import type { CheckpointOptions, CheckpointResult } from '../engine.js'
import { liveProcess, processTree } from '../live-process.js'
import { type ParkedProgram, parkAtMigrationPoint } from '../migration-point.js'
import { Dump } from './dump.js'
import { requireProgram } from './program.js'

/** Dumps the tree of `pid` by criu. The image has its name only when it is whole and verified, and only then is a program ended. @throws ImagoError */
export async function checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult> {
  const started = performance.now()
  const program = requireProgram()
  const source = sourceProcess(pid)
  const target = path.resolve(options.output ?? `${source.name}-${pid}.criu`)
  const interruption = noteInterruption()
  const dump = new Dump(program, pid, options)
  let parked: ParkedProgram | undefined
  /** Ids of this host: those in the image are of the program's own pid namespace. */
  let tree: readonly number[] = []
  try {
    // A program that can change its ISA is frozen where it can.
    parked = await parkAtMigrationPoint(pid, () => interruption.happened, options.patience)
    await writeDirectoryAtomically(target, async directory => {
      await dump.into(directory)
      if (options.stop) tree = processTree(pid) // it stands still: nothing is born any more
      await verify(directory)
      if (interruption.happened)
        throw new InterruptedError('interrupted: no image was kept, the program goes on')
    })
    // The image is whole and under its name: from here on the source is no longer needed, and Ctrl-C comes too late.
    const pauseMs = await dump.keep(target)
    if (options.stop) await endTree(tree)
    else parked?.release()
    return { path: target, bytes: bytesOnDisk(target), pauseMs, totalMs: performance.now() - started }
  } catch (error) {
    await dump.undo()
    parked?.release()
    throw error
  } finally {
    interruption.end()
    dump.close()
  }
}

function sourceProcess(pid: number) {
  const source = liveProcess(pid)
  if (source === undefined || source.state === 'Z')
    throw new UsageError(
      `no process has the id ${pid}`,
      source && { found: 'a zombie: it has ended already' },
    )
  if (source.tracer !== 0)
    throw new HostError(`process ${pid} is being traced`, {
      found: `tracer ${source.tracer} (${liveProcess(source.tracer)?.name ?? '?'})`,
      hint: 'detach the debugger (or strace) from it first',
    })
  if (processTree(pid).includes(process.pid))
    throw new UsageError(`imago itself runs below process ${pid}`, {
      hint: 'checkpoint it from another shell',
    })
  return source
}

/** Reads the image back. @throws PeerError when it is not sound. */
async function verify(directory: string): Promise<void> {
  const image = await readCriu(directory)
  const problems = [...((await format.verify?.(directory)) ?? []), ...verifyProcessImage(image)]
  if (problems.length > 0)
    throw new PeerError('criu wrote an image that is not sound', {
      found: problems.slice(0, 5).join('\n            '),
    })
}

/** Ends stopped processes and waits until their ids are free or zombies of a parent that lives on. */
async function endTree(pids: readonly number[]): Promise<void> {
  for (const pid of pids) kill(pid)
  for (let i = 0; i < 500; i++) {
    if (pids.every(pid => [undefined, 'Z', 'X'].includes(liveProcess(pid)?.state))) return
    await sleep(10)
  }
  throw new PeerError('the image is complete, but the program did not end', {
    found: `processes ${pids.join(', ')}`,
  })
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone already.
  }
}

/** Ctrl-C is noted, and obeyed when it harms nobody. */
function noteInterruption() {
  const note = { happened: false, end: () => {} }
  const handler = () => {
    note.happened = true
  }
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const name of names) process.on(name, handler)
  note.end = () => {
    for (const name of names) process.off(name, handler)
  }
  return note
}

function bytesOnDisk(directory: string): number {
  return fs
    .readdirSync(directory)
    .reduce((sum, name) => sum + fs.lstatSync(path.join(directory, name)).blocks * 512, 0)
}
