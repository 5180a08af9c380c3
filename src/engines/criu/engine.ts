/**
 * Checkpoint and restore by criu. The source goes on, or stands still with `stop`, until its image is complete, read
 * back and verified under its final name; only then is it ended.
 *
 *   checkpoint: criu dump into a temporary folder ─► read and verify ─► rename ─► (stop) kill the tree
 *   restore:    are the ids free? ─► criu restore ─► is it alive?
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CriuDirectory } from '../../formats/criu/directory.js'
import { criu as format } from '../../formats/criu/format.js'
import { readCriu } from '../../formats/criu/read.js'
import { stats_entry } from '../../formats/criu/schema/inventory.js'
import { signalName } from '../../isa/linux.js'
import { writeDirectoryAtomically } from '../../lib/atomic-file.js'
import { HostError, InterruptedError, PeerError, UsageError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { ProcessImage } from '../../model/process.js'
import { verifyProcessImage } from '../../model/process-verify.js'
import type {
  CheckpointOptions,
  CheckpointResult,
  ProcessEngine,
  RestoredProcess,
  RestoreOptions,
} from '../engine.js'
import {
  anonymousPages,
  hasTcpConnections,
  liveProcess,
  membersOfGroups,
  processTree,
  residentPages,
} from '../live-process.js'
import { type ParkedProgram, parkAtMigrationPoint, releaseIfParked } from '../migration-point.js'
import { RestoredChild } from './child.js'
import { explain } from './failures.js'
import { type CriuProgram, requireProgram, runCriu } from './program.js'

/** What criu allows only when told to, and what a user who asks for a checkpoint means. */
const allowances = ['--shell-job', '--tcp-established', '--file-locks']

/**
 * How criu holds back the packets of a program's TCP connections. Without any it is told to leave that: a dump would leave two
 * hooks in the kernel, which only its restore on this host removes, and no dump gets any after 1024.
 */
function networkLock(hasConnections: boolean): string[] {
  const hasIptables = ['/usr/sbin', '/sbin', '/usr/bin'].some(folder => fs.existsSync(`${folder}/iptables`))
  return ['--network-lock', hasConnections ? (hasIptables ? 'iptables' : 'nftables') : 'skip']
}

/** Deleted files up to this size go into the image. */
const GHOST_LIMIT = '1G'

export const engine: ProcessEngine = {
  name: 'criu',
  formats: ['criu'],
  canFreeze: pid => liveProcess(pid) !== undefined,

  async checkpoint(pid: number, options: CheckpointOptions): Promise<CheckpointResult> {
    refuse(options, ['force', 'compress', 'includeFiles'])
    const started = performance.now()
    const program = requireProgram()
    const source = sourceProcess(pid)
    const target = path.resolve(options.output ?? `${source.name}-${pid}.criu`)
    const interruption = noteInterruption()
    /** Ids of this host: those in the image are of the program's own pid namespace. */
    let tree: readonly number[] = []
    let frozen: readonly number[] = []
    let pauseMs: number | undefined
    let parked: ParkedProgram | undefined
    try {
      // A program that can change its ISA is frozen where it can.
      parked = await parkAtMigrationPoint(pid, () => interruption.happened, options.patience)
      await writeDirectoryAtomically(target, async directory => {
        const before = stoppedBelow(pid)
        pauseMs = await dump(program, pid, directory, options)
        if (options.stop) {
          tree = processTree(pid) // it stands still: nothing is born any more
          frozen = stoppedBelow(pid).filter(each => !before.includes(each))
        }
        await verify(directory)
        if (interruption.happened)
          throw new InterruptedError('interrupted: no image was kept, the program goes on')
      })
    } catch (error) {
      for (const each of frozen) signal(each, 'SIGCONT')
      parked?.release()
      interruption.end()
      throw error
    }
    // The image is whole and under its name: from here on the source is no longer needed, and Ctrl-C comes too late.
    if (options.stop) await endTree(tree)
    else parked?.release()
    interruption.end()
    return { path: target, bytes: bytesOnDisk(target), pauseMs, totalMs: performance.now() - started }
  },

  async restore(image: string, options: RestoreOptions): Promise<RestoredProcess> {
    refuse(options, ['lazy'])
    if (options.files !== undefined && options.files !== 'keep')
      throw new UsageError(
        `criu restores files as they are: --files ${options.files} is for images of engine preload`,
      )
    if (options.pid === 'new' || options.pid === 'namespace')
      throw new UsageError(
        `criu gives a process its old id: --pid ${options.pid} is for images of engine preload`,
        {
          hint: 'unshare --pid --fork --mount-proc imago restore IMAGE gives it a namespace of its own',
        },
      )
    const program = requireProgram()
    const frozen = await readCriu(image)
    const root = frozen.processes[0]!
    await idsAreFree(frozen)
    const pages = frozen.processes.reduce((sum, { memory }) => sum + memory.byteCount / PAGE_SIZE, 0)
    const work = workFolder()
    const pidFile = path.join(work, 'pid')
    let pid = root.pid
    try {
      const run = await runCriu(
        program,
        ['restore', '--restore-detached', '--restore-sibling', '--pidfile', pidFile, ...allowances],
        {
          directory: path.resolve(image),
          work,
          terminal: !options.detach,
          onTick: () => {
            const back = frozen.processes.reduce((sum, { pid }) => sum + residentPages(pid), 0)
            options.onProgress?.(
              Math.min(back / Math.max(pages, 1), 1),
              `${Math.min(back, pages)} of ${pages} pages`,
            )
          },
        },
      )
      if (run.code !== 0) throw explain(`cannot restore ${image}`, run.log)
      pid = Number(fs.readFileSync(pidFile, 'utf8'))
    } finally {
      fs.rmSync(work, { recursive: true, force: true })
    }
    const child = new RestoredChild(pid)
    const remarks = await proveAlive(child, root.name)
    releaseIfParked(pid)
    return { pid, remarks, wait: () => child.wait() }
  },
}

