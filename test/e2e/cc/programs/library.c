/* What the runtime stands in for: callbacks from libc, handlers, threads and their ends, waiting calls, numbers that differ. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int turns;
static long work(long n) { /* a loop, so a poll */
  long sum = 0;
  for (long i = 0; i < n; i++) sum += i ^ turns;
  return sum;
}
static int by_work(const void *a, const void *b) {
  long x = work(*(const int *)a), y = work(*(const int *)b);
  return (x > y) - (x < y);
}
static volatile sig_atomic_t signals;
static volatile long in_handler;
static void handler(int number) {
  int local[100];
  for (int i = 0; i < 100; i++) local[i] = number + i;
  in_handler += work(local[9]);
  signals++;
}
static void with_info(int number, siginfo_t *info, void *context) { (void)context; in_handler += work(number) + (info->si_pid == getpid()); }
static void at_the_end(void) { printf("at the end %ld\n", work(20)); }
static char *text(const char *format, ...) {
  static char buffer[200];
  va_list list, again;
  va_start(list, format);
  va_copy(again, list);
  int length = vsnprintf(buffer, sizeof buffer, format, list);
  vsnprintf(buffer + length, sizeof buffer - (size_t)length, format, again);
  va_end(again);
  va_end(list);
  return buffer;
}

static pthread_key_t early, late;
static pthread_barrier_t barrier;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int ready;
static long destroyed;
static void destroy(void *value) {
  pthread_mutex_lock(&mutex);
  destroyed += work((long)value);
  pthread_mutex_unlock(&mutex);
}
static void *thread(void *argument) {
  long own[16];
  for (int i = 0; i < 16; i++) own[i] = work((long)argument + i);
  pthread_setspecific(early, (void *)3);
  pthread_barrier_wait(&barrier); /* main made the other key before it made the last thread */
  pthread_setspecific(late, (void *)5);
  pthread_mutex_lock(&mutex);
  while (!ready) pthread_cond_wait(&condition, &mutex);
  pthread_mutex_unlock(&mutex);
  sem_post(&semaphore);
  if ((long)argument == 2) pthread_exit((void *)own[3]);
  return (void *)own[5];
}

int main(int argc, char **argv) {
  (void)argc;
  int numbers[40];
  for (int i = 0; i < 40; i++) numbers[i] = (i * 37) % 101;
  qsort(numbers, 40, sizeof *numbers, by_work);
  for (int i = 0; i < 40; i++) printf("%d ", numbers[i]);
  printf("\n%s\n", text("%d %s %.3f %lld|", 7, "seven", 7.5, 1LL << 40));

  struct sigaction action = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO}, old;
  printf("%d\n", signal(SIGUSR1, handler) == SIG_DFL);
  for (int i = 0; i < 5; i++) raise(SIGUSR1), work(100);
  sigaction(SIGUSR1, &action, &old);
  raise(SIGUSR1);
  printf("%d %ld %d\n", (int)signals, in_handler, old.sa_handler == handler);

  pthread_key_create(&early, destroy);
  pthread_barrier_init(&barrier, NULL, 4);
  sem_init(&semaphore, 0, 0);
  pthread_t threads[4];
  pthread_create(&threads[0], NULL, thread, (void *)0);
  /* made after the runtime's own key, so destroyed after it */
  pthread_key_create(&late, destroy);
  for (long i = 1; i < 4; i++) pthread_create(&threads[i], NULL, thread, (void *)i);
  usleep(20000);
  pthread_mutex_lock(&mutex);
  ready = 1;
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < 4; i++) sem_wait(&semaphore);
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(threads[i], &result);
    printf("%ld ", (long)result);
  }
  printf("%ld\n", destroyed);

  struct stat about;
  int folder = open(argv[1], O_RDONLY | O_DIRECTORY), file = open(argv[0], O_RDONLY | O_DIRECTORY);
  printf("%d %d %d\n", folder >= 0, file, errno == ENOTDIR);
  int failed = fstat(folder, &about);
  printf("%d %d\n", failed, S_ISDIR(about.st_mode));
  printf("%d\n", (fcntl(folder, F_GETFL) & O_DIRECTORY) != 0);
  fesetround(FE_UPWARD);
  volatile double third = 1.0 / 3;
  printf("%d ", fegetround() == FE_UPWARD);
  fesetround(FE_TONEAREST);
  printf("%.17g\n", third * 3 - 1);

  int ends[2];
  char byte = 'x';
  if (pipe2(ends, O_NONBLOCK) != 0) return 1;
  int got = (int)read(ends[0], &byte, 1);
  printf("%d %d\n", got, errno == EAGAIN);
  fcntl(ends[0], F_SETFL, 0);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    usleep(30000);
    _exit(write(ends[1], "y", 1) == 1 ? 9 : 1);
  }
  int status;
  got = (int)read(ends[0], &byte, 1);
  printf("%d %c ", got, byte);
  waitpid(child, &status, 0);
  printf("%d\n", WEXITSTATUS(status));
  atexit(at_the_end);
  return 0;
}
