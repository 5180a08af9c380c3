/** The program that a checkpoint is asked of: able to answer. Source: proc(5). */
import fs from 'node:fs'
import { ElfFile } from '../../lib/elf.js'
import { HostError, UsageError } from '../../lib/errors.js'
import { runtimeSymbols } from '../../toolchain/program.js'

export interface Target {
  readonly pid: number
  /** Its pid as it sees it: another one in a pid namespace of its own. */
  readonly innerPid: number
  readonly uid: number
  readonly gid: number
  /** Number of the signal that asks for a checkpoint. */
  readonly signal: number
  /** Compiled by imago cc: it freezes itself at migration points only. */
  readonly atMigrationPoints: boolean
  /** What to put before its paths to reach them from here: nothing, when it sees the same files. */
  readonly root: string
}

const SIGUSR2 = 12
/** The checkpointer takes this one, too, when no other was chosen: some programs take SIGUSR2 for themselves (native/preload/library.c). */
const REQUEST_SIGNAL = 64

function rootOf(pid: number): string {
  const same = (link: string) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/${link}`) === fs.readlinkSync(`/proc/self/${link}`)
    } catch {
      return false
    }
  }
  return same('ns/mnt') && same('root') ? '' : `/proc/${pid}/root`
}

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

/** Whether the checkpointer is inside: as libckpt.so, or linked in by imago cc. */
export function carriesCheckpointer(pid: number): boolean {
  const maps = read(`/proc/${pid}/maps`)
  return (
    /\/libckpt\.so(?: \(deleted\))?$/m.test(maps) ||
    hasLibraryFromImage(pid, maps) ||
    isProgramOfCc(pid, maps)
  )
}

const ELF_CORE = 4

/**
 * Restored when libckpt.so was another one already, its code comes from the image: mapped under the name of that (which may have another by now), or
 * read eagerly, under none.
 */
function hasLibraryFromImage(pid: number, maps: string): boolean {
  if (!/(?:^|\0)LD_PRELOAD=[^\0]*libckpt\.so/.test(read(`/proc/${pid}/environ`))) return false
  return [...maps.matchAll(/^\S+ r-xp \S+ \S+ \d+ *(.*)$/gm)].some(([, name]) => {
    if (name === '' || name!.endsWith(' (deleted)')) return true
    try {
      const fd = fs.openSync(`/proc/${pid}/root${name}`, 'r')
      try {
        const head = Buffer.alloc(18)
        return fs.readSync(fd, head, 0, head.length, 0) === head.length && head.readUInt16LE(16) === ELF_CORE
      } finally {
        fs.closeSync(fd)
      }
    } catch {
      return false // [vdso] and its like
    }
  })
}

/**
 * Programs of imago cc begin at this address (src/toolchain/layout.ts); under an emulator the file is mapped there as well, while
 * /proc/PID/exe is the emulator.
 */
function isProgramOfCc(pid: number, maps: string): boolean {
  const file = /^0*400000-.* (\/.*)$/m.exec(maps)?.[1]
  if (file === undefined) return false
  try {
    const elf = ElfFile.open(`/proc/${pid}/root${file}`)
    try {
      return elf.symbols.named(runtimeSymbols.resumeBlock) !== undefined
    } finally {
      elf.close()
    }
  } catch {
    return false // another program's, or of another build by now
  }
}

/** Whether the first thread of a process is there and does not block this signal. */
export function firstThreadTakes(pid: number, signal: number): boolean {
  const status = read(`/proc/${pid}/task/${pid}/status`)
  const blocked = /^SigBlk:\s*(\w+)/m.exec(status)?.[1]
  if (blocked === undefined || /^State:\s*[ZX]/m.test(status)) return false
  return (BigInt(`0x${blocked}`) & (1n << BigInt(signal - 1))) === 0n
}

function children(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number)
}

/** @throws UsageError when there is no such process, HostError when it cannot be asked. */
export function target(pid: number): Target {
  if (!fs.existsSync(`/proc/${pid}`)) throw new UsageError(`no process has the id ${pid}`)
  if (/^State:\s*[ZX]/m.test(read(`/proc/${pid}/status`))) throw new UsageError(`process ${pid} has ended`)
  let found = pid
  // `imago run` and myrestart stand for the program that they started, where they could not become it.
  for (let depth = 0; depth < 4 && !carriesCheckpointer(found); depth++) {
    const below = children(found)
    if (below.length !== 1) break
    found = below[0]!
  }
  if (!carriesCheckpointer(found))
    throw new HostError(
      `process ${pid} has no checkpointer inside and runs no guest of a micro-VM, so it cannot freeze itself`,
      {
        hint: 'start it with imago run -- PROGRAM… (LD_PRELOAD has no effect on static and setuid programs), or freeze it from outside: --engine criu',
      },
    )
  const status = read(`/proc/${found}/status`)
  const line = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
  const variable = /(?:^|\0)IMAGO_SIGNAL=(\d+)/.exec(read(`/proc/${found}/environ`))?.[1]
  const catches = (number: number) => (BigInt(`0x${line('SigCgt') || 0}`) & (1n << BigInt(number - 1))) !== 0n
  const atMigrationPoints = isProgramOfCc(found, read(`/proc/${found}/maps`))
  // Under an emulator it is that which catches signals.
  const usual = !atMigrationPoints && catches(REQUEST_SIGNAL) ? REQUEST_SIGNAL : SIGUSR2
  const signal = variable === undefined ? usual : Number(variable)
  if (!catches(signal))
    throw new HostError(
      `process ${found} has taken signal ${signal} for itself, which would ask it for a checkpoint`,
      {
        hint: 'start it with another one: imago run --signal 42 -- PROGRAM…',
      },
    )
  if (line('State').startsWith('T') || line('State').startsWith('t'))
    throw new HostError(`process ${found} is stopped, so it cannot freeze itself`, {
      hint: `kill -CONT ${found}, or end the debugger`,
    })
  return {
    pid: found,
    innerPid: Number(line('NSpid').split(/\s+/).at(-1) || found),
    uid: Number(line('Uid').split(/\s+/)[1]),
    gid: Number(line('Gid').split(/\s+/)[1]),
    signal,
    atMigrationPoints,
    root: rootOf(found),
  }
}