/** What other engines offer and criu cannot do must not be ignored silently. */
function refuse(options: CheckpointOptions | RestoreOptions, names: readonly string[]): void {
  const given = names.find(name => (options as unknown as Record<string, unknown>)[name] === true)
  if (given !== undefined)
    throw new UsageError(`engine criu has no --${given === 'includeFiles' ? 'with-files' : given}`)
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

/** The processes of the tree that a signal has stopped. */
function stoppedBelow(pid: number): number[] {
  return processTree(pid).filter(each => liveProcess(each)?.state === 'T')
}

/** Dumps the tree into `directory`. Returns how long it stood still, in milliseconds. */
async function dump(
  program: CriuProgram,
  pid: number,
  directory: string,
  options: CheckpointOptions,
): Promise<number | undefined> {
  const expected = processTree(pid).reduce((sum, each) => sum + anonymousPages(each), 0)
  const work = workFolder()
  try {
    const after = options.stop ? '--leave-stopped' : '--leave-running'
    const connected = processTree(pid).some(hasTcpConnections)
    const words = [
      'dump',
      '-t',
      String(pid),
      after,
      '--link-remap',
      '--ghost-limit',
      GHOST_LIMIT,
      ...allowances,
      ...networkLock(connected),
    ]
    const run = await runCriu(program, words, {
      directory,
      work,
      onTick: () => {
        const written = pagesWritten(directory)
        options.onProgress?.(
          Math.min(written / Math.max(expected, 1), 1),
          `${written} of about ${Math.max(expected, written)} pages`,
        )
      },
    })
    if (run.code !== 0) throw explain(`cannot checkpoint process ${pid}`, run.log)
    if (!connected && fs.readdirSync(directory).some(name => name.startsWith('tcp-stream-')))
      throw new PeerError(`process ${pid} opened a TCP connection just as it was frozen; it goes on`, {
        hint: 'ask for the checkpoint again',
      })
    const statistics = path.join(work, 'stats-dump')
    if (!fs.existsSync(statistics)) return undefined
    fs.copyFileSync(statistics, path.join(directory, 'stats-dump'))
    const { dump } = new CriuDirectory(directory).message('stats-dump', stats_entry)
    return dump && (dump.freezing_time + dump.frozen_time) / 1000
  } finally {
    fs.rmSync(work, { recursive: true, force: true })
  }
}

function pagesWritten(directory: string): number {
  return fs
    .readdirSync(directory)
    .filter(name => /^pages-\d+\.img$/.test(name))
    .reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size / PAGE_SIZE, 0)
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
  for (const pid of pids) signal(pid, 'SIGKILL')
  for (let i = 0; i < 500; i++) {
    if (pids.every(pid => [undefined, 'Z', 'X'].includes(liveProcess(pid)?.state))) return
    await sleep(10)
  }
  throw new PeerError('the image is complete, but the program did not end', {
    found: `processes ${pids.join(', ')}`,
  })
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It is gone already.
  }
}

/** Zombies get a moment to be waited for. @throws HostError when an id of the image is taken. */
async function idsAreFree(image: ProcessImage): Promise<void> {
  const ids = new Set(
    image.processes.flatMap(({ pid, threads }) => [pid, ...threads.map(thread => thread.tid)]),
  )
  const holders = () => [
    ...[...ids].filter(id => liveProcess(id) !== undefined).map(id => ({ pid: id, group: id })),
    ...membersOfGroups(ids),
  ]
  for (let i = 0; ; i++) {
    const [holder] = holders().sort((a, b) => Number(isZombie(a.pid)) - Number(isZombie(b.pid)))
    if (holder === undefined) return
    const { pid, group } = holder
    const found = liveProcess(pid)
    if (found === undefined) continue // it went between two looks
    const zombie = found.state === 'Z'
    if (zombie && i < 100) {
      await sleep(100)
      continue
    }
    const { name } = found
    throw new HostError(`process id ${group} is taken on this host`, {
      found: `${pid === group ? name : `process ${pid} (${name}) is in its group or session`}${zombie ? ', a zombie that its parent has not waited for' : ''}`,
      hint: zombie
        ? 'end its parent'
        : `end it (kill ${pid}), or restore in another pid namespace (unshare --pid --fork --mount-proc)`,
    })
  }
}

function isZombie(pid: number): boolean {
  return liveProcess(pid)?.state === 'Z'
}

/**
 * criu's exit code is no proof of life: a process with wrong registers dies on its first instruction.
 * Returns remarks for the user.
 */
async function proveAlive(child: RestoredChild, name: string): Promise<string[]> {
  const { pid } = child
  await sleep(50)
  const end = child.tryWait()
  if (end === undefined) {
    if (liveProcess(pid) !== undefined) return []
    throw new PeerError(`process ${pid} (${name}) was restored, and is gone`)
  }
  if (end.signal !== undefined)
    throw new PeerError(
      `process ${pid} (${name}) was restored, and died of ${signalName(end.signal)} at once`,
      {
        hint: 'the image does not fit this machine: another vDSO, other registers, or changed files',
      },
    )
  return [`it has ended already, with exit code ${end.code}`]
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

function workFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'imago-criu-'))
}

function bytesOnDisk(directory: string): number {
  return fs
    .readdirSync(directory)
    .reduce((sum, name) => sum + fs.lstatSync(path.join(directory, name)).blocks * 512, 0)
}
