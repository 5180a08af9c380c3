/* Threads, computing or asleep in the kernel in many ways; their names, masks, own variables, mutexes and ids. */
#include "keep.h"
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

#define COUNT 24

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, robust, checked;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile bool going;
static int pipes[2];
static __thread int own_number;
static __thread char own_text[64];
static volatile uint64_t computed[COUNT];
static pthread_t threads[COUNT];
static volatile int tids[COUNT];

/* Restartable sequences, as glibc registers them for each thread: the kernel says so when it is asked again. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static bool has_restartable_sequences(void) {
#ifdef __x86_64__
  enum { SIGNATURE = 0x53053053 };
#else
  enum { SIGNATURE = (int)0xd428bc00 };
#endif
  if (&__rseq_size == 0 || __rseq_size == 0) return true;
  char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
  return syscall(SYS_rseq, area, 32, 0, SIGNATURE) == -1 && errno == EBUSY;
}

static void sleep_in_kernel(int number) {
  char byte;
  struct pollfd poll_for = {pipes[0], POLLIN, 0};
  switch (number % 5) {
    case 0:
      for (uint64_t i = 1; !going; i++) computed[number] = computed[number] * 31 + i;
      return;
    case 1:
      pthread_mutex_lock(&mutex);
      while (!going) pthread_cond_wait(&condition, &mutex);
      pthread_mutex_unlock(&mutex);
      return;
    case 2: check(read(pipes[0], &byte, 1) == 1 && byte == 'x', "read of a pipe: %s", strerror(errno)); return;
    case 3:
      while (!going) poll(&poll_for, 0, 3);
      return;
    default:
      while (!going) pause_briefly();
  }
}

static bool joined;

static void *work(void *argument) {
  const int number = (int)(intptr_t)argument;
  char name[16], now[16];
  sigset_t mask, found;
  snprintf(name, sizeof name, "worker %d", number);
  prctl(PR_SET_NAME, name);
  own_number = number * 1000 + 7;
  snprintf(own_text, sizeof own_text, "thread %d", number);
  sigemptyset(&mask);
  sigaddset(&mask, SIGRTMIN + number % 8);
  if (number % 7 == 0) sigfillset(&mask);
  pthread_sigmask(SIG_SETMASK, &mask, 0);
  pthread_sigmask(0, 0, &mask);
  if (number == 3) pthread_mutex_lock(&robust);
  if (number == 4) pthread_mutex_lock(&checked);
  tids[number] = gettid();
  sleep_in_kernel(number);
  pthread_sigmask(0, 0, &found);
  prctl(PR_GET_NAME, now);
  check(memcmp(&mask, &found, 8) == 0, "signal mask of thread %d", number);
  check(strcmp(name, now) == 0, "name of thread %d: %s", number, now);
  check(has_restartable_sequences(), "restartable sequences of thread %d", number);
  check(own_number == number * 1000 + 7 && atoi(own_text + 7) == number, "thread-local variables of %d", number);
  if (!joined) check(pthread_equal(pthread_self(), threads[number]), "pthread_self of %d", number);
  if (number == 4) check(pthread_mutex_unlock(&checked) == 0 || gettid() != tids[number], "a mutex that knows its owner");
  return (void *)(intptr_t)(number + 1); /* number 3 leaves the robust one locked */
}

int main(void) {
  pthread_mutexattr_t attributes;
  setvbuf(stdout, 0, _IONBF, 0);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&checked, &attributes);
  check(pipe(pipes) == 0, "pipe");
  for (intptr_t i = 0; i < COUNT; i++) check(pthread_create(&threads[i], 0, work, (void *)i) == 0, "create thread");
  for (int i = 0; i < COUNT; i++)
    while (tids[i] == 0) pause_briefly();
  wait_for_go();
  for (int i = 0; i < COUNT; i++) check(pthread_kill(threads[i], 0) == 0, "pthread_kill of thread %d", i);
  pthread_mutex_lock(&mutex);
  going = true;
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < COUNT; i++)
    if (i % 5 == 2) check(write(pipes[1], "x", 1) == 1, "write");
  for (int i = 0; i < COUNT; i++) {
    void *result = 0;
    check(pthread_join(threads[i], &result) == 0 && result == (void *)(intptr_t)(i + 1), "result of thread %d", i);
  }
  if (gettid() == getpid()) {
    const int result = pthread_mutex_lock(&robust);
    check(result == EOWNERDEAD, "robust mutex: %d", result);
  }
  joined = true; /* a new thread may run before its creator is told which it is */
  check(pthread_create(&threads[5], 0, work, (void *)(intptr_t)5) == 0, "a new thread");
  check(pthread_join(threads[5], 0) == 0, "a new thread ends");
  return verdict();
}
