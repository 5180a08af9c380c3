/*
 * Four threads, the first of them main: each counts Collatz steps over its share of the numbers, takes the next share
 * under a mutex, keeps counters of its own in thread-local storage and adds them up at the end. Nobody blocks for
 * long: who waits, yields in a loop. Usage: threads [NUMBERS] [SHARE].
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 4

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long next_number = 1, numbers, share;
static long total_steps, total_numbers, longest;
static atomic_int finished;
static _Thread_local long steps = 0;
static _Thread_local long own[3] = {7, 0, 0}; /* a start value, numbers done, longest chain */

static int steps_of(unsigned long n) {
  int count = 0;
  while (n != 1) {
    n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    count++;
  }
  return count;
}

/* The first number of the next share, or 0 when all are taken. */
static long take_share(void) {
  pthread_mutex_lock(&lock);
  long first = next_number <= numbers ? next_number : 0;
  next_number += share;
  pthread_mutex_unlock(&lock);
  return first;
}

static void work(void) {
  for (long first = take_share(); first != 0; first = take_share()) {
    long end = first + share <= numbers + 1 ? first + share : numbers + 1;
    for (long n = first; n < end; n++) {
      long count = steps_of((unsigned long)n);
      steps += count;
      own[1]++;
      if (count > own[2]) own[2] = count;
    }
  }
  pthread_mutex_lock(&lock);
  total_steps += steps;
  total_numbers += own[1] + own[0] - 7;
  if (own[2] > longest) longest = own[2];
  pthread_mutex_unlock(&lock);
  atomic_fetch_add(&finished, 1);
}

static void *thread_main(void *argument) {
  own[0] += (long)argument;
  own[0] -= (long)argument;
  work();
  return (void *)(own[1] >= 0 ? 1L : 0L);
}

int main(int argc, char **argv) {
  numbers = argc > 1 ? atol(argv[1]) : 400000;
  share = argc > 2 ? atol(argv[2]) : 500;
  pthread_t threads[THREADS];
  for (long i = 1; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, thread_main, (void *)i) != 0) return 1;
  work();
  while (atomic_load(&finished) < THREADS) sched_yield();
  int right = 1;
  for (int i = 1; i < THREADS; i++) {
    void *result = NULL;
    right &= pthread_join(threads[i], &result) == 0 && result == (void *)1L;
  }
  long expected = 0;
  for (long n = 1; n <= numbers; n++) expected += steps_of((unsigned long)n);
  printf("%ld numbers, %ld steps, longest chain %ld\n", total_numbers, total_steps, longest);
  right &= expected == total_steps && total_numbers == numbers;
  printf("threads: %s\n", right ? "RIGHT" : "WRONG");
  return right ? 0 : 1;
}
