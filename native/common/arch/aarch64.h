/*
 * What differs between ISAs, for aarch64: system calls, the signal frame, the registers as a core shows them.
 * The counterpart of x86-64.h, name by name. Source: Linux `arch/arm64/include/uapi/asm`, Arm ARM (TPIDR_EL0).
 *
 *   the stack of a stopped thread            sigcontext.__reserved: records { u32 magic, u32 size, … } to one of size 0
 *   high ┌───────────────────────────┐       ┌──────────────────────────────────────┐ 0
 *        │ interrupted code's frames │       │ fpsimd_context 0x46508001, 528 bytes │
 *        ├───────────────────────────┤       │   fpsr, fpcr, V0 … V31               │
 *        │ sigcontext: x0 … x30, sp, │       ├──────────────────────────────────────┤
 *        │   pc, pstate, __reserved  │       │ esr_context, sve_context, …          │
 *        │ ucontext  ◄── frame       │       └──────────────────────────────────────┘
 *   low  │ siginfo (128 bytes)       │ ◄── stack pointer of rt_sigreturn
 *        └───────────────────────────┘
 */
#pragma once
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdint.h>

#define ARCH_MACHINE 183 /* EM_AARCH64 */
#define ARCH_RSEQ_SIGNATURE 0xd428bc00u
#define ARCH_GENERAL_REGISTERS 34
#define ARCH_ADDRESS_END 0x1000000000000ul
#define ARCH_ACTION_FLAGS 0x04000000ul /* SA_RESTORER: honoured, though the vDSO has a trampoline */
#define ARCH_HAS_TLS2 0
#define ARCH_MAPS_VDSO 0 /* whether arch_map_vdso can */
#define ARCH_MUSL_TID (-200 + 32) /* musl 1.2 keeps the tid there, from the thread pointer: struct pthread ends at it */

static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}

static inline uint64_t arch_tls(void) {
  uint64_t value;
  __asm__ volatile("mrs %0, tpidr_el0" : "=r"(value));
  return value;
}

static inline uint64_t arch_tls2(void) {
  return 0;
}

static inline void arch_set_tls(uint64_t tls, uint64_t tls2) {
  (void)tls2;
  __asm__ volatile("msr tpidr_el0, %0" : : "r"(tls) : "memory");
}

/** There is no call for it on aarch64: -ENOSYS. The restorer keeps the vDSO it was started with. */
static inline long arch_map_vdso(uint64_t address) {
  (void)address;
  return -38;
}

#define ARCH_SIGINFO_SIZE 128
/** Continues what the signal frame with this ucontext interrupted. */
__attribute__((noreturn)) static inline void arch_return_to_frame(uint64_t frame) {
  __asm__ volatile("mov sp, %0\n\tmov x8, %1\n\tsvc #0\n\tudf #0"
                   :
                   : "r"(frame - ARCH_SIGINFO_SIZE), "i"(__NR_rt_sigreturn)
                   : "memory", "x8");
  __builtin_unreachable();
}

/**
 * The calling process ends, and what it was goes on as another one that shares its memory (flags: CLONE_VM …) and its stack, which nobody uses
 * between the two. Its pid is stored at `pid`. Returns 0, or -errno when nothing of that happened.
 */
static inline long arch_change_process(uint64_t flags, int32_t *pid) {
  register long x8 __asm__("x8") = __NR_clone;
  register long x0 __asm__("x0") = flags;
  register long x1 __asm__("x1") = 0;
  register long x2 __asm__("x2") = (long)pid;
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = 0;
  __asm__ volatile("svc #0\n\tcmp x0, #0\n\tb.le 1f\n\tmov x0, #0\n\tmov x8, %2\n\tsvc #0\n\tudf #0\n1:"
                   : "+r"(x0), "+r"(x8)
                   : "i"(__NR_exit_group), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                   : "memory", "cc");
  return x0;
}

