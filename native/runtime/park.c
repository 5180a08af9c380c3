/*
 * Where threads wait for a checkpoint. SIGUSR2 asks for it (native/preload/program.c); every poll then leads here, with the
 * thread's shadow frames complete. Whoever takes the image clears the request and wakes the threads; in the image it is clear,
 * so a thread that goes on elsewhere just returns from the call.
 */
#include "runtime.h"
#include <stdint.h>
#include <stdlib.h>

/* Set by IMAGO_SCRAMBLE=1, for tests: every poll parks for no time and returns with other callee-saved registers. */
static int scramble;

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

/* What a frame pointer leads to, on both ISAs. */
struct record {
  const struct record *caller;
  uintptr_t return_address;
};
/* Size of the shadow frame at each site (src/toolchain/shadow-frames.ts), and where the program's own code lies (layout.ts). */
extern const unsigned long __imago_site_sizes[];
extern const char __imago_program_start[], __imago_program_end[], __imago_leave[];

/*
 * Whether the thread's frames are those of its shadow stack, one for one, up to its outermost function. In what libc called back, in a signal
 * handler, in a constructor they are not: there somebody returns to where no site is.
 */
static int is_described(const struct record *record) {
  const char *shadow = __imago_thread.shadow_pointer;
  for (; record->return_address != (uintptr_t)__imago_leave; record = record->caller) {
    const int is_ours = record->return_address >= (uintptr_t)__imago_program_start && record->return_address < (uintptr_t)__imago_program_end;
    if (!is_ours || shadow >= __imago_thread.shadow_base) return 0;
    shadow += __imago_site_sizes[*(const unsigned long *)shadow];
  }
  return shadow == __imago_thread.shadow_base;
}

void __imago_park(void) {
  if (__imago_request == 0 || !is_described(__builtin_frame_address(0))) return;
  if (scramble) {
    __attribute__((musttail)) return scramble_registers();
  }
  __imago_thread.parked = 1;
  __atomic_add_fetch(&__imago_parked, 1, __ATOMIC_SEQ_CST);
  while (__imago_request != 0) __imago_stand_still();
  __atomic_sub_fetch(&__imago_parked, 1, __ATOMIC_SEQ_CST);
  __imago_thread.parked = 0;
}

void __imago_watch(void) {
  const char *wish = getenv("IMAGO_SCRAMBLE");
  if (wish != NULL && wish[0] == '1') scramble = 1, __imago_request = 1;
}
