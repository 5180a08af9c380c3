/* Counts to its argument (default 40), a line to stdout every 100 ms, and ends with 5: time to be saved in. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 40;
  for (int i = 0; i < count; i++) {
    printf("tick %d\n", i);
    fflush(stdout);
    usleep(100000);
  }
  return 5;
}
