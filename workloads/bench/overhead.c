/* What a program pays for calls it makes often: nanoseconds an operation, one line each.
 *
 *   usage: overhead malloc|open|clock|fork|thread|write        prints the time of one operation  */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void do_malloc(void) {
  char *volatile block = malloc(100);
  block[0] = 1;
  free(block);
}

static void do_open(void) {
  close(open("/dev/null", O_WRONLY));
}

static void do_clock(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
}

static void do_fork(void) {
  pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, NULL, 0);
}

static void *nothing(void *unused) {
  return unused;
}

static void do_thread(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, nothing, NULL) == 0) pthread_join(thread, NULL);
}

static int null_fd;

static void do_write(void) {
  if (write(null_fd, "x", 1) != 1) abort();
}

static const struct {
  const char *name;
  void (*run)(void);
  long count;
} operations[] = {
  {"malloc", do_malloc, 10000000}, {"open", do_open, 200000},   {"clock", do_clock, 5000000},
  {"fork", do_fork, 1500},         {"thread", do_thread, 8000}, {"write", do_write, 2000000},
};

int main(int argc, char **argv) {
  null_fd = open("/dev/null", O_WRONLY);
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (argc != 2 || strcmp(argv[1], operations[i].name) != 0) continue;
    const double start = now();
    for (long n = 0; n < operations[i].count; n++) operations[i].run();
    printf("%.3f\n", (now() - start) / (double)operations[i].count);
    return 0;
  }
  return 2;
}
