/*
 * EP: pairs of Gaussian deviates by the acceptance-rejection method (Embarrassingly Parallel of RNR-94-007):
 * 2^24 (S) or 2^25 (W) pairs; the sums must match to 1e-8, the counts are of max(|X|, |Y|) by unit rings.
 */
#include "npb.h"

#define EP_SEED UINT64_C(271828183)
#define RINGS 10

static long counts[RINGS];

static int run(char class) {
  long pairs = class == 'S' ? 1L << 24 : 1L << 25;
  double expected_x = class == 'S' ? -3.247834652034740e3 : -2.863319731645753e3;
  double expected_y = class == 'S' ? -6.958407078382297e3 : -6.320053679109499e3;
  double sum_x = 0, sum_y = 0;
  long accepted = 0;
  uint64_t state = EP_SEED;
  memset(counts, 0, sizeof counts);
  for (long pair = 0; pair < pairs; pair++) {
    double x = 2 * npb_random(&state) - 1;
    double y = 2 * npb_random(&state) - 1;
    double t = x * x + y * y;
    if (t > 1) continue;
    double factor = sqrt(-2 * log(t) / t);
    x *= factor;
    y *= factor;
    double largest = fmax(fabs(x), fabs(y));
    counts[(int)largest]++;
    sum_x += x;
    sum_y += y;
    accepted++;
  }
  printf("%ld pairs, sums %.9e %.9e\n", accepted, sum_x, sum_y);
  for (int ring = 0; ring < RINGS; ring++) printf("  %d: %ld\n", ring, counts[ring]);
  return npb_close(sum_x, expected_x, 1e-8) && npb_close(sum_y, expected_y, 1e-8);
}

int main(int argc, char **argv) {
  struct npb_arguments arguments = npb_arguments(argc, argv);
  int successful = 1;
  for (int round = 0; round < arguments.rounds; round++) successful &= run(arguments.class);
  return npb_verdict("EP", arguments.class, successful);
}
