/**
 * Looks into an image directory as `crit x DIR ps|fds|mems|rss` does, line for line; and `sk`, its sockets.
 * These are listings of records; `imago inspect` is the view for people.
 */
import type { MessageOf } from '../../lib/protobuf-schema.js'
import { encodeQuotedPrintable } from '../../lib/quoted-printable.js'
import type { CriuDirectory } from './directory.js'
import { PageMapCursor } from './page-map.js'
import { CriuFiles } from './read-files.js'
import { VmaStatus } from './schema/display.js'
import { fd_types } from './schema/enums.js'
import { fdinfo_entry, fs_entry } from './schema/files.js'
import { mm_entry } from './schema/memory.js'
import { core_entry, pstree_entry, task_kobj_ids_entry } from './schema/tasks.js'

export type Exploration = 'ps' | 'fds' | 'mems' | 'rss' | 'sk'

/** The lines of one listing. @throws UnreadableError */
export function explore(directory: CriuDirectory, what: Exploration): Generator<string> {
  return { ps, fds, mems, rss, sk }[what](directory)
}

const right = (value: number | string, width: number) => String(value).padStart(width)
const left = (value: number | string, width: number) => String(value).padEnd(width)
const hex8 = (value: bigint) => value.toString(16).padStart(8, '0')

function* ps(directory: CriuDirectory): Generator<string> {
  const tree = directory.someMessages('pstree.img', pstree_entry)
  const children = new Map<number, MessageOf<typeof pstree_entry>[]>()
  for (const entry of tree) children.set(entry.ppid, [...(children.get(entry.ppid) ?? []), entry])
  yield `${right('PID', 7)}${right('PGID', 7)}${right('SID', 7)}   COMM`
  // A stack instead of recursion: trees of untrusted images may be deep, and a pid its own parent.
  const shown = new Set<number>()
  const todo = (children.get(0) ?? []).map(entry => ({ entry, depth: 0 })).reverse()
  while (todo.length > 0) {
    const { entry, depth } = todo.pop()!
    if (shown.has(entry.pid)) continue
    shown.add(entry.pid)
    const name = directory.message(`core-${entry.pid}.img`, core_entry).tc?.comm ?? ''
    yield `${right(entry.pid, 7)}${right(entry.pgid, 7)}${right(entry.sid, 7)}   ${' '.repeat(4 * depth)}${name}`
    const below = children.get(entry.pid) ?? []
    for (const child of [...below].reverse()) todo.push({ entry: child, depth: depth + 1 })
  }
}

/** A file as one word: its path, `pipe[ID]`, `unix[INODE (PEER) NAME]`, or KIND.ID. */
function fileText(files: CriuFiles, type: string, id: number): string {
  const entry = files.entry(id)
  switch (type) {
    case 'REG':
      return entry?.reg?.name || 'unknown path'
    case 'PIPE':
      return entry?.pipe === undefined ? 'pipe[?]' : `pipe[${entry.pipe.pipe_id}]`
    case 'UNIXSK': {
      const socket = entry?.usk
      if (socket === undefined) return 'unix[?]'
      const name = socket.name.length === 0 ? '' : ` ${encodeQuotedPrintable(socket.name)}`
      return `unix[${socket.ino} (${socket.peer})${name}]`
    }
    default:
      return `${type}.${id}`
  }
}

/** Processes that are more than a zombie's entry. */
function* livingPids(directory: CriuDirectory): Generator<number> {
  for (const { pid } of directory.someMessages('pstree.img', pstree_entry))
    if (directory.has(`mm-${pid}.img`)) yield pid
}

function descriptorsOf(directory: CriuDirectory, pid: number) {
  const { files_id } = directory.message(`ids-${pid}.img`, task_kobj_ids_entry)
  return directory.messages(`fdinfo-${files_id}.img`, fdinfo_entry)
}

const typeName = (type: number) => fd_types.names.get(type) ?? String(type)

function* fds(directory: CriuDirectory): Generator<string> {
  const files = new CriuFiles(directory)
  for (const pid of livingPids(directory)) {
    yield String(pid)
    for (const info of descriptorsOf(directory, pid))
      yield `\t${right(info.fd, 7)}: ${fileText(files, typeName(info.type), info.id)}`
    const fs = directory.message(`fs-${pid}.img`, fs_entry)
    yield `\t${right('cwd', 7)}: ${fileText(files, 'REG', fs.cwd_id)}`
    yield `\t${right('root', 7)}: ${fileText(files, 'REG', fs.root_id)}`
  }
}

