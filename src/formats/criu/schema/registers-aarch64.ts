/** aarch64 registers (core_entry.ti_aarch64), with the pointer authentication keys of newer processors. */
import { message, optional, repeated, required, uint32, uint64 } from '../../../lib/protobuf-schema.js'
import { hexadecimal } from './display.js'

export const user_aarch64_regs_entry = message('user_aarch64_regs_entry', {
  regs: repeated(1, uint64),
  sp: required(2, uint64),
  pc: required(3, uint64),
  pstate: required(4, uint64),
})

export const user_aarch64_fpsimd_context_entry = message('user_aarch64_fpsimd_context_entry', {
  vregs: repeated(1, uint64),
  fpsr: required(2, uint32),
  fpcr: required(3, uint32),
})

export const pac_address_keys = message('pac_address_keys', {
  apiakey_lo: required(1, uint64),
  apiakey_hi: required(2, uint64),
  apibkey_lo: required(3, uint64),
  apibkey_hi: required(4, uint64),
  apdakey_lo: required(5, uint64),
  apdakey_hi: required(6, uint64),
  apdbkey_lo: required(7, uint64),
  apdbkey_hi: required(8, uint64),
  pac_enabled_key: required(9, uint64),
})

export const pac_generic_keys = message('pac_generic_keys', {
  apgakey_lo: required(1, uint64),
  apgakey_hi: required(2, uint64),
})

export const pac_keys = message('pac_keys', {
  pac_address_keys: optional(6, pac_address_keys),
  pac_generic_keys: optional(7, pac_generic_keys),
})

export const thread_info_aarch64 = message('thread_info_aarch64', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  tls: required(2, uint64),
  gpregs: required(3, user_aarch64_regs_entry, hexadecimal),
  fpsimd: required(4, user_aarch64_fpsimd_context_entry),
  pac_keys: optional(5, pac_keys),
})
