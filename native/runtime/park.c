/*
 * Where threads wait for a checkpoint. SIGUSR2 asks for it; every poll then leads here, with the thread's shadow frames
 * complete. Whoever takes the image clears the request and wakes the threads; in the image both words are 0, so a thread
 * that goes on elsewhere just returns from the call.
 */
#define _GNU_SOURCE
#include "runtime.h"
#include <errno.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1 };

/* How deep the thread is in libc functions that call back: frames of libc lie between those of the program. */
_Thread_local unsigned long __imago_held;
/* Set by IMAGO_SCRAMBLE=1, for tests: every poll parks for no time and returns with other callee-saved registers. */
static int scramble;

/* Low half of a word: the futex. Both ISAs are little-endian. */
static void futex_wait(volatile unsigned long *word, unsigned long value) {
  int saved = errno;
  syscall(SYS_futex, word, FUTEX_WAIT, (unsigned)value, NULL, NULL, 0);
  errno = saved;
}

/* Breaks the calling convention on purpose: no caller may need these registers after a migration point. */
__attribute__((naked, noinline)) static void scramble_registers(void) {
#if defined(__x86_64__)
  __asm__("movq $-1, %rbx\n movq %rbx, %r12\n movq %rbx, %r13\n movq %rbx, %r14\n movq %rbx, %r15\n ret");
#else
  __asm__("mov x19, #-1\n mov x20, x19\n mov x21, x19\n mov x22, x19\n mov x23, x19\n mov x24, x19\n"
          "mov x25, x19\n mov x26, x19\n mov x27, x19\n mov x28, x19\n"
          "fmov d8, x19\n fmov d9, x19\n fmov d10, x19\n fmov d11, x19\n"
          "fmov d12, x19\n fmov d13, x19\n fmov d14, x19\n fmov d15, x19\n ret");
#endif
}

void __imago_park(void) {
  if (__imago_request == 0 || __imago_held != 0) return;
  if (scramble) {
    __attribute__((musttail)) return scramble_registers();
  }
  __imago_thread.parked = 1;
  __atomic_add_fetch(&__imago_parked, 1, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, &__imago_parked, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
  while (__imago_request != 0) futex_wait(&__imago_request, __imago_request);
  __atomic_sub_fetch(&__imago_parked, 1, __ATOMIC_SEQ_CST);
  __imago_thread.parked = 0;
}

static void on_request(int signal) {
  (void)signal;
  __imago_request = 1;
}

void __imago_watch(void) {
  const char *wish = getenv("IMAGO_SCRAMBLE");
  if (wish != NULL && wish[0] == '1') scramble = 1, __imago_request = 1;
  struct sigaction action = {.sa_handler = on_request, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR2, &action, NULL);
}
