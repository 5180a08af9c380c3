/**
 * The kinds of CRIU image file: magic, file names, the message of its entries, what raw data follows each entry.
 * This one table serves reading, writing, JSON and the list in docs/formats/criu.md.
 *
 * Names are those of CRIU's own tool. Files that hold no records have no kind: memory (`pages-<id>`), tarballs
 * (`tmpfs-<id>.tar.gz`, `tmpfs-dev-<id>.tar.gz`), and what ip, iptables and nft wrote (`ifaddr-`, `route-`, `route6-`,
 * `rule-`, `iptables-`, `ip6tables-`, `nftables-`, `netns-ct-`, `netns-exp-<id>`).
 */
import type { MessageType } from '../../lib/protobuf-schema.js'
import type { ExtraKind } from './extra.js'
import {
  bpfmap_data_entry,
  bpfmap_file_entry,
  eventfd_file_entry,
  eventpoll_file_entry,
  eventpoll_tfd_entry,
  ext_file_entry,
  fanotify_file_entry,
  fanotify_mark_entry,
  fdinfo_entry,
  fifo_entry,
  file_entry,
  file_lock_entry,
  fs_entry,
  ghost_file_entry,
  inotify_file_entry,
  inotify_wd_entry,
  memfd_inode_entry,
  ns_file_entry,
  pidfd_entry,
  pipe_data_entry,
  pipe_entry,
  reg_file_entry,
  remap_file_path_entry,
  signalfd_entry,
  timerfd_entry,
  tty_data_entry,
  tty_file_entry,
  tty_info_entry,
  tunfile_entry,
} from './schema/files.js'
import { cpuinfo_entry, inventory_entry, irmap_cache_entry, stats_entry } from './schema/inventory.js'
import { mm_entry, pagemap_entry, pagemap_head, vma_entry } from './schema/memory.js'
import {
  apparmor_entry,
  autofs_entry,
  binfmt_misc_entry,
  cgroup_entry,
  ipc_msg_entry,
  ipc_sem_entry,
  ipc_shm_entry,
  ipc_var_entry,
  mnt_entry,
  net_device_entry,
  netns_entry,
  pidns_entry,
  timens_entry,
  userns_entry,
  utsns_entry,
} from './schema/namespaces.js'
import {
  inet_sk_entry,
  netlink_sk_entry,
  packet_sock_entry,
  sk_packet_entry,
  tcp_stream_entry,
  unix_sk_entry,
} from './schema/sockets.js'
import {
  core_entry,
  creds_entry,
  itimer_entry,
  posix_timer_entry,
  pstree_entry,
  rlimit_entry,
  sa_entry,
  seccomp_entry,
  siginfo_entry,
  task_kobj_ids_entry,
} from './schema/tasks.js'

/** How a file begins: the common or the service magic before its own, or (inventory, and all files of CRIU 1.0) its own alone. */
export type Framing = 'common' | 'service' | 'bare'

export const framingMagic = { common: 0x54564319, service: 0x55105940 } as const

export interface ImageKind {
  readonly name: string
  readonly magic: number
  /** File names without `.img`; `<id>` is a number. */
  readonly files: readonly string[]
  readonly entry: MessageType
  /** The message of the first entry, where it differs. */
  readonly head?: MessageType
  /** What raw data follows an entry. */
  readonly extra?: ExtraKind
  readonly framing: Framing
}

function kind(
  name: string,
  magic: number,
  files: readonly string[],
  entry: MessageType,
  options: Partial<Pick<ImageKind, 'head' | 'extra' | 'framing'>> = {},
): ImageKind {
  return { name, magic, files, entry, framing: 'common', ...options }
}

