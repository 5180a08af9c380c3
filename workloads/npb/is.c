/*
 * IS: ranking of integer keys, ten times; each time two keys change and five ranks are checked against the
 * specification's values (Integer Sort of RNR-94-007); at the end the keys are sorted by the ranks and checked.
 */
#include "npb.h"

#define ITERATIONS 10
#define CHECKS 5
#define LARGEST_KEYS (1 << 20)
#define LARGEST_RANGE (1 << 16)

struct problem {
  char class;
  int keys, range;
  int index[CHECKS]; /* whose rank is checked */
  int rank[CHECKS];
  int rising; /* the first so many ranks grow with the iteration (counted from `origin`), the others fall */
  int origin;
};

static const struct problem problems[] = {
    {'S', 1 << 16, 1 << 11, {48427, 17148, 23627, 62548, 4431}, {0, 18, 346, 64917, 65463}, 3, 0},
    {'W', 1 << 20, 1 << 16, {357773, 934767, 875723, 898999, 404505}, {1249, 11698, 1039987, 1043896, 1048018}, 2, 2},
};

static int keys[LARGEST_KEYS], sorted[LARGEST_KEYS];
static int rank_of[LARGEST_RANGE]; /* rank_of[k]: number of keys that are at most k */

static void make_keys(const struct problem *problem) {
  uint64_t state = NPB_SEED;
  double quarter = problem->range / 4;
  for (int i = 0; i < problem->keys; i++) {
    double sum = npb_random(&state);
    for (int term = 1; term < 4; term++) sum += npb_random(&state);
    keys[i] = (int)(quarter * sum);
  }
}

static void rank_keys(const struct problem *problem) {
  memset(rank_of, 0, sizeof rank_of[0] * (size_t)problem->range);
  for (int i = 0; i < problem->keys; i++) rank_of[keys[i]]++;
  for (int k = 1; k < problem->range; k++) rank_of[k] += rank_of[k - 1];
}

static int check_ranks(const struct problem *problem, int iteration) {
  int passed = 0;
  for (int i = 0; i < CHECKS; i++) {
    int key = keys[problem->index[i]];
    int expected = i < problem->rising ? problem->rank[i] + iteration - problem->origin : problem->rank[i] - iteration;
    if (key > 0 && rank_of[key - 1] == expected) passed++;
  }
  return passed;
}

static int check_sorted(const struct problem *problem) {
  for (int i = problem->keys - 1; i >= 0; i--) sorted[--rank_of[keys[i]]] = keys[i];
  for (int i = 1; i < problem->keys; i++)
    if (sorted[i - 1] > sorted[i]) return 0;
  return 1;
}

static int run(const struct problem *problem) {
  int passed = 0;
  make_keys(problem);
  for (int iteration = 1; iteration <= ITERATIONS; iteration++) {
    keys[iteration] = iteration;
    keys[iteration + ITERATIONS] = problem->range - iteration;
    rank_keys(problem);
    int right = check_ranks(problem, iteration);
    printf("iteration %2d: %d of %d ranks right\n", iteration, right, CHECKS);
    passed += right;
  }
  return check_sorted(problem) && passed == ITERATIONS * CHECKS;
}

int main(int argc, char **argv) {
  struct npb_arguments arguments = npb_arguments(argc, argv);
  const struct problem *problem = &problems[arguments.class == 'W'];
  int successful = 1;
  for (int round = 0; round < arguments.rounds; round++) successful &= run(problem);
  return npb_verdict("IS", arguments.class, successful);
}
