/** Restore by criu: are the ids free? ─► criu restore ─► is it alive? */
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readCriu } from '../../formats/criu/read.js'
import { signalName } from '../../isa/linux.js'
import { HostError, PeerError, UsageError } from '../../lib/errors.js'
import { PAGE_SIZE } from '../../model/memory.js'
import type { ProcessImage } from '../../model/process.js'
import type { RestoredProcess, RestoreOptions } from '../engine.js'
import { liveProcess, membersOfGroups, residentPages } from '../live-process.js'
import { releaseIfParked } from '../migration-point.js'
import { RestoredChild } from './child.js'
import { explain } from './failures.js'
import { allowances, requireProgram, runCriu, workFolder } from './program.js'

/** Wakes a tree up by criu. @throws ImagoError */
export async function restore(image: string, options: RestoreOptions): Promise<RestoredProcess> {
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
