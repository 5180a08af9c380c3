#include <stdio.h>
#include <string.h>
#include "report.h"
void report(char *name, char class, int size[3], int rounds, double time, answer right, char *compiled) {
  char points[32];
  (void)time;
  sprintf(points, "%18.0lf", (double)size[0] * size[1] * size[2]);
  printf("%s class %c, %.*s points, %d rounds, compiled %s: %s\n", name, class, (int)strlen(points), points, rounds, compiled, right == yes ? "RIGHT" : "WRONG");
}
