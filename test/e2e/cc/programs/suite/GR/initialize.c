#include "header.h"
#include "random.h"
void initialize(void) {
  int j, k;
  state = SEED;
  for (k = 0; k < points[2]; k++)
    for (j = 0; j < points[1]; j++) {
      fill_random(points[0], &state, u[k][j]);
      fill_random(points[0], &state, forcing[k][j]);
    }
}
