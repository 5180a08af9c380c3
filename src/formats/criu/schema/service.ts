/** criu's service protocol (swrk and its socket), and the options that mark fields in CRIU's own schema. */
import {
  bool,
  int32,
  message,
  optional,
  repeated,
  required,
  string,
  uint32,
} from '../../../lib/protobuf-schema.js'
import { criu_cg_mode, criu_network_lock_method, criu_pre_dump_mode, criu_req_type } from './enums.js'

export const CRIU_Opts = message('CRIU_Opts', {
  hex: optional(1, bool),
  ipadd: optional(2, bool),
  flags: optional(3, string),
  dev: optional(4, bool),
  odev: optional(5, bool),
  dict: optional(6, string),
  conv: optional(7, string),
})

export const criu_page_server_info = message('criu_page_server_info', {
  address: optional(1, string),
  port: optional(2, int32),
  pid: optional(3, int32),
  fd: optional(4, int32),
})

export const criu_veth_pair = message('criu_veth_pair', {
  if_in: required(1, string),
  if_out: required(2, string),
})

export const ext_mount_map = message('ext_mount_map', {
  key: required(1, string),
  val: required(2, string),
})

export const join_namespace = message('join_namespace', {
  ns: required(1, string),
  ns_file: required(2, string),
  extra_opt: optional(3, string),
})

export const inherit_fd = message('inherit_fd', {
  key: required(1, string),
  fd: required(2, int32),
})

export const cgroup_root = message('cgroup_root', {
  ctrl: optional(1, string),
  path: required(2, string),
})

export const unix_sk = message('unix_sk', {
  inode: required(1, uint32),
})

export const criu_opts = message('criu_opts', {
  images_dir_fd: required(1, int32),
  pid: optional(2, int32),
  leave_running: optional(3, bool),
  ext_unix_sk: optional(4, bool),
  tcp_established: optional(5, bool),
  evasive_devices: optional(6, bool),
  shell_job: optional(7, bool),
  file_locks: optional(8, bool),
  log_level: optional(9, int32),
  log_file: optional(10, string),
  ps: optional(11, criu_page_server_info),
  notify_scripts: optional(12, bool),
  root: optional(13, string),
  parent_img: optional(14, string),
  track_mem: optional(15, bool),
  auto_dedup: optional(16, bool),
  work_dir_fd: optional(17, int32),
  link_remap: optional(18, bool),
  veths: repeated(19, criu_veth_pair),
  cpu_cap: optional(20, uint32),
  force_irmap: optional(21, bool),
  exec_cmd: repeated(22, string),
  ext_mnt: repeated(23, ext_mount_map),
  manage_cgroups: optional(24, bool),
  cg_root: repeated(25, cgroup_root),
  rst_sibling: optional(26, bool),
  inherit_fd: repeated(27, inherit_fd),
  auto_ext_mnt: optional(28, bool),
  ext_sharing: optional(29, bool),
  ext_masters: optional(30, bool),
  skip_mnt: repeated(31, string),
  enable_fs: repeated(32, string),
  unix_sk_ino: repeated(33, unix_sk),
  manage_cgroups_mode: optional(34, criu_cg_mode),
  ghost_limit: optional(35, uint32),
  irmap_scan_paths: repeated(36, string),
  external: repeated(37, string),
  empty_ns: optional(38, uint32),
  join_ns: repeated(39, join_namespace),
  cgroup_props: optional(41, string),
  cgroup_props_file: optional(42, string),
  cgroup_dump_controller: repeated(43, string),
  freeze_cgroup: optional(44, string),
  timeout: optional(45, uint32),
  tcp_skip_in_flight: optional(46, bool),
  weak_sysctls: optional(47, bool),
  lazy_pages: optional(48, bool),
  status_fd: optional(49, int32),
  orphan_pts_master: optional(50, bool),
  config_file: optional(51, string),
  tcp_close: optional(52, bool),
  lsm_profile: optional(53, string),
  tls_cacert: optional(54, string),
  tls_cacrl: optional(55, string),
  tls_cert: optional(56, string),
  tls_key: optional(57, string),
  tls: optional(58, bool),
  tls_no_cn_verify: optional(59, bool),
  cgroup_yard: optional(60, string),
  pre_dump_mode: optional(61, criu_pre_dump_mode),
  pidfd_store_sk: optional(62, int32),
  lsm_mount_context: optional(63, string),
  network_lock: optional(64, criu_network_lock_method),
  mntns_compat_mode: optional(65, bool),
  skip_file_rwx_check: optional(66, bool),
  unprivileged: optional(67, bool),
  images_dir: optional(68, string),
  leave_stopped: optional(69, bool),
  display_stats: optional(70, bool),
  log_to_stderr: optional(71, bool),
})

export const criu_dump_resp = message('criu_dump_resp', {
  restored: optional(1, bool),
})

export const criu_restore_resp = message('criu_restore_resp', {
  pid: required(1, int32),
})

export const criu_notify = message('criu_notify', {
  script: optional(1, string),
  pid: optional(2, int32),
})

export const criu_features = message('criu_features', {
  mem_track: optional(1, bool),
  lazy_pages: optional(2, bool),
  pidfd_store: optional(3, bool),
})

export const criu_req = message('criu_req', {
  type: required(1, criu_req_type),
  opts: optional(2, criu_opts),
  notify_success: optional(3, bool),
  keep_open: optional(4, bool),
  features: optional(5, criu_features),
  pid: optional(6, uint32),
})

export const criu_version = message('criu_version', {
  major_number: required(1, int32),
  minor_number: required(2, int32),
  gitid: optional(3, string),
  sublevel: optional(4, int32),
  extra: optional(5, int32),
  name: optional(6, string),
})

export const criu_resp = message('criu_resp', {
  type: required(1, criu_req_type),
  success: required(2, bool),
  dump: optional(3, criu_dump_resp),
  restore: optional(4, criu_restore_resp),
  notify: optional(5, criu_notify),
  ps: optional(6, criu_page_server_info),
  cr_errno: optional(7, int32),
  features: optional(8, criu_features),
  cr_errmsg: optional(9, string),
  version: optional(10, criu_version),
  status: optional(11, int32),
})
