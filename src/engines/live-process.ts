/** What /proc says of live processes: enough for engines to find, watch and end a tree. Source: proc(5). */
import fs from 'node:fs'
import { PAGE_SIZE } from '../model/memory.js'

export interface LiveProcess {
  /** R running, S and D sleeping, T stopped, t traced, Z zombie, X dead. */
  readonly state: string
  readonly name: string
  /** Its pid as it sees it: another one in a pid namespace of its own. */
  readonly innerPid: number
  /** Pid of the debugger, 0 for none. */
  readonly tracer: number
  /** Signals that it has a handler for, bit n-1 for number n. */
  readonly caught: bigint
}

/** Undefined when no process or thread has this id. */
export function liveProcess(pid: number): LiveProcess | undefined {
  const status = readText(`/proc/${pid}/status`)
  if (status === undefined) return undefined
  const field = (name: string) => new RegExp(`^${name}:\\t(.*)$`, 'm').exec(status)?.[1] ?? ''
  return {
    state: field('State')[0] ?? '?',
    name: field('Name'),
    innerPid: Number(field('NSpid').split(/\s+/).at(-1) || pid),
    tracer: Number(field('TracerPid')),
    caught: BigInt(`0x${field('SigCgt') || 0}`),
  }
}

/** As wait(2) has it, of a process that has ended, but that nobody has waited for. */
export function zombieStatus(pid: number): number | undefined {
  const fields = readText(`/proc/${pid}/stat`)
    ?.trim()
    .replace(/^.*\) /s, '')
    .split(' ')
  return fields?.[0] === 'Z' ? Number(fields.at(-1)) : undefined
}

/** Ids of all processes that this one sees. */
export function allProcesses(): number[] {
  return fs
    .readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
}

/** The process and all its descendants, parents first. */
export function processTree(root: number): number[] {
  const tree = [root]
  for (const pid of tree)
    for (const thread of threadsOf(pid))
      for (const child of (readText(`/proc/${pid}/task/${thread}/children`) ?? '').split(' '))
        if (child !== '') tree.push(Number(child))
  return tree
}

/** Whether it has sockets of TCP that neither listen (0A) nor are closed (07). Source: proc(5), /proc/PID/net/tcp. */
export function hasTcpConnections(pid: number): boolean {
  const sockets = new Set(
    descriptorTargets(pid).flatMap(target => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []),
  )
  if (sockets.size === 0) return false
  return ['tcp', 'tcp6'].some(table =>
    (readText(`/proc/${pid}/net/${table}`) ?? '').split('\n').some(line => {
      const [, , , state, , , , , , inode] = line.trim().split(/\s+/)
      return inode !== undefined && sockets.has(inode) && state !== '0A' && state !== '07'
    }),
  )
}

/** What its descriptors lead to, as /proc names it. */
function descriptorTargets(pid: number): string[] {
  const folder = `/proc/${pid}/fd`
  try {
    return fs.readdirSync(folder).flatMap(name => {
      try {
        return [fs.readlinkSync(`${folder}/${name}`)]
      } catch {
        return [] // closed meanwhile
      }
    })
  } catch {
    return []
  }
}

/**
 * Processes whose group or session has one of these ids: as long as there is one, a zombie even, no new process can
 * get the id, although /proc does not show it.
 */
export function membersOfGroups(ids: ReadonlySet<number>): Array<{ pid: number; group: number }> {
  const found: Array<{ pid: number; group: number }> = []
  for (const pid of allProcesses()) {
    // After the name in parentheses: state, parent, group, session.
    const fields =
      readText(`/proc/${pid}/stat`)
        ?.replace(/^.*\) /s, '')
        .split(' ') ?? []
    const group = [Number(fields[2]), Number(fields[3])].find(id => ids.has(id))
    if (group !== undefined) found.push({ pid, group })
  }
  return found
}

/** Thread ids of a process; none when it is gone. */
function threadsOf(pid: number): number[] {
  try {
    return fs.readdirSync(`/proc/${pid}/task`).map(Number)
  } catch {
    return []
  }
}

/** Pages of a process that are its own: neither shared nor as its files have them. */
export function anonymousPages(pid: number): number {
  const rollup = readText(`/proc/${pid}/smaps_rollup`) ?? ''
  return (Number(/^Anonymous: +(\d+) kB$/m.exec(rollup)?.[1] ?? 0) * 1024) / PAGE_SIZE
}

/** Pages of a process that are in memory. */
export function residentPages(pid: number): number {
  return Number(readText(`/proc/${pid}/statm`)?.split(' ')[1] ?? 0)
}

function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** Capabilities that this host can give a program, bit n for CAP number n; undefined when it is not of that ISA. */
export function capabilitiesOfHost(isa: 'x86-64' | 'aarch64'): bigint | undefined {
  if (process.arch !== (isa === 'x86-64' ? 'x64' : 'arm64')) return undefined
  const line = /^CapBnd:\s*([0-9a-f]+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))
  return line === null ? undefined : BigInt(`0x${line[1]}`)
}
