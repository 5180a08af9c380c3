/** Registers of the ISAs that imago reads at the record level only: arm, loongarch64, mips, ppc64, riscv64, s390. */
import { message, optional, repeated, required, uint32, uint64 } from '../../../lib/protobuf-schema.js'
import { hexadecimal } from './display.js'

export const user_arm_regs_entry = message('user_arm_regs_entry', {
  r0: required(1, uint32),
  r1: required(2, uint32),
  r2: required(3, uint32),
  r3: required(4, uint32),
  r4: required(5, uint32),
  r5: required(6, uint32),
  r6: required(7, uint32),
  r7: required(8, uint32),
  r8: required(9, uint32),
  r9: required(10, uint32),
  r10: required(11, uint32),
  fp: required(12, uint32),
  ip: required(13, uint32),
  sp: required(14, uint32),
  lr: required(15, uint32),
  pc: required(16, uint32),
  cpsr: required(17, uint32),
  orig_r0: required(18, uint32),
})

export const user_arm_vfpstate_entry = message('user_arm_vfpstate_entry', {
  vfp_regs: repeated(1, uint64),
  fpscr: required(2, uint32),
  fpexc: required(3, uint32),
  fpinst: required(4, uint32),
  fpinst2: required(5, uint32),
})

export const thread_info_arm = message('thread_info_arm', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  tls: required(2, uint32),
  gpregs: required(3, user_arm_regs_entry, hexadecimal),
  fpstate: required(4, user_arm_vfpstate_entry),
})

export const user_loongarch64_gpregs_entry = message('user_loongarch64_gpregs_entry', {
  regs: repeated(1, uint64),
  pc: required(2, uint64),
})

export const user_loongarch64_fpregs_entry = message('user_loongarch64_fpregs_entry', {
  regs: repeated(1, uint64),
  fcc: required(2, uint64),
  fcsr: required(3, uint32),
})

export const thread_info_loongarch64 = message('thread_info_loongarch64', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  tls: required(2, uint64),
  gpregs: required(3, user_loongarch64_gpregs_entry, hexadecimal),
  fpregs: required(4, user_loongarch64_fpregs_entry, hexadecimal),
})

export const user_mips_regs_entry = message('user_mips_regs_entry', {
  r0: required(1, uint64),
  r1: required(2, uint64),
  r2: required(3, uint64),
  r3: required(4, uint64),
  r4: required(5, uint64),
  r5: required(6, uint64),
  r6: required(7, uint64),
  r7: required(8, uint64),
  r8: required(9, uint64),
  r9: required(10, uint64),
  r10: required(11, uint64),
  r11: required(12, uint64),
  r12: required(13, uint64),
  r13: required(14, uint64),
  r14: required(15, uint64),
  r15: required(16, uint64),
  r16: required(17, uint64),
  r17: required(18, uint64),
  r18: required(19, uint64),
  r19: required(20, uint64),
  r20: required(21, uint64),
  r21: required(22, uint64),
  r22: required(23, uint64),
  r23: required(24, uint64),
  r24: required(25, uint64),
  r25: required(26, uint64),
  r26: required(27, uint64),
  r27: required(28, uint64),
  r28: required(29, uint64),
  r29: required(30, uint64),
  r30: required(31, uint64),
  r31: required(32, uint64),
  lo: required(33, uint64),
  hi: required(34, uint64),
  cp0_epc: required(35, uint64),
  cp0_badvaddr: required(36, uint64),
  cp0_status: required(37, uint64),
  cp0_cause: required(38, uint64),
})

export const user_mips_fpregs_entry = message('user_mips_fpregs_entry', {
  r0: required(1, uint64),
  r1: required(2, uint64),
  r2: required(3, uint64),
  r3: required(4, uint64),
  r4: required(5, uint64),
  r5: required(6, uint64),
  r6: required(7, uint64),
  r7: required(8, uint64),
  r8: required(9, uint64),
  r9: required(10, uint64),
  r10: required(11, uint64),
  r11: required(12, uint64),
  r12: required(13, uint64),
  r13: required(14, uint64),
  r14: required(15, uint64),
  r15: required(16, uint64),
  r16: required(17, uint64),
  r17: required(18, uint64),
  r18: required(19, uint64),
  r19: required(20, uint64),
  r20: required(21, uint64),
  r21: required(22, uint64),
  r22: required(23, uint64),
  r23: required(24, uint64),
  r24: required(25, uint64),
  r25: required(26, uint64),
  r26: required(27, uint64),
  r27: required(28, uint64),
  r28: required(29, uint64),
  r29: required(30, uint64),
  r30: required(31, uint64),
  r31: required(32, uint64),
  lo: required(33, uint64),
  hi: required(34, uint64),
  fpu_fcr31: required(35, uint32),
  fpu_id: required(36, uint32),
})

export const thread_info_mips = message('thread_info_mips', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  tls: required(2, uint64),
  gpregs: required(3, user_mips_regs_entry, hexadecimal),
  fpregs: required(4, user_mips_fpregs_entry, hexadecimal),
})