export const imageKinds: readonly ImageKind[] = [
  kind('INVENTORY', 0x58313116, ['inventory'], inventory_entry, { framing: 'bare' }),
  kind('PSTREE', 0x50273030, ['pstree'], pstree_entry),
  kind('FDINFO', 0x56213732, ['fdinfo-<id>'], fdinfo_entry),
  kind('PAGEMAP', 0x56084025, ['pagemap-<id>', 'pagemap-shmem-<id>'], pagemap_entry, { head: pagemap_head }),
  kind('CORE', 0x55053847, ['core-<id>'], core_entry),
  kind('IDS', 0x54432030, ['ids-<id>'], task_kobj_ids_entry),
  kind('VMAS', 0x54123737, ['vmas-<id>'], vma_entry),
  kind('PIPES', 0x56513555, ['pipes'], pipe_entry),
  kind('PIPES_DATA', 0x56453709, ['pipes-data'], pipe_data_entry, { extra: 'pipeData' }),
  kind('FIFO', 0x58364939, ['fifo'], fifo_entry),
  kind('FIFO_DATA', 0x59333054, ['fifo-data'], pipe_data_entry, { extra: 'pipeData' }),
  kind('SIGACT', 0x55344201, ['sigacts-<id>'], sa_entry),
  kind('UNIXSK', 0x54373943, ['unixsk'], unix_sk_entry),
  kind('INETSK', 0x56443851, ['inetsk'], inet_sk_entry),
  kind('PACKETSK', 0x60454618, ['packetsk'], packet_sock_entry),
  kind('ITIMERS', 0x57464056, ['itimers-<id>'], itimer_entry),
  kind('POSIX_TIMERS', 0x52603957, ['posix-timers-<id>'], posix_timer_entry),
  kind('SK_QUEUES', 0x56264026, ['sk-queues'], sk_packet_entry, { extra: 'socketPacket' }),
  kind('UTSNS', 0x54473203, ['utsns-<id>'], utsns_entry),
  kind('CREDS', 0x54023547, ['creds-<id>'], creds_entry),
  kind('IPC_VAR', 0x53115007, ['ipcns-var-<id>'], ipc_var_entry),
  kind('IPCNS_SHM', 0x46283044, ['ipcns-shm-<id>'], ipc_shm_entry, { extra: 'sharedMemory' }),
  kind('IPCNS_MSG', 0x55453737, ['ipcns-msg-<id>'], ipc_msg_entry, { extra: 'messageQueue' }),
  kind('IPCNS_SEM', 0x59573019, ['ipcns-sem-<id>'], ipc_sem_entry, { extra: 'semaphores' }),
  kind('REG_FILES', 0x50363636, ['reg-files'], reg_file_entry),
  kind('EXT_FILES', 0x59255641, ['ext-files'], ext_file_entry),
  kind('FS', 0x51403912, ['fs-<id>'], fs_entry),
  kind('MM', 0x57492820, ['mm-<id>'], mm_entry),
  kind('REMAP_FPATH', 0x59133954, ['remap-fpath'], remap_file_path_entry),
  kind('GHOST_FILE', 0x52583605, ['ghost-file-<hex id>'], ghost_file_entry, { extra: 'ghostFile' }),
  kind('TCP_STREAM', 0x51465506, ['tcp-stream-<hex id>'], tcp_stream_entry, { extra: 'tcpStream' }),
  kind('EVENTFD_FILE', 0x44523722, ['eventfd'], eventfd_file_entry),
  kind('EVENTPOLL_FILE', 0x45023858, ['eventpoll'], eventpoll_file_entry),
  kind('EVENTPOLL_TFD', 0x44433746, ['eventpoll-tfd'], eventpoll_tfd_entry),
  kind('SIGNALFD', 0x57323820, ['signalfd'], signalfd_entry),
  kind('INOTIFY_FILE', 0x48424431, ['inotify'], inotify_file_entry),
  kind('INOTIFY_WD', 0x54562009, ['inotify-wd'], inotify_wd_entry),
  kind('MNTS', 0x55563928, ['mountpoints-<id>'], mnt_entry),
  kind('NETDEV', 0x57373951, ['netdev-<id>'], net_device_entry),
  kind('NETNS', 0x55933752, ['netns-<id>'], netns_entry),
  kind('TTY_FILES', 0x59433025, ['tty'], tty_file_entry),
  kind('TTY_INFO', 0x59453036, ['tty-info'], tty_info_entry),
  kind('TTY_DATA', 0x59413026, ['tty-data'], tty_data_entry),
  kind('FILE_LOCKS', 0x54323616, ['filelocks'], file_lock_entry),
  kind('RLIMIT', 0x57113925, ['rlimit-<id>'], rlimit_entry),
  kind('FANOTIFY_FILE', 0x55096122, ['fanotify'], fanotify_file_entry),
  kind('FANOTIFY_MARK', 0x56506035, ['fanotify-mark'], fanotify_mark_entry),
  kind('NETLINK_SK', 0x58005614, ['netlinksk'], netlink_sk_entry),
  kind('NS_FILES', 0x61394011, ['ns-files'], ns_file_entry),
  kind('TUNFILE', 0x57143751, ['tunfile'], tunfile_entry),
  kind('CGROUP', 0x59383330, ['cgroup'], cgroup_entry),
  kind('TIMERFD', 0x50493712, ['timerfd'], timerfd_entry),
  kind('CPUINFO', 0x61404013, ['cpuinfo'], cpuinfo_entry),
  kind('USERNS', 0x55474906, ['userns-<id>'], userns_entry),
  kind('SECCOMP', 0x64413049, ['seccomp'], seccomp_entry),
  kind('AUTOFS', 0x49353943, ['autofs-<id>'], autofs_entry),
  kind('FILES', 0x56303138, ['files'], file_entry),
  kind('MEMFD_INODE', 0x48453499, ['memfd'], memfd_inode_entry),
  kind('TIMENS', 0x43114433, ['timens-<id>'], timens_entry),
  kind('PIDNS', 0x61157326, ['pidns-<id>'], pidns_entry),
  kind('BPFMAP_FILE', 0x57506142, ['bpfmap-file'], bpfmap_file_entry),
  kind('BPFMAP_DATA', 0x64324033, ['bpfmap-data'], bpfmap_data_entry, { extra: 'bpfMap' }),
  kind('APPARMOR', 0x59423047, ['apparmor'], apparmor_entry),
  kind('PIDFD', 0x54435556, ['pidfd'], pidfd_entry),
  kind('SIGNAL', 0x59255647, ['signal-s-<id>', 'signal-p-<id>'], siginfo_entry),
  kind('BINFMT_MISC', 0x67343323, ['binfmt-misc', 'binfmt-misc-<id>'], binfmt_misc_entry),
  kind('STATS', 0x57093306, ['stats-dump', 'stats-restore'], stats_entry, { framing: 'service' }),
  kind('IRMAP_CACHE', 0x57004059, ['irmap-cache'], irmap_cache_entry, { framing: 'service' }),
]

export const kindByMagic: ReadonlyMap<number, ImageKind> = new Map(imageKinds.map(each => [each.magic, each]))
export const kindByName: ReadonlyMap<string, ImageKind> = new Map(imageKinds.map(each => [each.name, each]))