/** Starts a thread that calls `entry` with `argument`, which never returns. Its id is stored at `tid` before either goes on, and 0 when it ends, where `flags` say so. */
static inline long arch_start_thread(uint64_t flags, uint64_t stack, uint32_t *tid, void (*entry)(void *), void *argument) {
  register long x8 __asm__("x8") = __NR_clone;
  register long x0 __asm__("x0") = flags;
  register long x1 __asm__("x1") = stack & ~15ul;
  register long x2 __asm__("x2") = (long)tid;
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = (long)tid;
  __asm__ volatile("svc #0\n\tcbnz x0, 1f\n\tmov x29, #0\n\tmov x0, %2\n\tblr %1\n\tudf #0\n1:"
                   : "+r"(x0)
                   : "r"(entry), "r"(argument), "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                   : "memory", "x30");
  return x0;
}

/** Calls `entry(a, b)` on another stack, never to return. */
__attribute__((noreturn)) static inline void arch_call_on_stack(uint64_t stack, uint64_t entry, uint64_t a, uint64_t b) {
  register uint64_t x0 __asm__("x0") = a;
  register uint64_t x1 __asm__("x1") = b;
  __asm__ volatile("mov sp, %0\n\tmov x29, #0\n\tmov x30, #0\n\tblr %1\n\tudf #0"
                   :
                   : "r"(stack & ~15ul), "r"(entry), "r"(x0), "r"(x1)
                   : "memory", "x30");
  __builtin_unreachable();
}

/** A signal handler's return trampoline, which sa_restorer points to. */
#define ARCH_DEFINE_RESTORER(name)                                                                     \
  void name(void);                                                                                     \
  __asm__(".text\n.type " #name ", %function\n.hidden " #name "\n" #name ":\n\tmov x8, #139\n\tsvc #0\n")

/** The program's entry: hands the initial stack to `start_on_stack`. */
#define ARCH_DEFINE_START(function)                                                                    \
  __asm__(".text\n.globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl " #function "\n\tudf #0\n")

static inline uint64_t arch_pc(const struct ucontext *context) {
  return context->uc_mcontext.pc;
}

static inline void arch_set_pc(struct ucontext *context, uint64_t pc) {
  context->uc_mcontext.pc = pc;
}

static inline uint64_t arch_sp(const struct ucontext *context) {
  return context->uc_mcontext.sp;
}

static inline uint64_t arch_signal_mask(const struct ucontext *context) {
  return *(const uint64_t *)&context->uc_sigmask;
}

/** Not here: the result of a system call takes the place of its first argument, which nobody else tells. */
static inline bool arch_interrupted_call(const struct ucontext *context, uint32_t number, uint64_t *argument) {
  (void)context, (void)number, (void)argument;
  return false;
}

static inline void arch_begin_call_anew(struct ucontext *context, uint32_t number) {
  (void)context, (void)number;
}

/** struct user_pt_regs, as NT_PRSTATUS holds it. */
static inline void arch_general_registers(const struct ucontext *context, uint64_t tls, uint64_t tls2, uint64_t *out) {
  const struct sigcontext *r = &context->uc_mcontext;
  (void)tls, (void)tls2; /* the thread pointer is in a note of its own */
  for (int i = 0; i < 31; i++) out[i] = r->regs[i];
  out[31] = r->sp;
  out[32] = r->pc;
  out[33] = r->pstate;
}

#define ARCH_FLOAT_SIZE 528
/** NT_FPREGSET, struct user_fpsimd_state: V0 … V31, fpsr, fpcr; 0 when the frame has none. Used by one thread at a time. */
static inline const void *arch_float_registers(const struct ucontext *context) {
  static unsigned char state[ARCH_FLOAT_SIZE];
  const unsigned char *record = context->uc_mcontext.__reserved;
  const unsigned char *end = record + sizeof context->uc_mcontext.__reserved;
  while (record + 8 <= end) {
    const uint32_t magic = ((const uint32_t *)record)[0], size = ((const uint32_t *)record)[1];
    if (magic == FPSIMD_MAGIC && size >= ARCH_FLOAT_SIZE) {
      for (int i = 0; i < 512; i++) state[i] = record[16 + i];
      for (int i = 0; i < 8; i++) state[512 + i] = record[8 + i];
      return state;
    }
    if (size < 8) break;
    record += size;
  }
  return 0;
}

#define ARCH_TLS_NOTE 0x401 /* NT_ARM_TLS, name "LINUX": the thread pointer, which is no general register here */
#define ARCH_VECTOR_NOTE 0x405 /* NT_ARM_SVE, name "LINUX": not kept; V0 … V31 are in NT_FPREGSET */
#define ARCH_VECTOR_SIZE 16
static inline uint32_t arch_vector_registers(const struct ucontext *context, unsigned char *out) {
  (void)context, (void)out;
  return 0;
}

/** clone3; the child calls `entry(argument)` on its new stack, which must never return. Without clone3 (an emulator), clone. */
static inline long arch_clone(const struct clone_args *arguments, unsigned long size, void (*entry)(void *), void *argument) {
  register long x8 __asm__("x8") = __NR_clone3;
  register long x0 __asm__("x0") = (long)arguments;
  register long x1 __asm__("x1") = (long)size;
  register void (*x9)(void *) __asm__("x9") = entry;
  register void *x10 __asm__("x10") = argument;
#define ARCH_CHILD "cbnz x0, 1f\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, x10\n\tblr x9\n\tudf #0\n1:"
  __asm__ volatile("svc #0\n\t" ARCH_CHILD : "+r"(x0) : "r"(x1), "r"(x8), "r"(x9), "r"(x10) : "memory");
  if (x0 != -38 /* ENOSYS */ || arguments->set_tid_size != 0) return x0;
  register long flags __asm__("x0") = (long)arguments->flags;
  register long stack __asm__("x1") = (long)(arguments->stack + arguments->stack_size);
  register long number __asm__("x8") = __NR_clone;
  __asm__ volatile("svc #0\n\t" ARCH_CHILD : "+r"(flags) : "r"(stack), "r"(number), "r"(x9), "r"(x10) : "memory");
  return flags;
}

#define ARCH_JUMP_SIZE 16
/** A jump to any address, by a register that belongs to calls between functions. */
static inline void arch_write_jump(unsigned char *at, uint64_t target) {
  const uint32_t code[2] = {0x58000051, 0xd61f0220}; /* ldr x17, 8 bytes on; br x17 */
  for (int i = 0; i < 8; i++) at[i] = code[i / 4] >> 8 * (i % 4);
  for (int i = 0; i < 8; i++) at[8 + i] = target >> 8 * i;
}
