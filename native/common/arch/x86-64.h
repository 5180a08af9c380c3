/*
 * What differs between ISAs, for x86-64: system calls, the signal frame, the registers as a core shows them.
 * Everything else in native/ is the same source for both. Kernel headers only: there is no C library here.
 *
 *   the stack of a stopped thread          sigcontext.fpstate (64-aligned)
 *   high ┌───────────────────────┐         ┌──────────────────────────────────────┐ 0
 *        │ interrupted code's    │         │ FXSAVE image                         │
 *        │ frames, red zone      │         │   464: magic1, extended_size,        │
 *        ├───────────────────────┤         │        xfeatures, xstate_size        │
 *        │ xsave area            │ ◄────   ├──────────────────────────────────────┤ 512
 *        ├───────────────────────┤         │ xstate header (XSTATE_BV, ...)       │
 *        │ siginfo               │         ├──────────────────────────────────────┤ 576
 *        │ ucontext  ◄── frame   │         │ components, where CPUID leaf 13 says │
 *   low  │ return address        │         └──────────────────────────────────────┘
 *        └───────────────────────┘
 */
#pragma once
#include <asm/prctl.h>
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdint.h>

#define ARCH_MACHINE 62 /* EM_X86_64 */
#define ARCH_RSEQ_SIGNATURE 0x53053053u
#define ARCH_GENERAL_REGISTERS 27
#define ARCH_ADDRESS_END 0x7ffffffff000ul
#define ARCH_ACTION_FLAGS 0x04000000ul /* SA_RESTORER */
#define ARCH_HAS_TLS2 1
#define ARCH_MAPS_VDSO 1 /* whether arch_map_vdso can */
#define ARCH_MUSL_TID 48 /* musl 1.2 keeps the tid there, from the thread pointer: struct pthread begins at it */

static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static inline uint64_t arch_tls(void) {
  uint64_t value = 0;
  system_call(__NR_arch_prctl, ARCH_GET_FS, (long)&value, 0, 0, 0, 0);
  return value;
}

static inline uint64_t arch_tls2(void) {
  uint64_t value = 0;
  system_call(__NR_arch_prctl, ARCH_GET_GS, (long)&value, 0, 0, 0, 0);
  return value;
}

static inline void arch_set_tls(uint64_t tls, uint64_t tls2) {
  system_call(__NR_arch_prctl, ARCH_SET_FS, (long)tls, 0, 0, 0, 0);
  system_call(__NR_arch_prctl, ARCH_SET_GS, (long)tls2, 0, 0, 0, 0);
}

/** Maps the kernel's vDSO with its data pages at `address` (there must be none mapped). */
static inline long arch_map_vdso(uint64_t address) {
  return system_call(__NR_arch_prctl, 0x2003 /* ARCH_MAP_VDSO_64 */, (long)address, 0, 0, 0, 0);
}

/** Continues what the signal frame with this ucontext interrupted. */
__attribute__((noreturn)) static inline void arch_return_to_frame(uint64_t frame) {
  __asm__ volatile("mov %0, %%rsp\n\tmov %1, %%eax\n\tsyscall\n\tud2" : : "r"(frame), "i"(__NR_rt_sigreturn) : "memory");
  __builtin_unreachable();
}

/**
 * The calling process ends, and what it was goes on as another one that shares its memory (flags: CLONE_VM …) and its stack, which nobody uses
 * between the two. Its pid is stored at `pid`. Returns 0, or -errno when nothing of that happened.
 */
