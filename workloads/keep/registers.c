/* Every register a program sees: integer, flags, x87, MXCSR, vector registers as this processor has them, FS and GS base. */
#include "keep.h"
#include <asm/prctl.h>
#include <pthread.h>

volatile uint32_t flag;

/* Loads rbx, rdx … r15 and some flags, spins until `flag` is set, stores what is there. */
static void spin_integers(const uint64_t *in, uint64_t *out) {
  __asm__ volatile(
    "push %%rbx\n push %%rbp\n push %1\n mov %0, %%rax\n"
    "mov 0(%%rax),%%rbx\n mov 8(%%rax),%%rdx\n mov 16(%%rax),%%rsi\n mov 24(%%rax),%%rdi\n mov 32(%%rax),%%rbp\n mov 40(%%rax),%%r8\n"
    "mov 48(%%rax),%%r9\n mov 56(%%rax),%%r10\n mov 64(%%rax),%%r11\n mov 72(%%rax),%%r12\n mov 80(%%rax),%%r13\n mov 88(%%rax),%%r14\n"
    "mov 96(%%rax),%%r15\n mov 104(%%rax),%%rax\n std\n stc\n"
    "1: mov flag(%%rip), %%ecx\n jrcxz 1b\n" /* neither touches the flags */
    "pushf\n pop %%rcx\n cld\n xchg %%rax, (%%rsp)\n"
    "mov %%rbx,0(%%rax)\n mov %%rdx,8(%%rax)\n mov %%rsi,16(%%rax)\n mov %%rdi,24(%%rax)\n mov %%rbp,32(%%rax)\n mov %%r8,40(%%rax)\n"
    "mov %%r9,48(%%rax)\n mov %%r10,56(%%rax)\n mov %%r11,64(%%rax)\n mov %%r12,72(%%rax)\n mov %%r13,80(%%rax)\n mov %%r14,88(%%rax)\n"
    "mov %%r15,96(%%rax)\n mov %%rcx,112(%%rax)\n pop %%rcx\n mov %%rcx,104(%%rax)\n pop %%rbp\n pop %%rbx\n"
    :
    : "r"(in), "r"(out)
    : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

static void *integers(void *unused) {
  uint64_t in[14], out[15];
  for (int i = 0; i < 14; i++) in[i] = 0x0123456789abcdeful * (i + 3);
  spin_integers(in, out);
  for (int i = 0; i < 14; i++) check(in[i] == out[i], "integer register %d: %lx", i, out[i]);
  check((out[14] & 0x401) == 0x401, "flags: %lx", out[14]);
  return unused;
}

#define LOAD(n) "vmovdqu64 " #n "*64(%0), %%zmm" #n "\n"
#define STORE(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%1)\n"
#define LOAD_MASK(n) "kmovq " #n "*8(%2), %%k" #n "\n"
#define STORE_MASK(n) "kmovq %%k" #n ", " #n "*8(%3)\n"
#define ALL(f) \
  f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) \
    f(25) f(26) f(27) f(28) f(29) f(30) f(31)
#define MASKS(f) f(1) f(2) f(3) f(4) f(5) f(6) f(7)

__attribute__((target("avx512f,avx512bw"))) static void spin_512(const void *in, void *out, const void *masks, void *masks_out) {
  __asm__ volatile(ALL(LOAD) MASKS(LOAD_MASK) "1: cmpl $0, flag(%%rip)\n je 1b\n" ALL(STORE) MASKS(STORE_MASK) "vzeroupper\n"
                   :
                   : "r"(in), "r"(out), "r"(masks), "r"(masks_out)
                   : "memory", "cc", "k1", "k2", "k3", "k4", "k5", "k6", "k7");
}

#define LOAD_256(n) "vmovdqu " #n "*64(%0), %%ymm" #n "\n"
#define STORE_256(n) "vmovdqu %%ymm" #n ", " #n "*64(%1)\n"
#define SIXTEEN(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)

__attribute__((target("avx"))) static void spin_256(const void *in, void *out) {
  __asm__ volatile(SIXTEEN(LOAD_256) "1: cmpl $0, flag(%%rip)\n je 1b\n" SIXTEEN(STORE_256) "vzeroupper\n" : : "r"(in), "r"(out) : "memory", "cc");
}

static void *vectors(void *unused) {
  static uint64_t in[32][8], out[32][8], masks[8], masks_out[8];
  for (int i = 0; i < 32; i++)
    for (int k = 0; k < 8; k++) in[i][k] = 0x9e3779b97f4a7c15ul * (i * 8 + k + 1);
  for (int i = 0; i < 8; i++) masks[i] = 0x5555aaaa12345678ul * (i + 1);
  const bool wide = __builtin_cpu_supports("avx512bw");
  if (wide) spin_512(in, out, masks, masks_out);
  else spin_256(in, out);
  for (int i = 0; i < (wide ? 32 : 16); i++) check(memcmp(in[i], out[i], wide ? 64 : 32) == 0, "vector register %d", i);
  for (int i = 1; wide && i < 8; i++) check(masks[i] == masks_out[i], "mask register %d", i);
  return unused;
}

static void *floats(void *unused) {
  long double out[8];
  uint32_t control = 0x1f80 | 0x6000, control_out = 0; /* round to zero */
  uint16_t word = 0x37f | 0x400, word_out = 0;         /* round down */
  __asm__ volatile(
    "ldmxcsr %1\n fldcw %2\n fldpi\n fldl2e\n fldl2t\n fldln2\n fld1\n"
    "1: cmpl $0, flag(%%rip)\n je 1b\n"
    "stmxcsr %3\n fnstcw %4\n fstpt 0(%0)\n fstpt 16(%0)\n fstpt 32(%0)\n fstpt 48(%0)\n fstpt 64(%0)\n"
    :
    : "r"(out), "m"(control), "m"(word), "m"(control_out), "m"(word_out)
    : "memory", "cc");
  check(out[0] == 1.0L && out[4] > 3.14159265358979323L && out[4] < 3.14159265358979325L && out[3] > 1.44269504088896340L, "x87 registers");
  check(control_out == control, "MXCSR: %x", control_out);
  check(word_out == word, "x87 control word: %x", word_out);
  return unused;
}

int main(void) {
  static uint64_t there = 0x1122334455667788;
  pthread_t threads[3];
  setvbuf(stdout, 0, _IONBF, 0);
  syscall(SYS_arch_prctl, ARCH_SET_GS, &there);
  pthread_create(&threads[0], 0, integers, 0);
  pthread_create(&threads[1], 0, vectors, 0);
  pthread_create(&threads[2], 0, floats, 0);
  usleep(20000);
  uint64_t fs = 0, gs = 0, value = 0, fs_before = 0;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_before);
  wait_for_go();
  syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
  syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
  __asm__("mov %%gs:0, %0" : "=r"(value));
  check(fs == fs_before, "FS base");
  check(gs == (uint64_t)&there && value == there, "GS base");
  flag = 1;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  return verdict();
}
