/**
 * Open files: files.img (or, before CRIU 3.0, a file a kind) → descriptions. `kinds` has a line a kind: the field of
 * `file_entry` that holds its record, the image of old dumps, and what a person wants to read of it.
 */
import { hex } from '../../lib/bytes.js'
import type { Message, MessageOf, MessageType } from '../../lib/protobuf-schema.js'
import type { FileDescription } from '../../model/process.js'
import type { CriuDirectory } from './directory.js'
import { ipAddressText, valueToJson } from './json-values.js'
import { fd_types, TtyType } from './schema/enums.js'
import * as schema from './schema/files.js'
import * as sockets from './schema/sockets.js'

type FileEntry = MessageOf<typeof schema.file_entry>
type Kind = FileDescription['kind']

const S_IFMT = 0o170000
const kindOfMode: ReadonlyMap<number, Kind> = new Map([
  [0o100000, 'regular'],
  [0o040000, 'directory'],
  [0o010000, 'fifo'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
])

/** The open files of a directory, by the id that descriptors name them with. */
export class CriuFiles {
  readonly #directory: CriuDirectory
  readonly #entries: ReadonlyMap<number, FileEntry>
  readonly #deleted: ReadonlySet<number>

  constructor(directory: CriuDirectory) {
    this.#directory = directory
    const entries = directory.messages('files.img', schema.file_entry)
    this.#entries = new Map([...entries, ...oldEntries(directory)].map(entry => [entry.id, entry]))
    this.#deleted = new Set(
      directory.messages('remap-fpath.img', schema.remap_file_path_entry).map(remap => remap.orig_id),
    )
  }

  get entries(): Iterable<MessageOf<typeof schema.file_entry>> {
    return this.#entries.values()
  }

  /** The record of an open file. */
  entry(id: number): MessageOf<typeof schema.file_entry> | undefined {
    return this.#entries.get(id)
  }

  /** Where a regular file was, for mappings, executables and working folders. */
  path(id: number): { path: string; deleted: boolean } | undefined {
    const entry = this.#entries.get(id)
    if (entry?.memfd !== undefined)
      return { path: `/memfd:${this.memfd(entry.memfd.inode_id)?.name ?? ''}`, deleted: true }
    return entry?.reg && { path: entry.reg.name, deleted: this.#deleted.has(id) }
  }

  /** The shared object that holds the pages of a memfd file. */
  memfdShmid(id: number): bigint | undefined {
    const memfd = this.#entries.get(id)?.memfd
    const inode = memfd && this.memfd(memfd.inode_id)
    return inode && BigInt(inode.shmid)
  }

  /** What `id` is; a file that the image does not describe is 'other'. */
  describe(id: number): FileDescription {
    const entry = this.#entries.get(id)
    const type = entry && kinds.find(kind => entry[kind.field] !== undefined)
    if (entry === undefined || type === undefined)
      return { kind: 'other', path: undefined, flags: 0, offset: 0n, deleted: false, details: {} }
    const record = entry[type.field] as Message
    return {
      kind: type.kind,
      path: undefined,
      flags: (record.flags as number | undefined) ?? 0,
      offset: (record.pos as bigint | undefined) ?? 0n,
      deleted: this.#deleted.has(id),
      details: {},
      ...type.describe(record as never, this),
    }
  }

  /** The file behind a memfd descriptor. */
  memfd(inodeId: number): MessageOf<typeof schema.memfd_inode_entry> | undefined {
    return this.#directory
      .messages('memfd.img', schema.memfd_inode_entry)
      .find(inode => Number(inode.inode_id) === inodeId)
  }

  terminal(id: number): MessageOf<typeof schema.tty_info_entry> | undefined {
    return this.#directory.messages('tty-info.img', schema.tty_info_entry).find(info => info.id === id)
  }
}

interface FileKind {
  readonly kind: Kind
  /** Field of `file_entry`. */
  readonly field: Exclude<Extract<keyof FileEntry, string>, 'type' | 'id'>
  /** `fd_types` name. */
  readonly type: string
  /** The image and message of dumps before CRIU 3.0. */
  readonly old?: readonly [name: string, message: MessageType]
  describe(record: never, files: CriuFiles): Partial<FileDescription>
}

function kind<Name extends FileKind['field']>(
  field: Name,
  type: string,
  kindName: Kind,
  old: FileKind['old'] | undefined,
  describe: (record: NonNullable<FileEntry[Name]>, files: CriuFiles) => Partial<FileDescription>,
): FileKind {
  return { field, type, kind: kindName, ...(old && { old }), describe: describe as FileKind['describe'] }
}

const seconds = (whole: bigint, nanoseconds: bigint) => `${Number(whole) + Number(nanoseconds) / 1e9} s`

/** The details that there are. */
function known(details: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(details).filter((each): each is [string, string] => each[1] !== undefined),
  )
}

