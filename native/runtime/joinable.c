/*
 * Threads that somebody may still join. libc forgets a thread that has ended, but its record stays until the join, and a
 * pthread_t of the program leads to it: who changes the ISA must find it to translate it (src/retarget/joinable-threads.ts).
 *
 *   __imago_joinable ──► { next, thread } ──► { next, thread } ──► 0
 */
#define _GNU_SOURCE
#include "runtime.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

struct joinable {
  struct joinable *next;
  pthread_t thread;
};
struct joinable *__imago_joinable;
static volatile char lock;

static void enter(void) {
  while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE)) sched_yield();
}
static void leave(void) { __atomic_clear(&lock, __ATOMIC_RELEASE); }

/* The room for a thread that is about to be made; NULL when there is no memory. */
struct joinable *__imago_joinable_room(void) { return malloc(sizeof(struct joinable)); }

void __imago_joinable_add(struct joinable *room, pthread_t thread) {
  room->thread = thread;
  enter();
  room->next = __imago_joinable;
  __imago_joinable = room;
  leave();
}

static void forget(pthread_t thread) {
  struct joinable *found = NULL;
  enter();
  for (struct joinable **at = &__imago_joinable; *at != NULL; at = &(*at)->next)
    if ((*at)->thread == thread) {
      found = *at;
      *at = found->next;
      break;
    }
  leave();
  free(found);
}

int __imago_pthread_detach(pthread_t thread) {
  forget(thread);
  return pthread_detach(thread);
}
int __imago_pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until) {
  int failed = pthread_timedjoin_np(thread, result, until);
  if (failed == 0) forget(thread);
  return failed;
}
int __imago_pthread_tryjoin_np(pthread_t thread, void **result) {
  int failed = pthread_tryjoin_np(thread, result);
  if (failed == 0) forget(thread);
  return failed;
}
int __imago_thrd_detach(pthread_t thread) { return __imago_pthread_detach(thread) == 0 ? thrd_success : thrd_error; }
