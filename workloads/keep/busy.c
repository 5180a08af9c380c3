/*
 * A program that never stands still: one thing that it shares with its copy changes all the time, together with a number in its own memory. Torn
 * apart by a checkpoint, they would not fit together any more.
 *   usage: busy position|memory|pipe|counter|lock|file|unforked|nothing      with "unforked" the number itself lies in memory that no copy gets
 */
#include "keep.h"
#include <sys/eventfd.h>
#include <sys/file.h>

enum { SIZE = 1000 };

static volatile uint64_t own;

static int position_file;
static void begin_position(void) {
  unsigned char bytes[SIZE];
  for (int i = 0; i < SIZE; i++) bytes[i] = i % 251;
  const int made = open("numbers", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  check(write(made, bytes, SIZE) == SIZE, "write");
  close(made);
  position_file = open("numbers", O_RDONLY);
}
static void step_position(void) {
  unsigned char byte = 0;
  if (own % SIZE == 0) lseek(position_file, 0, SEEK_SET);
  check(read(position_file, &byte, 1) == 1 && byte == own % SIZE % 251, "position: %d after %lu", byte, own);
  own++;
}

static volatile uint64_t *memory;
static void begin_memory(void) {
  memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}
static void step_memory(void) {
  check(*memory == own, "shared memory: %lu, own %lu", *memory, own);
  *memory = ++own;
}

static int ends[2];
static void begin_pipe(void) {
  check(pipe(ends) == 0 && write(ends[1], (const void *)&own, 8) == 8, "pipe");
}
static void step_pipe(void) {
  uint64_t found = 0;
  check(read(ends[0], &found, 8) == 8 && found == own, "pipe: %lu, own %lu", found, own);
  own++;
  check(write(ends[1], (const void *)&own, 8) == 8, "write");
}

static int counter;
static void begin_counter(void) {
  counter = eventfd(++own, 0);
}
static void step_counter(void) {
  uint64_t found = 0;
  check(read(counter, &found, 8) == 8 && found == own, "eventfd: %lu, own %lu", found, own);
  own++;
  check(write(counter, (const void *)&own, 8) == 8, "write");
}

static int lock_file, other_file;
static void begin_lock(void) {
  close(open("lock", O_WRONLY | O_CREAT | O_TRUNC, 0600));
  lock_file = open("lock", O_RDONLY);
  other_file = open("lock", O_RDONLY);
}
static void step_lock(void) {
  const bool free = flock(other_file, LOCK_EX | LOCK_NB) == 0;
  check(free == (own % 2 == 0), "lock after %lu", own);
  if (free) flock(other_file, LOCK_UN);
  check(flock(lock_file, own % 2 == 0 ? LOCK_EX : LOCK_UN) == 0, "flock");
  own++;
}

static volatile uint64_t *unforked;
static void begin_unforked(void) {
  unforked = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(madvise((void *)unforked, 4096, MADV_DONTFORK) == 0, "MADV_DONTFORK");
}
static void step_unforked(void) {
  check(*unforked == own, "memory that is not forked: %lu, own %lu", *unforked, own);
  *unforked = ++own;
}

/* Small enough that its content is kept; the test restores it with the image. */
static int written_file;
static void begin_file(void) {
  written_file = open("written", O_RDWR | O_CREAT | O_TRUNC, 0600);
  check(pwrite(written_file, (const void *)&own, sizeof own, 0) == sizeof own, "pwrite");
}
static void step_file(void) {
  uint64_t there = 0;
  check(pread(written_file, &there, sizeof there, 0) == sizeof there && there == own, "file: %lu, own %lu", there, own);
  own++;
  check(pwrite(written_file, (const void *)&own, sizeof own, 0) == sizeof own, "pwrite");
}

static void begin_nothing(void) {}
static void step_nothing(void) {
  own++;
}

static const struct {
  const char *name;
  void (*begin)(void), (*step)(void);
} parts[] = {
  {"position", begin_position, step_position}, {"memory", begin_memory, step_memory}, {"pipe", begin_pipe, step_pipe},
  {"counter", begin_counter, step_counter},    {"lock", begin_lock, step_lock},       {"unforked", begin_unforked, step_unforked},
  {"file", begin_file, step_file},             {"nothing", begin_nothing, step_nothing},
};

int main(int count, char **words) {
  unsigned part = 0;
  while (part < sizeof parts / sizeof *parts && (count < 2 || strcmp(parts[part].name, words[1]) != 0)) part++;
  if (part == sizeof parts / sizeof *parts) return 2;
  const int nowhere = open("/dev/null", O_WRONLY), log = dup(1);
  char path[64], name[4096] = {0};
  snprintf(path, sizeof path, "/proc/self/fd/%d", log);
  check(readlink(path, name, sizeof name - 1) > 0, "readlink");
  dup2(nowhere, 1), dup2(nowhere, 2), close(nowhere), close(log); /* it holds nothing but what its part is about */
  parts[part].begin();
  close(open("ready", O_WRONLY | O_CREAT, 0600));
  sigset_t all, before;
  sigfillset(&all);
  while (problems == 0 && (own % 1000 != 0 || access("go", F_OK) != 0)) {
    sigprocmask(SIG_BLOCK, &all, &before);
    parts[part].step();
    sigprocmask(SIG_SETMASK, &before, 0);
  }
  fflush(stdout);
  const int back = open(name, O_WRONLY | O_APPEND);
  dprintf(back, problems == 0 ? "ok\n" : "wrong after %lu steps\n", own);
  return problems == 0 ? 0 : 1;
}