/** A field's word: `STREAM`, `LISTEN`. */
function word(message: MessageType, name: string, value: number): string {
  return String(valueToJson(message.ordered.find(field => field.name === name)!, value, true, false))
}

const kinds: readonly FileKind[] = [
  kind('reg', 'REG', 'regular', ['reg-files.img', schema.reg_file_entry], reg => ({
    kind: kindOfMode.get((reg.mode ?? 0o100000) & S_IFMT) ?? 'other',
    path: reg.name,
    ...(reg.size !== undefined && { size: reg.size }),
    ...(reg.mode !== undefined && { mode: reg.mode }),
    details: known({ external: reg.ext ? 'yes' : undefined }),
  })),
  kind('pipe', 'PIPE', 'pipe', ['pipes.img', schema.pipe_entry], pipe => ({
    path: `pipe:[${pipe.pipe_id}]`,
  })),
  kind('fifo', 'FIFO', 'fifo', ['fifo.img', schema.fifo_entry], (fifo, files) => {
    const file = fifo.regf_id === undefined ? undefined : files.describe(fifo.regf_id)
    return { path: file?.path, flags: file?.flags ?? 0, details: { pipe: String(fifo.pipe_id) } }
  }),
  kind('isk', 'INETSK', 'inet-socket', ['inetsk.img', sockets.inet_sk_entry], socket => {
    const at = (address: readonly number[], port: number) => {
      const text = ipAddressText(address) ?? '?'
      return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`
    }
    const protocol = word(sockets.inet_sk_entry, 'proto', socket.proto)
    const state = word(sockets.inet_sk_entry, 'state', socket.state)
    const local = at(socket.src_addr, socket.src_port)
    const peer = socket.dst_port === 0 ? undefined : at(socket.dst_addr, socket.dst_port)
    return { path: `socket:[${socket.ino}]`, details: known({ protocol, state, local, peer }) }
  }),
  kind('usk', 'UNIXSK', 'unix-socket', ['unixsk.img', sockets.unix_sk_entry], socket => {
    const name = Buffer.from(socket.name).toString('utf8').replace(/^\0/, '@').replace(/\0+$/, '')
    return {
      path: `socket:[${socket.ino}]`,
      flags: socket.flags,
      details: known({
        type: word(sockets.unix_sk_entry, 'type', socket.type),
        state: word(sockets.unix_sk_entry, 'state', socket.state),
        name: name === '' ? undefined : name,
        peer: socket.peer === 0 ? undefined : `socket:[${socket.peer}]`,
      }),
    }
  }),
  kind('nlsk', 'NETLINKSK', 'netlink-socket', ['netlinksk.img', sockets.netlink_sk_entry], socket => ({
    path: `socket:[${socket.ino}]`,
    details: { protocol: String(socket.protocol), port: String(socket.portid) },
  })),
  kind('psk', 'PACKETSK', 'other', ['packetsk.img', sockets.packet_sock_entry], socket => ({
    path: 'packet socket',
    details: { protocol: hex(socket.protocol), interface: String(socket.ifindex) },
  })),
  kind('efd', 'EVENTFD', 'eventfd', ['eventfd.img', schema.eventfd_file_entry], event => ({
    details: { counter: String(event.counter) },
  })),
  kind('epfd', 'EVENTPOLL', 'epoll', ['eventpoll.img', schema.eventpoll_file_entry], epoll => ({
    details: {
      watches: epoll.tfd.map(target => `fd ${target.tfd} (events ${hex(target.events)})`).join(', '),
    },
  })),
  kind('tfd', 'TIMERFD', 'timerfd', ['timerfd.img', schema.timerfd_entry], timer => ({
    details: {
      clock: String(timer.clockid),
      remaining: seconds(timer.vsec, timer.vnsec),
      interval: seconds(timer.isec, timer.insec),
      ticks: String(timer.ticks),
    },
  })),
  kind('sgfd', 'SIGNALFD', 'signalfd', ['signalfd.img', schema.signalfd_entry], signal => ({
    details: { mask: hex(signal.sigmask) },
  })),
  kind('ify', 'INOTIFY', 'inotify', ['inotify.img', schema.inotify_file_entry], inotify => ({
    details: {
      watches: inotify.wd
        .map(watch => `${watch.f_handle.path ?? `inode ${watch.i_ino}`} (mask ${hex(watch.mask)})`)
        .join(', '),
    },
  })),
  kind('ffy', 'FANOTIFY', 'fanotify', ['fanotify.img', schema.fanotify_file_entry], fanotify => ({
    details: { marks: String(fanotify.mark.length) },
  })),
  kind('tty', 'TTY', 'terminal', ['tty.img', schema.tty_file_entry], (tty, files) => {
    const file = tty.regf_id === undefined ? undefined : files.describe(tty.regf_id)
    const info = files.terminal(tty.tty_info_id)
    return {
      path: file?.path,
      details: known({
        type: info && (TtyType.names.get(info.type) ?? `${info.type}`),
        index: info?.pty && `${info.pty.index}`,
        size: info?.winsize && `${info.winsize.ws_col}×${info.winsize.ws_row}`,
      }),
    }
  }),
  kind('memfd', 'MEMFD', 'memfd', undefined, (memfd, files) => {
    const inode = files.memfd(memfd.inode_id)
    return {
      path: `/memfd:${inode?.name ?? ''}`,
      ...(inode && { size: inode.size }),
      details: known({ seals: inode && word(schema.memfd_inode_entry, 'seals', inode.seals) }),
    }
  }),
  kind('pidfd', 'PIDFD', 'pidfd', undefined, pidfd => ({ details: { pid: String(pidfd.nspid) } })),
  kind('nsf', 'NS', 'namespace', ['ns-files.img', schema.ns_file_entry], namespace => ({
    details: { id: String(namespace.ns_id) },
  })),
  kind('tunf', 'TUNF', 'other', ['tunfile.img', schema.tunfile_entry], tun => ({
    path: '/dev/net/tun',
    details: known({ device: tun.netdev }),
  })),
  kind('bpf', 'BPFMAP', 'other', undefined, map => ({
    path: `bpf map ${map.map_name}`,
    details: { entries: String(map.max_entries) },
  })),
  kind('ext', 'EXT', 'other', ['ext-files.img', schema.ext_file_entry], () => ({ path: 'external file' })),
]

/** The files of a dump that has an image for each kind. */
function oldEntries(directory: CriuDirectory): FileEntry[] {
  return kinds.flatMap(({ old, field, type }) =>
    old === undefined
      ? []
      : directory.messages(old[0], old[1]).map(record => {
          const message = record as Message
          return {
            type: fd_types.numbers.get(type)!,
            id: message.id as number,
            [field]: message,
          } as FileEntry
        }),
  )
}
