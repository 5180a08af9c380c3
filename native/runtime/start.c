/*
 * From musl's start to the program's main, and what happens when a thread's outermost function returns.
 *
 *   [ guard page │ … shadow frames grow down … ] shadow base [ the thread's variables ]      in the window of addresses that both ISAs have
 */
#define _GNU_SOURCE
#include "runtime.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD = 65536 };
static const unsigned long MAIN_SHADOW = 256ul << 20;

_Thread_local struct imago_thread __imago_thread;
/* Where the thread's variables are, less where their pattern is (src/toolchain/thread-locals.ts). */
_Thread_local unsigned long __imago_storage;
extern const char __imago_storage_start[], __imago_storage_end[];
static _Thread_local int is_main;
volatile unsigned long __imago_request, __imago_parked, __imago_threads = 1;

extern const unsigned char __imago_identity_value[32];
unsigned char __imago_identity[32];

int __imago_user_main(int, char **, char **);
void __imago_watch(void);

static unsigned long mapping_size(unsigned long shadow_size) {
  return GUARD + shadow_size + (unsigned long)(__imago_storage_end - __imago_storage_start);
}

void __imago_enter_thread(unsigned long shadow_size) {
  char *low = mmap(NULL, mapping_size(shadow_size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (low == MAP_FAILED || mprotect(low, GUARD, PROT_NONE) != 0) {
    fputs("imago: no memory for a shadow stack\n", stderr);
    abort();
  }
  char *base = __imago_thread.shadow_base = __imago_thread.shadow_pointer = low + GUARD + shadow_size;
  memcpy(base, __imago_storage_start, (size_t)(__imago_storage_end - __imago_storage_start));
  __imago_storage = (unsigned long)base - (unsigned long)__imago_storage_start;
}

void __imago_leave_thread(char *shadow_base, unsigned long shadow_size) {
  munmap(shadow_base - shadow_size - GUARD, mapping_size(shadow_size));
}

void __imago_enter_first_thread(void) { __imago_enter_thread(MAIN_SHADOW); }

/* The result of the outermost function: of main, or of a thread. */
__attribute__((used, noreturn)) void __imago_ended(long result) {
  if (is_main) exit((int)result);
  pthread_exit((void *)result);
}

/* Each in a section of its own, so that __imago_leave is at the same address on both ISAs. */
#if defined(__x86_64__)
__asm__(".section .text.__imago_leave,\"ax\",@progbits\n"
        ".globl __imago_leave\n.type __imago_leave,@function\n"
        "__imago_leave:\n"
        "  movq %rax, %rdi\n  andq $-16, %rsp\n  xorl %ebp, %ebp\n  call __imago_ended\n  ud2\n"
        ".size __imago_leave, .-__imago_leave\n"
        ".section .text.__imago_call,\"ax\",@progbits\n"
        ".globl __imago_call\n.type __imago_call,@function\n"
        "__imago_call:\n"
        "  andq $-16, %rsp\n  xorl %ebp, %ebp\n  movq $__imago_leave, %rax\n  pushq %rax\n  jmp *%rcx\n"
        ".size __imago_call, .-__imago_call\n.text\n");
#elif defined(__aarch64__)
__asm__(".section .text.__imago_leave,\"ax\",@progbits\n"
        ".globl __imago_leave\n.type __imago_leave,@function\n"
        "__imago_leave:\n"
        "  mov x29, xzr\n  bl __imago_ended\n  brk #1\n"
        ".size __imago_leave, .-__imago_leave\n"
        ".section .text.__imago_call,\"ax\",@progbits\n"
        ".globl __imago_call\n.type __imago_call,@function\n"
        "__imago_call:\n"
        "  mov x29, xzr\n  adrp x30, __imago_leave\n  add x30, x30, :lo12:__imago_leave\n  br x3\n"
        ".size __imago_call, .-__imago_call\n.text\n");
#else
#error "x86-64 and aarch64 only"
#endif

/* A copy off the kernel's stack, which may move. */
static char **copy_strings(char **list) {
  int count = 0;
  while (list[count] != NULL) count++;
  char **copy = malloc((size_t)(count + 1) * sizeof *copy);
  for (int i = 0; copy != NULL && i < count; i++)
    if ((copy[i] = strdup(list[i])) == NULL) copy = NULL;
  if (copy == NULL) abort();
  copy[count] = NULL;
  return copy;
}

int main(int argc, char **argv, char **envp) {
  is_main = 1;
  memcpy(__imago_identity, __imago_identity_value, sizeof __imago_identity);
  extern char **environ;
  argv = copy_strings(argv);
  environ = copy_strings(envp);
  if (argc > 0) {
    extern char *__progname, *__progname_full;
    const char *slash = strrchr(argv[0], '/');
    __progname_full = argv[0];
    __progname = argv[0] + (slash == NULL ? 0 : slash + 1 - argv[0]);
  }
  __imago_watch();
  __imago_call(argc, (long)argv, (long)environ, (void *)__imago_user_main);
}
