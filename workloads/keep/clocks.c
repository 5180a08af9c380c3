/* Threads that are nearly always within the vDSO: the time they get never goes back, and never fails. */
#include "keep.h"
#include <pthread.h>
#include <sys/time.h>

static volatile bool over;

static uint64_t monotonic(void) {
  struct timespec time;
  check(clock_gettime(CLOCK_MONOTONIC, &time) == 0, "CLOCK_MONOTONIC");
  return time.tv_sec * 1000000000ul + time.tv_nsec;
}

static uint64_t real(void) {
  struct timespec time;
  check(clock_gettime(CLOCK_REALTIME, &time) == 0, "CLOCK_REALTIME");
  return time.tv_sec * 1000000000ul + time.tv_nsec;
}

static uint64_t of_day(void) {
  struct timeval time;
  check(gettimeofday(&time, 0) == 0, "gettimeofday");
  return time.tv_sec * 1000000ul + time.tv_usec;
}

static void *ask(void *clock) {
  uint64_t (*const now)(void) = (uint64_t (*)(void))clock;
  for (uint64_t last = now(), next; !over && problems < 5; last = next) {
    next = now();
    check(next >= last, "the time went back by %lu", last - next);
  }
  return 0;
}

int main(void) {
  uint64_t (*const clocks[])(void) = {real, of_day, monotonic};
  pthread_t threads[3];
  setvbuf(stdout, 0, _IONBF, 0);
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, ask, (void *)clocks[i]);
  ready();
  for (uint64_t last = monotonic(), next, i = 1; i % 10000 != 0 || !may_go(); i++, last = next) { /* the first thread, too */
    next = monotonic();
    check(next >= last, "the time of the first thread went back by %lu", last - next);
    if (problems > 5) break;
  }
  over = true;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  return verdict();
}
