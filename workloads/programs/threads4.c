/* Four threads compute parts of one sum under a mutex and a barrier; the output is the same on every run. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, PHASES = 40 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t phase_end;
static uint64_t total;
static long work_per_phase = 400000;

static void *worker(void *argument) {
  uint64_t state = (uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
  double fraction = 0.5;
  for (int phase = 0; phase < PHASES; phase++) {
    uint64_t sum = 0;
    for (long i = 0; i < work_per_phase; i++) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      sum += state >> 40;
      fraction = 3.9 * fraction * (1.0 - fraction);
    }
    pthread_mutex_lock(&lock);
    total += sum + (uint64_t)(fraction * 1e6);
    pthread_mutex_unlock(&lock);
    if (pthread_barrier_wait(&phase_end) == PTHREAD_BARRIER_SERIAL_THREAD) {
      printf("phase %d total %llu\n", phase, (unsigned long long)total);
      fflush(stdout);
    }
    pthread_barrier_wait(&phase_end);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 1) work_per_phase = atol(argv[1]);
  pthread_t threads[THREADS];
  pthread_barrier_init(&phase_end, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, worker, (void *)i) != 0) return 1;
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("done %llu\n", (unsigned long long)total);
  return 0;
}
