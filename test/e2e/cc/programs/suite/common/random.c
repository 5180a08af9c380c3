#include "random.h"
static double next(double *state) {
  unsigned long word = (unsigned long)*state;
  word = (word * 25214903917ul + 11ul) & ((1ul << 48) - 1);
  *state = (double)word;
  return *state / (double)(1ul << 48);
}
void fill_random(int count, double *state, double values[]) {
  for (int i = 0; i < count; i++) values[i] = next(state);
}
