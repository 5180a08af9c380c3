#include "clock.h"
#include <time.h>
void seconds(double *now) {
  static long first = -1;
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  if (first < 0) first = time.tv_sec;
  *now = (time.tv_sec - first) + 1e-9 * time.tv_nsec;
}