export const user_ppc64_regs_entry = message('user_ppc64_regs_entry', {
  gpr: repeated(1, uint64),
  nip: required(2, uint64),
  msr: required(3, uint64),
  orig_gpr3: required(4, uint64),
  ctr: required(5, uint64),
  link: required(6, uint64),
  xer: required(7, uint64),
  ccr: required(8, uint64),
  trap: required(9, uint64),
  texasr: optional(10, uint64),
  tfhar: optional(11, uint64),
  tfiar: optional(12, uint64),
})

export const user_ppc64_fpstate_entry = message('user_ppc64_fpstate_entry', {
  fpregs: repeated(1, uint64),
})

export const user_ppc64_vrstate_entry = message('user_ppc64_vrstate_entry', {
  vrregs: repeated(1, uint64),
  vrsave: required(2, uint32),
})

export const user_ppc64_vsxstate_entry = message('user_ppc64_vsxstate_entry', {
  vsxregs: repeated(1, uint64),
})

export const user_ppc64_tm_regs_entry = message('user_ppc64_tm_regs_entry', {
  gpregs: required(1, user_ppc64_regs_entry),
  fpstate: optional(2, user_ppc64_fpstate_entry),
  vrstate: optional(3, user_ppc64_vrstate_entry),
  vsxstate: optional(4, user_ppc64_vsxstate_entry),
})

export const thread_info_ppc64 = message('thread_info_ppc64', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  gpregs: required(2, user_ppc64_regs_entry, hexadecimal),
  fpstate: optional(3, user_ppc64_fpstate_entry),
  vrstate: optional(4, user_ppc64_vrstate_entry),
  vsxstate: optional(5, user_ppc64_vsxstate_entry),
  tmstate: optional(6, user_ppc64_tm_regs_entry),
})

export const user_riscv64_regs_entry = message('user_riscv64_regs_entry', {
  pc: required(1, uint64),
  ra: required(2, uint64),
  sp: required(3, uint64),
  gp: required(4, uint64),
  tp: required(5, uint64),
  t0: required(6, uint64),
  t1: required(7, uint64),
  t2: required(8, uint64),
  s0: required(9, uint64),
  s1: required(10, uint64),
  a0: required(11, uint64),
  a1: required(12, uint64),
  a2: required(13, uint64),
  a3: required(14, uint64),
  a4: required(15, uint64),
  a5: required(16, uint64),
  a6: required(17, uint64),
  a7: required(18, uint64),
  s2: required(19, uint64),
  s3: required(20, uint64),
  s4: required(21, uint64),
  s5: required(22, uint64),
  s6: required(23, uint64),
  s7: required(24, uint64),
  s8: required(25, uint64),
  s9: required(26, uint64),
  s10: required(27, uint64),
  s11: required(28, uint64),
  t3: required(29, uint64),
  t4: required(30, uint64),
  t5: required(31, uint64),
  t6: required(32, uint64),
})

export const user_riscv64_d_ext_entry = message('user_riscv64_d_ext_entry', {
  f: repeated(1, uint64),
  fcsr: required(2, uint32),
})

export const thread_info_riscv64 = message('thread_info_riscv64', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  tls: required(2, uint64),
  gpregs: required(3, user_riscv64_regs_entry, hexadecimal),
  fpsimd: required(4, user_riscv64_d_ext_entry),
})

export const user_s390_regs_entry = message('user_s390_regs_entry', {
  psw_mask: required(1, uint64),
  psw_addr: required(2, uint64),
  gprs: repeated(3, uint64),
  acrs: repeated(4, uint32),
  orig_gpr2: required(5, uint64),
  system_call: required(6, uint32),
})

export const user_s390_vxrs_low_entry = message('user_s390_vxrs_low_entry', {
  regs: repeated(1, uint64),
})

export const user_s390_vxrs_high_entry = message('user_s390_vxrs_high_entry', {
  regs: repeated(1, uint64),
})

export const user_s390_fpregs_entry = message('user_s390_fpregs_entry', {
  fpc: required(1, uint32),
  fprs: repeated(2, uint64),
})

export const user_s390_gs_cb_entry = message('user_s390_gs_cb_entry', {
  regs: repeated(1, uint64),
})

export const user_s390_ri_entry = message('user_s390_ri_entry', {
  ri_on: required(1, uint32),
  regs: repeated(2, uint64),
})

export const thread_info_s390 = message('thread_info_s390', {
  clear_tid_addr: required(1, uint64, hexadecimal),
  gpregs: required(2, user_s390_regs_entry, hexadecimal),
  fpregs: required(3, user_s390_fpregs_entry, hexadecimal),
  vxrs_low: optional(4, user_s390_vxrs_low_entry, hexadecimal),
  vxrs_high: optional(5, user_s390_vxrs_high_entry, hexadecimal),
  gs_cb: optional(6, user_s390_gs_cb_entry, hexadecimal),
  gs_bc: optional(7, user_s390_gs_cb_entry, hexadecimal),
  ri_cb: optional(8, user_s390_ri_entry, hexadecimal),
})
