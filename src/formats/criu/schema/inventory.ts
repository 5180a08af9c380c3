/** About the dump itself: inventory, statistics, the processor it ran on, the image streamer. */
import {
  bool,
  message,
  optional,
  repeated,
  required,
  string,
  uint32,
  uint64,
} from '../../../lib/protobuf-schema.js'
import { oldDevice } from './display.js'
import { cpuinfo_ppc64_entry_endianness, cpuinfo_x86_entry_vendor, lsmtype } from './enums.js'
import { task_kobj_ids_entry } from './tasks.js'

export const cpuinfo_x86_entry = message('cpuinfo_x86_entry', {
  vendor_id: required(1, cpuinfo_x86_entry_vendor),
  cpu_family: required(2, uint32),
  model: required(3, uint32),
  stepping: required(4, uint32),
  capability_ver: required(5, uint32),
  capability: repeated(6, uint32),
  model_id: optional(7, string),
  xfeatures_mask: optional(8, uint64),
  xsave_size: optional(9, uint32),
  xsave_size_max: optional(10, uint32),
})

export const cpuinfo_ppc64_entry = message('cpuinfo_ppc64_entry', {
  endian: required(1, cpuinfo_ppc64_entry_endianness),
  hwcap: repeated(2, uint64),
})

export const cpuinfo_s390_entry = message('cpuinfo_s390_entry', {
  hwcap: repeated(2, uint64),
})

export const cpuinfo_entry = message('cpuinfo_entry', {
  x86_entry: repeated(1, cpuinfo_x86_entry),
  ppc64_entry: repeated(2, cpuinfo_ppc64_entry),
  s390_entry: repeated(3, cpuinfo_s390_entry),
})

export const irmap_cache_entry = message('irmap_cache_entry', {
  dev: required(1, uint32, oldDevice),
  inode: required(2, uint64),
  path: required(3, string),
})

export const img_streamer_request_entry = message('img_streamer_request_entry', {
  filename: required(1, string),
})

export const img_streamer_reply_entry = message('img_streamer_reply_entry', {
  exists: required(1, bool),
})

export const plugins_entry = message('plugins_entry', {
  plugins: repeated(12, string),
})

export const inventory_entry = message('inventory_entry', {
  img_version: required(1, uint32),
  fdinfo_per_id: optional(2, bool),
  root_ids: optional(3, task_kobj_ids_entry),
  ns_per_id: optional(4, bool),
  root_cg_set: optional(5, uint32),
  lsmtype: optional(6, lsmtype),
  dump_uptime: optional(8, uint64),
  pre_dump_mode: optional(9, uint32),
  tcp_close: optional(10, bool),
  network_lock_method: optional(11, uint32),
  plugins_entry: optional(12, plugins_entry),
  dump_criu_run_id: optional(13, string),
  allow_uprobes: optional(14, bool),
})

export const dump_stats_entry = message('dump_stats_entry', {
  freezing_time: required(1, uint32),
  frozen_time: required(2, uint32),
  memdump_time: required(3, uint32),
  memwrite_time: required(4, uint32),
  pages_scanned: required(5, uint64),
  pages_skipped_parent: required(6, uint64),
  pages_written: required(7, uint64),
  irmap_resolve: optional(8, uint32),
  pages_lazy: required(9, uint64),
  page_pipes: optional(10, uint64),
  page_pipe_bufs: optional(11, uint64),
  shpages_scanned: optional(12, uint64),
  shpages_skipped_parent: optional(13, uint64),
  shpages_written: optional(14, uint64),
})

export const restore_stats_entry = message('restore_stats_entry', {
  pages_compared: required(1, uint64),
  pages_skipped_cow: required(2, uint64),
  forking_time: required(3, uint32),
  restore_time: required(4, uint32),
  pages_restored: optional(5, uint64),
})

export const stats_entry = message('stats_entry', {
  dump: optional(1, dump_stats_entry),
  restore: optional(2, restore_stats_entry),
})
