/** Enumerations of CRIU's records: the number on disk and the name in JSON. */
import { enumeration } from '../../../lib/protobuf-schema.js'

export const user_x86_regs_mode = enumeration('user_x86_regs_mode', {
  NATIVE: 1,
  COMPAT: 2,
})

export const core_entry_march = enumeration('core_entry.march', {
  UNKNOWN: 0,
  X86_64: 1,
  ARM: 2,
  AARCH64: 3,
  PPC64: 4,
  S390: 5,
  MIPS: 6,
  LOONGARCH64: 7,
  RISCV64: 8,
})

export const seccomp_mode = enumeration('seccomp_mode', {
  disabled: 0,
  strict: 1,
  filter: 2,
})

export const cpuinfo_x86_entry_vendor = enumeration('cpuinfo_x86_entry.vendor', {
  UNKNOWN: 0,
  INTEL: 1,
  AMD: 2,
})

export const cpuinfo_ppc64_entry_endianness = enumeration('cpuinfo_ppc64_entry.endianness', {
  BIGENDIAN: 0,
  LITTLEENDIAN: 1,
})

export const sk_shutdown = enumeration('sk_shutdown', {
  NONE: 0,
  READ: 1,
  WRITE: 2,
  BOTH: 3,
})

export const mark_type = enumeration('mark_type', {
  INODE: 1,
  MOUNT: 2,
})

export const TtyType = enumeration('TtyType', {
  UNKNOWN: 0,
  PTY: 1,
  CONSOLE: 2,
  VT: 3,
  CTTY: 4,
  EXT_TTY: 5,
  SERIAL: 6,
})

export const fd_types = enumeration('fd_types', {
  UND: 0,
  REG: 1,
  PIPE: 2,
  FIFO: 3,
  INETSK: 4,
  UNIXSK: 5,
  EVENTFD: 6,
  EVENTPOLL: 7,
  INOTIFY: 8,
  SIGNALFD: 9,
  PACKETSK: 10,
  TTY: 11,
  FANOTIFY: 12,
  NETLINKSK: 13,
  NS: 14,
  TUNF: 15,
  EXT: 16,
  TIMERFD: 17,
  MEMFD: 18,
  BPFMAP: 19,
  PIDFD: 20,
  CTL_TTY: 65534,
  AUTOFS_PIPE: 65535,
})

export const lsmtype = enumeration('lsmtype', {
  NO_LSM: 0,
  SELINUX: 1,
  APPARMOR: 2,
})

export const fstype = enumeration('fstype', {
  UNSUPPORTED: 0,
  PROC: 1,
  SYSFS: 2,
  DEVTMPFS: 3,
  BINFMT_MISC: 4,
  TMPFS: 5,
  DEVPTS: 6,
  SIMFS: 7,
  PSTORE: 8,
  SECURITYFS: 9,
  FUSECTL: 10,
  DEBUGFS: 11,
  CGROUP: 12,
  AUFS: 13,
  MQUEUE: 14,
  FUSE: 15,
  AUTO: 16,
  OVERLAYFS: 17,
  AUTOFS: 18,
  TRACEFS: 19,
  CGROUP2: 23,
})

export const SysctlType = enumeration('SysctlType', {
  CTL_STR: 5,
  CTL_32: 6,
})

export const nd_type = enumeration('nd_type', {
  LOOPBACK: 1,
  VETH: 2,
  TUN: 3,
  EXTLINK: 4,
  VENET: 5,
  BRIDGE: 6,
  MACVLAN: 7,
  SIT: 8,
})

export const remap_type = enumeration('remap_type', {
  LINKED: 0,
  GHOST: 1,
  PROCFS: 2,
})

export const criu_cg_mode = enumeration('criu_cg_mode', {
  IGNORE: 0,
  CG_NONE: 1,
  PROPS: 2,
  SOFT: 3,
  FULL: 4,
  STRICT: 5,
  DEFAULT: 6,
})

export const criu_network_lock_method = enumeration('criu_network_lock_method', {
  IPTABLES: 1,
  NFTABLES: 2,
  SKIP: 3,
})

export const criu_pre_dump_mode = enumeration('criu_pre_dump_mode', {
  SPLICE: 1,
  VM_READ: 2,
})

export const criu_req_type = enumeration('criu_req_type', {
  EMPTY: 0,
  DUMP: 1,
  RESTORE: 2,
  CHECK: 3,
  PRE_DUMP: 4,
  PAGE_SERVER: 5,
  NOTIFY: 6,
  CPUINFO_DUMP: 7,
  CPUINFO_CHECK: 8,
  FEATURE_CHECK: 9,
  VERSION: 10,
  WAIT_PID: 11,
  PAGE_SERVER_CHLD: 12,
  SINGLE_PRE_DUMP: 13,
})
