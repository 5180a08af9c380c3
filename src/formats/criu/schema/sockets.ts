/** Sockets, their options and the data that was on the way. */
import {
  bool,
  bytes,
  fixed64,
  message,
  optional,
  repeated,
  required,
  sint32,
  string,
  uint32,
  uint64,
} from '../../../lib/protobuf-schema.js'
import {
  hexadecimal,
  ipAddress,
  quotedPrintable,
  socketFamily,
  socketProtocol,
  socketState,
  socketType,
} from './display.js'
import { sk_shutdown } from './enums.js'
import { fown_entry } from './file-owner.js'

export const sk_opts_entry = message('sk_opts_entry', {
  so_sndbuf: required(1, uint32),
  so_rcvbuf: required(2, uint32),
  so_snd_tmo_sec: required(3, uint64),
  so_snd_tmo_usec: required(4, uint64),
  so_rcv_tmo_sec: required(5, uint64),
  so_rcv_tmo_usec: required(6, uint64),
  reuseaddr: optional(7, bool),
  so_priority: optional(8, uint32),
  so_rcvlowat: optional(9, uint32),
  so_mark: optional(10, uint32),
  so_passcred: optional(11, bool),
  so_passsec: optional(12, bool),
  so_dontroute: optional(13, bool),
  so_no_check: optional(14, bool),
  so_bound_dev: optional(15, string),
  so_filter: repeated(16, fixed64),
  so_reuseport: optional(17, bool),
  so_broadcast: optional(18, bool),
  so_keepalive: optional(19, bool),
  tcp_keepcnt: optional(20, uint32),
  tcp_keepidle: optional(21, uint32),
  tcp_keepintvl: optional(22, uint32),
  so_oobinline: optional(23, uint32),
  so_linger: optional(24, uint32),
  so_buf_lock: optional(25, uint32),
})

export const tcp_opts_entry = message('tcp_opts_entry', {
  cork: optional(1, bool),
  nodelay: optional(2, bool),
  keepcnt: optional(3, uint32),
  keepidle: optional(4, uint32),
  keepintvl: optional(5, uint32),
})

export const tcp_stream_entry = message('tcp_stream_entry', {
  inq_len: required(1, uint32),
  inq_seq: required(2, uint32),
  outq_len: required(3, uint32),
  outq_seq: required(4, uint32),
  opt_mask: required(5, uint32, hexadecimal),
  snd_wscale: required(6, uint32),
  mss_clamp: required(7, uint32),
  rcv_wscale: optional(8, uint32),
  timestamp: optional(9, uint32),
  cork: optional(10, bool),
  nodelay: optional(11, bool),
  unsq_len: optional(12, uint32),
  snd_wl1: optional(13, uint32),
  snd_wnd: optional(14, uint32),
  max_window: optional(15, uint32),
  rcv_wnd: optional(16, uint32),
  rcv_wup: optional(17, uint32),
})

export const ip_opts_raw_entry = message('ip_opts_raw_entry', {
  hdrincl: optional(1, bool),
  nodefrag: optional(2, bool),
  checksum: optional(3, bool),
  icmpv_filter: repeated(4, uint32),
})

export const ip_opts_entry = message('ip_opts_entry', {
  freebind: optional(1, bool),
  raw: optional(4, ip_opts_raw_entry),
  pktinfo: optional(5, bool),
  tos: optional(6, uint32),
  ttl: optional(7, uint32),
})

export const inet_sk_entry = message('inet_sk_entry', {
  id: required(1, uint32),
  ino: required(2, uint32),
  family: required(3, uint32, socketFamily),
  type: required(4, uint32, socketType),
  proto: required(5, uint32, socketProtocol),
  state: required(6, uint32, socketState),
  src_port: required(7, uint32),
  dst_port: required(8, uint32),
  flags: required(9, uint32, hexadecimal),
  backlog: required(10, uint32),
  src_addr: repeated(11, uint32, ipAddress),
  dst_addr: repeated(12, uint32, ipAddress),
  fown: required(13, fown_entry),
  opts: required(14, sk_opts_entry),
  v6only: optional(15, bool),
  ip_opts: optional(16, ip_opts_entry),
  ifname: optional(17, string),
  ns_id: optional(18, uint32),
  shutdown: optional(19, sk_shutdown),
  tcp_opts: optional(20, tcp_opts_entry),
})

export const packet_mclist = message('packet_mclist', {
  index: required(1, uint32),
  type: required(2, uint32),
  addr: required(3, bytes),
})

export const packet_ring = message('packet_ring', {
  block_size: required(1, uint32),
  block_nr: required(2, uint32),
  frame_size: required(3, uint32),
  frame_nr: required(4, uint32),
  retire_tmo: required(5, uint32),
  sizeof_priv: required(6, uint32),
  features: required(7, uint32),
})

export const packet_sock_entry = message('packet_sock_entry', {
  id: required(1, uint32),
  type: required(2, uint32),
  protocol: required(3, uint32),
  flags: required(4, uint32, hexadecimal),
  ifindex: required(5, uint32),
  fown: required(6, fown_entry),
  opts: required(7, sk_opts_entry),
  version: required(8, uint32),
  reserve: required(9, uint32),
  aux_data: required(10, bool),
  orig_dev: required(11, bool),
  vnet_hdr: required(12, bool),
  loss: required(13, bool),
  timestamp: required(14, uint32),
  copy_thresh: required(15, uint32),
  mclist: repeated(16, packet_mclist),
  fanout: optional(17, uint32),
  rx_ring: optional(18, packet_ring),
  tx_ring: optional(19, packet_ring),
  ns_id: optional(20, uint32),
})

export const netlink_sk_entry = message('netlink_sk_entry', {
  id: required(1, uint32),
  ino: required(2, uint32),
  protocol: required(3, uint32),
  state: required(4, uint32),
  flags: required(6, uint32, hexadecimal),
  portid: required(7, uint32),
  groups: repeated(8, uint32),
  dst_portid: required(9, uint32),
  dst_group: required(10, uint32),
  fown: required(11, fown_entry),
  opts: required(12, sk_opts_entry),
  ns_id: optional(13, uint32),
})

export const file_perms_entry = message('file_perms_entry', {
  mode: required(1, uint32),
  uid: required(2, uint32),
  gid: required(3, uint32),
})

export const unix_sk_entry = message('unix_sk_entry', {
  id: required(1, uint32),
  ino: required(2, uint32),
  type: required(3, uint32, socketType),
  state: required(4, uint32, socketState),
  flags: required(5, uint32, hexadecimal),
  uflags: required(6, uint32, hexadecimal),
  backlog: required(7, uint32),
  peer: required(8, uint32),
  fown: required(9, fown_entry),
  opts: required(10, sk_opts_entry),
  name: required(11, bytes, quotedPrintable),
  shutdown: optional(12, sk_shutdown),
  file_perms: optional(13, file_perms_entry),
  name_dir: optional(14, string),
  deleted: optional(15, bool),
  ns_id: optional(16, uint32),
  mnt_id: optional(17, sint32),
})

export const scm_entry = message('scm_entry', {
  type: required(1, uint32),
  rights: repeated(2, uint32),
})

export const sk_packet_entry = message('sk_packet_entry', {
  id_for: required(1, uint32),
  length: required(2, uint32),
  scm: repeated(4, scm_entry),
})