function* mems(directory: CriuDirectory): Generator<string> {
  const files = new CriuFiles(directory)
  const numbers = new Map<bigint, number>()
  const numberOf = (shmid: bigint) => {
    if (!numbers.has(shmid)) numbers.set(shmid, numbers.size + 1)
    return numbers.get(shmid)!.toString(16)
  }
  for (const pid of livingPids(directory)) {
    const mm = directory.message(`mm-${pid}.img`, mm_entry)
    yield String(pid)
    yield `\t${left('exe', 36)}    ${fileText(files, 'REG', mm.exe_file_id)}`
    for (const vma of mm.vmas) {
      const is = (status: number) => (vma.status & status) !== 0
      let text = ''
      if (is(VmaStatus.VMA_AREA_SYSVIPC)) text = ` ips[${numberOf(vma.shmid)}]`
      else if (is(VmaStatus.VMA_ANON_SHARED)) text = ` shmem[${numberOf(vma.shmid)}]`
      else if (is(VmaStatus.VMA_AREA_SOCKET)) text = ` packet[${numberOf(vma.shmid)}]`
      else if (is(VmaStatus.VMA_FILE_PRIVATE | VmaStatus.VMA_FILE_SHARED)) {
        text = ` ${fileText(files, 'REG', Number(vma.shmid))}`
        if (vma.pgoff !== 0n) text += ` + 0x${vma.pgoff.toString(16)}`
        if (is(VmaStatus.VMA_FILE_SHARED)) text += ' (s)'
      } else if (is(VmaStatus.VMA_AREA_STACK)) text = ' [stack]'
      else if (is(VmaStatus.VMA_AREA_VSYSCALL)) text = ' [vsyscall]'
      else if (is(VmaStatus.VMA_AREA_VDSO)) text = ' [vdso]'
      else if (vma.flags & 0x100) text = ' [stack?]'
      if (!is(VmaStatus.VMA_AREA_REGULAR)) text += ' *'
      const rights = `${vma.prot & 1 ? 'r' : '-'}${vma.prot & 2 ? 'w' : '-'}${vma.prot & 4 ? 'x' : '-'}`
      yield `\t${left(`${hex8(vma.start)}-${hex8(vma.end)}`, 36)}${rights}${text}`
    }
  }
}

function* rss(directory: CriuDirectory): Generator<string> {
  const files = new CriuFiles(directory)
  for (const pid of livingPids(directory)) {
    const { vmas } = directory.message(`mm-${pid}.img`, mm_entry)
    yield String(pid)
    const name = `pagemap-${pid}.img`
    if (!directory.has(name)) continue
    const cursor = new PageMapCursor(directory.bytes(name), name)
    let at = 0
    let last = -1
    while (cursor.next()) {
      const start = cursor.address
      const end = start + BigInt(cursor.pages) * 4096n
      const range = `\t${start.toString(16)} / ${left(cursor.pages, 8)}`
      while (at < vmas.length && vmas[at]!.end <= start) at++
      let text = ''
      while (at < vmas.length && vmas[at]!.start < end) {
        const vma = vmas[at]!
        if (at === last) text += ' ~'
        else {
          text += ` ${hex8(vma.start)} / ${left(String((vma.end - vma.start) >> 12n), 8)}`
          if (vma.status & (VmaStatus.VMA_FILE_PRIVATE | VmaStatus.VMA_FILE_SHARED))
            text += ` ${fileText(files, 'REG', Number(vma.shmid))}`
          last = at
        }
        text += `\n\t${' '.repeat(23)}`
        at++
      }
      at = Math.max(at - 1, 0)
      yield `${left(range, 24)}${text}`
    }
  }
}

/** Sockets of each process: descriptor, kind, and where it leads. */
function* sk(directory: CriuDirectory): Generator<string> {
  const files = new CriuFiles(directory)
  for (const pid of livingPids(directory)) {
    yield String(pid)
    for (const info of descriptorsOf(directory, pid)) {
      const socket = files.describe(info.id)
      if (!socket.kind.endsWith('-socket')) continue
      const { protocol, type, state, local, name, peer } = socket.details
      const words = [protocol ?? type, state, local ?? name, peer && `→ ${peer}`].filter(Boolean)
      yield `\t${right(info.fd, 7)}: ${left(typeName(info.type), 10)} ${words.join(' ')}`
    }
  }
}
