/*
 * The runtime that `imago cc` links into a program, compiled for each ISA. What the rest of imago reads of it is fixed
 * in src/toolchain/program.ts.
 *
 *   __imago_thread    thread-local: { shadow pointer, shadow base, parked, reserved }, a word each
 *   __imago_request   the word that polls test: not 0 while somebody wants all threads parked
 *   __imago_parked    how many threads are parked;   __imago_threads: how many there are
 *   __imago_leave     code: where the outermost function of a thread returns to
 */
#ifndef IMAGO_RUNTIME_H
#define IMAGO_RUNTIME_H

struct imago_thread {
  char *shadow_pointer;
  char *shadow_base;
  unsigned long parked;
  unsigned long reserved;
};

extern _Thread_local struct imago_thread __imago_thread;
extern volatile unsigned long __imago_request;
extern volatile unsigned long __imago_parked;
extern volatile unsigned long __imago_threads;

/* Gives the calling thread a shadow stack of so many bytes, and variables of its own. */
void __imago_enter_thread(unsigned long shadow_size);
void __imago_leave_thread(char *shadow_base, unsigned long shadow_size);
void __imago_enter_first_thread(void);
/* Calls function(a, b, c) on an empty frame chain; it returns to __imago_leave. */
_Noreturn void __imago_call(long a, long b, long c, void *function);
/* Waits while there is a request. */
void __imago_park(void);
/* In the checkpointer (native/preload/program.c): waits a while, or does the thread's share of a checkpoint. */
void __imago_stand_still(void);
/* How many threads musl knows besides the first. */
int __imago_other_threads(void);

#endif