static inline long arch_change_process(uint64_t flags, int32_t *pid) {
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjle 1f\n\txor %%edi, %%edi\n\tmov %2, %%eax\n\tsyscall\n\tud2\n1:"
                   : "=a"(result)
                   : "a"((long)__NR_clone), "i"(__NR_exit_group), "D"(flags), "S"(0l), "d"(pid), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

/** Starts a thread that calls `entry` with `argument`, which never returns. Its id is stored at `tid` before either goes on, and 0 when it ends, where `flags` say so. */
static inline long arch_start_thread(uint64_t flags, uint64_t stack, uint32_t *tid, void (*entry)(void *), void *argument) {
  register long r10 __asm__("r10") = (long)tid;
  register long r8 __asm__("r8") = 0;
  long result;
  __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tmov %3, %%rdi\n\tcall *%2\n\tud2\n1:"
                   : "=a"(result)
                   : "a"((long)__NR_clone), "r"(entry), "r"(argument), "D"(flags), "S"(stack & ~15ul), "d"(tid), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

/** Calls `entry(a, b)` on another stack, never to return. */
__attribute__((noreturn)) static inline void arch_call_on_stack(uint64_t stack, uint64_t entry, uint64_t a, uint64_t b) {
  __asm__ volatile("mov %0, %%rsp\n\txor %%ebp, %%ebp\n\tcall *%1\n\tud2"
                   :
                   : "r"(stack & ~15ul), "r"(entry), "D"(a), "S"(b)
                   : "memory");
  __builtin_unreachable();
}

/** A signal handler's return trampoline, which sa_restorer points to. */
#define ARCH_DEFINE_RESTORER(name)                                                                     \
  void name(void);                                                                                     \
  __asm__(".text\n.type " #name ", @function\n.hidden " #name "\n" #name ":\n\tmov $15, %eax\n\tsyscall\n")

/** The program's entry: hands the initial stack to `start_on_stack`. */
#define ARCH_DEFINE_START(function)                                                                    \
  __asm__(".text\n.globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall " #function "\n\tud2\n")

static inline uint64_t arch_pc(const struct ucontext *context) {
  return context->uc_mcontext.rip;
}

static inline void arch_set_pc(struct ucontext *context, uint64_t pc) {
  context->uc_mcontext.rip = pc;
}

static inline uint64_t arch_sp(const struct ucontext *context) {
  return context->uc_mcontext.rsp;
}

static inline uint64_t arch_signal_mask(const struct ucontext *context) {
  return *(const uint64_t *)&context->uc_sigmask;
}

/**
 * Whether the code before a `syscall` loads this number, with at most some loads of arguments in between: mov $number, %eax is b8 and four bytes,
 * xor %eax, %eax is 31 c0.
 */
static inline bool arch_loads_number(const unsigned char *code, uint32_t number) {
  enum { LOOK_BACK = 24 };
  if (number == 0) return code[-4] == 0x31 && code[-3] == 0xc0;
  for (int back = 7; back < LOOK_BACK && ((uint64_t)code & 4095) > (uint64_t)back; back++) {
    const unsigned char *at = code - back, before = at[-1];
    uint32_t loaded;
    if (*at != 0xb8 || before == 0x41 || before == 0x49) continue; /* with a prefix it loads r8 */
    __builtin_memcpy(&loaded, at + 1, 4);
    if (loaded == number) return true;
  }
  return false;
}

/**
 * musl makes the calls that wait in one place, __syscall_cp_asm: mov %r11, 8(%rsp); syscall; ret. Its caller has the number still in a register that a
 * call keeps, as it compares it with that of close: cmp $3, %reg. Returns it, or -1 when this is not musl.
 */
static inline int64_t arch_number_of_musl(const struct sigcontext *r) {
  static const unsigned char wait[] = {0x4c, 0x89, 0x5c, 0x24, 0x08, 0x0f, 0x05, 0xc3};
  const unsigned char *code = (const unsigned char *)r->rip - 7;
  for (unsigned i = 0; i < sizeof wait; i++)
    if (code[i] != wait[i]) return -1;
  const unsigned char *caller = *(const unsigned char *const *)r->rsp;
  for (int i = 0; i < 16; i++) {
    const unsigned char *at = caller + i;
    if ((at[0] & 0xfe) != 0x48 || at[1] != 0x83 || (at[2] & 0xf8) != 0xf8 || at[3] != 3) continue;
    switch ((at[0] & 1) << 3 | (at[2] & 7)) {
      case 3: return r->rbx;
      case 5: return r->rbp;
      case 12: return r->r12;
      case 13: return r->r13;
      case 14: return r->r14;
      case 15: return r->r15;
    }
  }
  return -1;
}

/** True when the frame's code was interrupted in the system call of this number, which so ended with EINTR: `syscall` leaves the address behind it in rcx. */
static inline bool arch_interrupted_call(const struct ucontext *context, uint32_t number, uint64_t *argument) {
  const struct sigcontext *r = &context->uc_mcontext;
  const unsigned char *code = (const unsigned char *)r->rip;
  if (r->rax != (uint64_t)-4 /* EINTR */ || r->rcx != r->rip || (r->rip & 4095) < 8 || code[-2] != 0x0f || code[-1] != 0x05) return false;
  if (!arch_loads_number(code, number) && arch_number_of_musl(r) != number) return false;
  const uint64_t values[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
  for (int i = 0; i < 6; i++) argument[i] = values[i];
  return true;
}

static inline void arch_begin_call_anew(struct ucontext *context, uint32_t number) {
  context->uc_mcontext.rax = number;
  context->uc_mcontext.rip -= 2;
}

/** struct user_regs_struct, as NT_PRSTATUS holds it. */
static inline void arch_general_registers(const struct ucontext *context, uint64_t tls, uint64_t tls2, uint64_t *out) {
  const struct sigcontext *r = &context->uc_mcontext;
  const uint64_t values[ARCH_GENERAL_REGISTERS] = {
    r->r15, r->r14, r->r13, r->r12, r->rbp, r->rbx, r->r11, r->r10, r->r9,
    r->r8,  r->rax, r->rcx, r->rdx, r->rsi, r->rdi, (uint64_t)-1, r->rip, r->cs,
    r->eflags, r->rsp, r->ss, tls, tls2, 0, 0, 0, 0,
  };
  for (int i = 0; i < ARCH_GENERAL_REGISTERS; i++) out[i] = values[i];
}

#define ARCH_FLOAT_SIZE 512
/** NT_FPREGSET: the FXSAVE image; 0 when there is none. */
static inline const void *arch_float_registers(const struct ucontext *context) {
  return (const void *)context->uc_mcontext.fpstate;
}

/** Where this processor's XSAVE puts a component (CPUID leaf 13). */
static inline void arch_component(unsigned number, uint32_t *offset, uint32_t *size) {
  uint32_t a = 13, c = number, b, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  *offset = b;
  *size = a;
}

#define ARCH_VECTOR_NOTE 0x202 /* NT_X86_XSTATE, name "LINUX" */
#define ARCH_VECTOR_SIZE 2696
/**
 * The XSAVE area in Intel's layout, which gdb expects wherever the image was made:
 * AVX 576 (256 bytes), opmask 1088 (64), ZMM_Hi256 1152 (512), Hi16_ZMM 1664 (1024), PKRU 2688 (8).
 * Returns the size, 0 when the frame has no extended state.
 */
static inline uint32_t arch_vector_registers(const struct ucontext *context, unsigned char *out) {
  static const struct { unsigned number; uint32_t offset, size; } standard[] = {
    {2, 576, 256}, {5, 1088, 64}, {6, 1152, 512}, {7, 1664, 1024}, {9, 2688, 8},
  };
  const unsigned char *state = (const unsigned char *)context->uc_mcontext.fpstate;
  if (state == 0 || *(const uint32_t *)(state + 464) != 0x46505853 /* FP_XSTATE_MAGIC1 */) return 0;
  const uint64_t features = *(const uint64_t *)(state + 472);
  const uint32_t size = *(const uint32_t *)(state + 480);
  for (int i = 0; i < ARCH_VECTOR_SIZE; i++) out[i] = i < 576 ? state[i] : 0;
  for (int i = 464; i < 512; i++) out[i] = 0;
  uint64_t known = 3;
  for (unsigned i = 0; i < sizeof standard / sizeof *standard; i++) {
    uint32_t offset, length;
    if (!(features >> standard[i].number & 1)) continue;
    arch_component(standard[i].number, &offset, &length);
    if (length > standard[i].size || offset + length > size) continue;
    known |= 1ul << standard[i].number;
    for (uint32_t k = 0; k < length; k++) out[standard[i].offset + k] = state[offset + k];
  }
  *(uint64_t *)(out + 464) = known;
  *(uint64_t *)(out + 512) &= known;
  return known >> 9 & 1 ? 2696 : 2688;
}

/** clone3; the child calls `entry(argument)` on its new stack, which must never return. */
static inline long arch_clone(const struct clone_args *arguments, unsigned long size, void (*entry)(void *), void *argument) {
  long result;
  register void (*r8)(void *) __asm__("r8") = entry;
  register void *r9 __asm__("r9") = argument;
  __asm__ volatile("syscall\n\t"
                   "test %%rax, %%rax\n\t"
                   "jnz 1f\n\t"
                   "xor %%ebp, %%ebp\n\t"
                   "and $-16, %%rsp\n\t"
                   "mov %%r9, %%rdi\n\t"
                   "call *%%r8\n\t"
                   "ud2\n"
                   "1:"
                   : "=a"(result)
                   : "a"(__NR_clone3), "D"(arguments), "S"(size), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#define ARCH_JUMP_SIZE 13
/** A jump to any address, without using the stack or a register that a function gets arguments in. */
static inline void arch_write_jump(unsigned char *at, uint64_t target) {
  at[0] = 0x49, at[1] = 0xbb; /* movabs $target, %r11 */
  for (int i = 0; i < 8; i++) at[2 + i] = target >> 8 * i;
  at[10] = 0x41, at[11] = 0xff, at[12] = 0xe3; /* jmp *%r11 */
}
