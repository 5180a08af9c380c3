#include <stdio.h>
#include <stdlib.h>
#include "header.h"
#include "report.h"
#include "watch.h"
double u[NZ][NY][NX + 1];
double forcing[NZ][NY][NX + 1];
pair spectrum[NX];
int points[3];
double state;
int main(int argc, char *argv[]) {
  int i, round, rounds = DEFAULT_ROUNDS;
  double rms, c[4] = {-3.0 / 8.0, 1.0 / 32.0, -1.0 / 64.0, 0.0};
  pair sum = PAIR(0.0, 0.0), scratch[2][NX];
  answer right;
  char class;
  FILE *input;
  if ((input = fopen("gr.input", "r")) != NULL) {
    if (fscanf(input, "%d", &rounds) != 1) exit(EXIT_FAILURE);
    fclose(input);
  }
  if (argc > 1) rounds = atoi(argv[1]);
  points[0] = NX, points[1] = NY, points[2] = NZ;
  initialize();
  watch_start(1);
  for (round = 1; round <= rounds; round++) {
    if (round % 20 == 0) printf("round %4d\n", round);
    relax(u, forcing, NX, NY, NZ, c);
    for (i = 0; i < NX; i++) spectrum[i] = PAIR(u[NZ / 2][NY / 2][i], u[1][1][i]);
    transform(NX, NX, spectrum, scratch);
    sum = PAIR_SUM(sum, spectrum[round % NX]);
  }
  watch_stop(1);
  rms = norm(NX, NY, NZ, u);
  verify(rounds, rms, sum, &class, &right);
  report("GR", class, points, rounds, watch_total(1), right, COMPILED);
  return 0;
}
