#include "clock.h"
#include "watch.h"
void seconds(double *);
static double total[8], begun[8];
void watch_start(int number) { seconds(&begun[number]); }
void watch_stop(int number) {
  double now;
  seconds(&now);
  total[number] += now - begun[number];
}
double watch_total(int number) { return total[number]; }
