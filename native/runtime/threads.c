/*
 * Threads and handlers of the program: each thread has a shadow stack of its own, and a handler one below whatever it interrupts.
 * Compiled code calls these under libc's names (src/toolchain/renames.ts).
 */
#define _GNU_SOURCE
#include "runtime.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <threads.h>

struct joinable; /* joinable.c */
struct joinable *__imago_joinable_room(void);
void __imago_joinable_add(struct joinable *, pthread_t);

static const unsigned long SHADOW = 64ul << 20;
static pthread_key_t leaving;
static pthread_once_t made = PTHREAD_ONCE_INIT;

struct start {
  void *(*function)(void *);
  void *argument;
};

/*
 * Destructor of a key. Those of the program's own keys may need the shadow stack still, so it asks to be called again
 * until the last round (PTHREAD_DESTRUCTOR_ITERATIONS is 4).
 */
static void release(void *base) {
  static _Thread_local int round;
  if (++round < 4) {
    pthread_setspecific(leaving, base);
    return;
  }
  __atomic_sub_fetch(&__imago_threads, 1, __ATOMIC_SEQ_CST);
  __imago_leave_thread(base, SHADOW);
}

static void make_key(void) {
  if (pthread_key_create(&leaving, release) != 0) abort();
}

static void *enter(void *argument) {
  struct start start = *(struct start *)argument;
  free(argument);
  __imago_enter_thread(SHADOW);
  pthread_setspecific(leaving, __imago_thread.shadow_base);
  __imago_call((long)start.argument, 0, 0, (void *)start.function);
}

int __imago_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
  pthread_once(&made, make_key);
  int detached = PTHREAD_CREATE_JOINABLE;
  if (attributes != NULL) pthread_attr_getdetachstate(attributes, &detached);
  struct start *start = malloc(sizeof *start);
  struct joinable *room = __imago_joinable_room();
  int failed = 11; /* EAGAIN */
  if (start != NULL && room != NULL) {
    *start = (struct start){function, argument};
    __atomic_add_fetch(&__imago_threads, 1, __ATOMIC_SEQ_CST);
    failed = pthread_create(thread, attributes, enter, start);
    if (failed != 0) __atomic_sub_fetch(&__imago_threads, 1, __ATOMIC_SEQ_CST);
  }
  if (failed != 0) free(start);
  if (failed == 0 && detached == PTHREAD_CREATE_JOINABLE)
    __imago_joinable_add(room, *thread);
  else
    free(room);
  return failed;
}

/* C11's threads are POSIX's in musl. Their functions return an int, so nobody looks at the upper half of the result. */
int __imago_thrd_create(thrd_t *thread, thrd_start_t function, void *argument) {
  int failed = __imago_pthread_create(thread, NULL, (void *(*)(void *))(void *)function, argument);
  return failed == 0 ? thrd_success : failed == 11 ? thrd_nomem : thrd_error;
}

/* libc calls the function last, in the place of its own frame; here a frame of the runtime stays in between. */
void __imago__pthread_cleanup_pop(struct __ptcb *entry, int run) {
  _pthread_cleanup_pop(entry, 0);
  if (run) entry->__f(entry->__x);
  __asm__ volatile("");
}

/*
 * Signal handlers run on top of whatever the thread does, perhaps between the first store into a new shadow frame and
 * the store of the pointer to it: so they begin below the largest frame there can be, and no poll in them parks.
 */
extern const unsigned long __imago_frame_sizes[], __imago_frame_count;
typedef void handler(int);
typedef void handler_with_context(int, siginfo_t *, void *);
static void *volatile handlers[65];

static unsigned long largest_frame(void) {
  static unsigned long largest;
  for (unsigned long i = 0; largest == 0 && i < __imago_frame_count; i++) {
    unsigned long most = 0;
    for (unsigned long k = 0; k < __imago_frame_count; k++)
      if (__imago_frame_sizes[k] > most) most = __imago_frame_sizes[k];
    largest = most;
  }
  return largest;
}

static void handle(int number, siginfo_t *info, void *context) {
  char *pointer = __imago_thread.shadow_pointer;
  __imago_thread.shadow_pointer = pointer - largest_frame();
  ((handler_with_context *)handlers[number])(number, info, context);
  __imago_thread.shadow_pointer = pointer;
}

int __imago_sigaction(int number, const struct sigaction *wanted, struct sigaction *old) {
  if (number < 1 || number > 64) return sigaction(number, wanted, old);
  void *before = handlers[number];
  struct sigaction action;
  if (wanted != NULL) {
    action = *wanted;
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
      handlers[number] = (void *)action.sa_sigaction;
      action.sa_sigaction = handle; /* takes three arguments, and a handler of one ignores the others */
      action.sa_flags |= SA_SIGINFO;
    }
  }
  int failed = sigaction(number, wanted == NULL ? NULL : &action, old);
  if (failed == 0 && old != NULL && old->sa_sigaction == handle) old->sa_sigaction = (handler_with_context *)before;
  return failed;
}

handler *__imago_signal(int number, handler *wanted) {
  struct sigaction action = {.sa_handler = wanted, .sa_flags = SA_RESTART}, old;
  sigemptyset(&action.sa_mask);
  return __imago_sigaction(number, &action, &old) != 0 ? SIG_ERR : old.sa_handler;
}
