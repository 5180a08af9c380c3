/** Address spaces: mm-*.img and the page maps. */
import {
  bool,
  int32,
  message,
  optional,
  repeated,
  required,
  sint64,
  uint32,
  uint64,
} from '../../../lib/protobuf-schema.js'
import { hexadecimal, mappingFlags, mappingProtection, mappingStatus, pageMapFlags } from './display.js'

export const vma_entry = message('vma_entry', {
  start: required(1, uint64, hexadecimal),
  end: required(2, uint64, hexadecimal),
  pgoff: required(3, uint64),
  shmid: required(4, uint64),
  prot: required(5, uint32, mappingProtection),
  flags: required(6, uint32, mappingFlags),
  status: required(7, uint32, mappingStatus),
  fd: required(8, sint64),
  madv: optional(9, uint64, hexadecimal),
  fdflags: optional(10, uint32, hexadecimal),
})

export const aio_ring_entry = message('aio_ring_entry', {
  id: required(1, uint64),
  nr_req: required(2, uint32),
  ring_len: required(3, uint32),
})

export const mm_entry = message('mm_entry', {
  mm_start_code: required(1, uint64, hexadecimal),
  mm_end_code: required(2, uint64, hexadecimal),
  mm_start_data: required(3, uint64, hexadecimal),
  mm_end_data: required(4, uint64, hexadecimal),
  mm_start_stack: required(5, uint64, hexadecimal),
  mm_start_brk: required(6, uint64, hexadecimal),
  mm_brk: required(7, uint64, hexadecimal),
  mm_arg_start: required(8, uint64, hexadecimal),
  mm_arg_end: required(9, uint64, hexadecimal),
  mm_env_start: required(10, uint64, hexadecimal),
  mm_env_end: required(11, uint64, hexadecimal),
  exe_file_id: required(12, uint32),
  mm_saved_auxv: repeated(13, uint64),
  vmas: repeated(14, vma_entry),
  dumpable: optional(15, int32),
  aios: repeated(16, aio_ring_entry),
  thp_disabled: optional(17, bool),
})

export const pagemap_head = message('pagemap_head', {
  pages_id: required(1, uint32),
})

export const pagemap_entry = message('pagemap_entry', {
  vaddr: required(1, uint64, hexadecimal),
  compat_nr_pages: required(2, uint32),
  in_parent: optional(3, bool),
  flags: optional(4, uint32, pageMapFlags),
  nr_pages: optional(5, uint64),
})
