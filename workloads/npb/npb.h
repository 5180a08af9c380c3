/*
 * What the NPB kernels share: the problem class of the command line, the pseudorandom numbers, the verdict.
 *
 * Written from the specification (D. Bailey et al., "The NAS Parallel Benchmarks", RNR-94-007), not from NASA's
 * sources. The generator of its section 2.3: x(k+1) = 5^13 x(k) mod 2^46, the number is 2^-46 x. Since 2^46
 * divides 2^64, the product modulo 2^64, cut to 46 bits, is exact.
 *
 * Usage of every kernel: PROGRAM [S|W] [ROUNDS]. ROUNDS repeats the whole problem, to have something that runs long.
 * Output never depends on time, so that a run that moved between machines can be compared byte for byte.
 */
#ifndef IMAGO_NPB_H
#define IMAGO_NPB_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NPB_MULTIPLIER UINT64_C(1220703125) /* 5^13 */
#define NPB_SEED UINT64_C(314159265)

static inline double npb_random(uint64_t *state) {
  *state = (*state * NPB_MULTIPLIER) & ((UINT64_C(1) << 46) - 1);
  return (double)*state * 0x1p-46;
}

struct npb_arguments {
  char class;
  int rounds;
};

static inline struct npb_arguments npb_arguments(int argc, char **argv) {
  struct npb_arguments arguments = {argc > 1 ? argv[1][0] : 'S', argc > 2 ? atoi(argv[2]) : 1};
  if ((arguments.class != 'S' && arguments.class != 'W') || arguments.rounds < 1) {
    fprintf(stderr, "usage: %s [S|W] [rounds]\n", argv[0]);
    exit(2);
  }
  return arguments;
}

static inline int npb_close(double value, double expected, double tolerance) {
  return fabs((value - expected) / expected) <= tolerance;
}

/* Prints the verdict; returns the exit status. */
static inline int npb_verdict(const char *kernel, char class, int successful) {
  printf("%s class %c: VERIFICATION %s\n", kernel, class, successful ? "SUCCESSFUL" : "FAILED");
  return successful ? 0 : 1;
}
#endif
