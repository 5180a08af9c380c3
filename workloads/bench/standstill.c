/*
 * How long a small program stands still for a checkpoint, and for a fork of the same memory alone: by turns, some rounds of each. Prints the
 * medians in nanoseconds, and the least: "CHECKPOINT FORK CHECKPOINT FORK".
 *
 *   usage: standstill MEGABYTES ROUNDS        with libckpt.so inside, and IMAGO_OUTPUT the name of the image
 *
 * Between two rounds it waits until the image is there, and touches its memory, so that each starts from the same.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 1000 };

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static pid_t child;

static void only_fork(int number) {
  (void)number;
  child = fork();
  while (child == 0) pause(); /* it holds its copy, as a writer does */
}

static int ascending(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  const char *image = getenv("IMAGO_OUTPUT");
  if (argc != 3 || image == NULL) return 2;
  const size_t size = strtoull(argv[1], NULL, 10) << 20;
  const int rounds = atoi(argv[2]) < MOST ? atoi(argv[2]) : MOST;
  unsigned char *memory = malloc(size);
  static uint64_t times[2][MOST];
  signal(SIGUSR1, only_fork);
  for (int round = 0; round < 2 * rounds; round++) {
    const int what = round % 2;
    unlink(image);
    for (size_t at = 0; at < size; at += PAGE) memory[at]++;
    const uint64_t begun = now();
    kill(getpid(), what == 0 ? SIGUSR2 : SIGUSR1);
    times[what][round / 2] = now() - begun;
    const struct timespec moment = {0, 20000000}; /* the writer has some things left to do then */
    for (int i = 0; what == 0 && access(image, F_OK) != 0 && i < 2000; i++) nanosleep(&moment, NULL);
    if (what == 1) kill(child, SIGKILL), waitpid(child, NULL, 0);
    nanosleep(&moment, NULL);
  }
  for (int what = 0; what < 2; what++) qsort(times[what], rounds, sizeof times[what][0], ascending);
  printf("%lu %lu", (unsigned long)times[0][rounds / 2], (unsigned long)times[1][rounds / 2]);
  printf(" %lu %lu\n", (unsigned long)times[0][0], (unsigned long)times[1][0]);
  return 0;
}
