/* Counts to a number with a nap at each step, prints it, and exits with 7: the smallest thing worth waking up. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
  long steps = argc > 1 ? atol(argv[1]) : 100;
  unsigned long sum = 0;
  printf("counting\n");
  fflush(stdout);
  for (long i = 1; i <= steps; i++) {
    sum = sum * 31 + (unsigned long)i;
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
  printf("counted %lu\n", sum);
  return 7;
}
