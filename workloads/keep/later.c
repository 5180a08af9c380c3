/*
 * What it gets only after its first checkpoints; at the next one that is as good as new. It writes `ready`, waits for `more`, gets what its argument
 * says, writes `made`, and waits for `go`.
 */
#include "keep.h"
#include <pthread.h>

enum { SIZE = 65536 };

static unsigned char *memory;
static volatile long turns;

static void *turn(void *unused) {
  for (;;) turns++;
  return unused;
}

static void fill(unsigned char *at) {
  memory = at;
  for (int i = 0; i < SIZE; i++) memory[i] = i * 7;
}

static bool is_filled(void) {
  for (int i = 0; i < SIZE; i++)
    if (memory[i] != (unsigned char)(i * 7)) return false;
  return true;
}

static bool says(const char *mark) {
  char line[4096];
  bool here = false, found = false;
  FILE *smaps = fopen("/proc/self/smaps", "r");
  while (fgets(line, sizeof line, smaps) != 0) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) here = start <= (unsigned long)memory && (unsigned long)memory < end;
    else if (here && strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, mark) != 0;
  }
  fclose(smaps);
  return found;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  const int descriptors[] = {5, 6, 50};
  timer_t timer = 0;
  setvbuf(stdout, 0, _IONBF, 0);
  if (strcmp(what, "forbidden") == 0) fill(mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0));
  ready();
  while (access("more", F_OK) != 0) pause_briefly();
  if (strcmp(what, "timer") == 0) {
    struct sigevent by_nothing = {.sigev_notify = SIGEV_NONE};
    const struct itimerspec far = {{7, 0}, {500, 0}};
    timer_create(CLOCK_MONOTONIC, &by_nothing, &timer);
    timer_settime(timer, 0, &far, 0);
  } else if (strcmp(what, "descriptors") == 0) {
    for (int i = 0; i < 3; i++) {
      const int file = open("file", O_RDWR | O_CREAT, 0600);
      check(dup2(file, descriptors[i]) == descriptors[i] && ftruncate(file, SIZE) == 0, "dup2");
      lseek(file, 100 + i, SEEK_SET);
    }
  } else if (strcmp(what, "thread") == 0) {
    pthread_t thread;
    check(pthread_create(&thread, 0, turn, 0) == 0, "pthread_create");
  } else if (strcmp(what, "forbidden") == 0) {
    check(madvise(memory, SIZE, MADV_DONTFORK) == 0, "MADV_DONTFORK");
  } else {
    fill(mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (strcmp(what, "shared") == 0 ? MAP_SHARED : MAP_PRIVATE), -1, 0));
    if (strcmp(what, "locked") == 0) check(mlock(memory, SIZE) == 0, "mlock");
    if (strcmp(what, "unforked") == 0) check(madvise(memory, SIZE, MADV_DONTFORK) == 0, "MADV_DONTFORK");
  }
  close(open("made", O_WRONLY | O_CREAT, 0600));
  while (!may_go()) pause_briefly();
  if (strcmp(what, "timer") == 0) {
    struct itimerspec left;
    check(timer_gettime(timer, &left) == 0 && left.it_interval.tv_sec == 7 && left.it_value.tv_sec > 300, "the timer");
  } else if (strcmp(what, "descriptors") == 0) {
    for (int i = 0; i < 3; i++) check(lseek(descriptors[i], 0, SEEK_CUR) == 100 + i, "position of %d", descriptors[i]);
  } else if (strcmp(what, "thread") == 0) {
    const long before = turns;
    for (int i = 0; i < 1000 && turns == before; i++) pause_briefly();
    check(turns != before, "the thread stands still");
  } else {
    check(is_filled(), "the memory's content");
    check(says(" sh") == (strcmp(what, "shared") == 0), "shared or not");
    check(says(" lo") == (strcmp(what, "locked") == 0), "locked or not");
    check(says(" dc") == (strcmp(what, "unforked") == 0 || strcmp(what, "forbidden") == 0), "for forks or not");
  }
  return verdict();
}
