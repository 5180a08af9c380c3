/*
 * Calls that may wait for long, as loops that wait a little and poll: a thread that waits for another, or for input, can
 * be moved as well. Compiled with the program, through the shadow-frame pass; what a program does not call is left out.
 * Compiled code calls these under libc's names (src/toolchain/renames.ts).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

extern volatile unsigned long __imago_request;
void __imago_park(void);

enum { SLICE = 10000000 /* nanoseconds */ };
#define POINT() \
  if (__imago_request != 0) __imago_park()

static struct timespec soon(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += SLICE;
  if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
  return t;
}

int __imago_pthread_timedjoin_np(pthread_t, void **, const struct timespec *); /* joinable.c */

int __imago_wait_pthread_join(pthread_t thread, void **result) {
  for (;;) {
    struct timespec until = soon(CLOCK_REALTIME);
    int failed = __imago_pthread_timedjoin_np(thread, result, &until);
    if (failed != ETIMEDOUT) return failed;
    POINT();
  }
}

int __imago_wait_pthread_mutex_lock(pthread_mutex_t *mutex) {
  int failed = pthread_mutex_trylock(mutex);
  while (failed == EBUSY || failed == ETIMEDOUT) {
    POINT();
    struct timespec until = soon(CLOCK_REALTIME);
    failed = pthread_mutex_timedlock(mutex, &until);
  }
  return failed;
}

/* Wakes without a reason after a while, as POSIX allows: the caller looks at its condition again. */
int __imago_wait_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  POINT();
  struct timespec until = soon(CLOCK_REALTIME);
  int failed = pthread_cond_timedwait(condition, mutex, &until);
  POINT();
  return failed == ETIMEDOUT ? 0 : failed;
}

int __imago_wait_sem_wait(sem_t *semaphore) {
  for (;;) {
    struct timespec until = soon(CLOCK_REALTIME);
    if (sem_timedwait(semaphore, &until) == 0) return 0;
    if (errno != ETIMEDOUT && errno != EINTR) return -1;
    POINT();
  }
}

/* C11's threads, mutexes and conditions are POSIX's in musl. */
int __imago_wait_thrd_join(thrd_t thread, int *result) {
  void *given;
  if (__imago_wait_pthread_join(thread, &given) != 0) return thrd_error;
  if (result != NULL) *result = (int)(long)given;
  return thrd_success;
}
int __imago_wait_mtx_lock(mtx_t *mutex) {
  return __imago_wait_pthread_mutex_lock((pthread_mutex_t *)mutex) == 0 ? thrd_success : thrd_error;
}
int __imago_wait_cnd_wait(cnd_t *condition, mtx_t *mutex) {
  return __imago_wait_pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex) == 0 ? thrd_success : thrd_error;
}

/* A barrier of our own in the room of libc's: { lock, limit, arrived, round }. */
struct barrier {
  volatile int lock;
  unsigned limit;
  volatile unsigned arrived, round;
};
_Static_assert(sizeof(struct barrier) <= sizeof(pthread_barrier_t), "room");

int __imago_wait_pthread_barrier_init(pthread_barrier_t *object, const pthread_barrierattr_t *attributes, unsigned limit) {
  (void)attributes;
  if (limit == 0) return EINVAL;
  *(struct barrier *)object = (struct barrier){.limit = limit};
  return 0;
}
int __imago_wait_pthread_barrier_destroy(pthread_barrier_t *object) {
  (void)object;
  return 0;
}
int __imago_wait_pthread_barrier_wait(pthread_barrier_t *object) {
  struct barrier *barrier = (struct barrier *)object;
  unsigned round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == barrier->limit) {
    __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
    return PTHREAD_BARRIER_SERIAL_THREAD;
  }
  for (int tries = 0; __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round; tries++) {
    POINT();
    struct timespec little = {0, tries < 64 ? 0 : 200000};
    if (tries >= 16) nanosleep(&little, NULL);
  }
  return 0;
}

static long long nanoseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int __imago_wait_nanosleep(const struct timespec *wanted, struct timespec *left) {
  long long end = nanoseconds_now() + wanted->tv_sec * 1000000000ll + wanted->tv_nsec;
  for (;;) {
    long long rest = end - nanoseconds_now();
    if (rest <= 0) return 0;
    struct timespec part = {0, rest < SLICE ? (long)rest : SLICE};
    if (nanosleep(&part, NULL) != 0) {
      if (__imago_request == 0) {
        if (left != NULL) *left = (struct timespec){rest / 1000000000, rest % 1000000000};
        return -1;
      }
    }
    POINT();
  }
}
int __imago_wait_thrd_sleep(const struct timespec *wanted, struct timespec *left) { return __imago_wait_nanosleep(wanted, left); }
unsigned __imago_wait_sleep(unsigned seconds) {
  struct timespec wanted = {seconds, 0}, left;
  return __imago_wait_nanosleep(&wanted, &left) == 0 ? 0 : (unsigned)left.tv_sec;
}
int __imago_wait_usleep(unsigned microseconds) {
  struct timespec wanted = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
  return __imago_wait_nanosleep(&wanted, NULL);
}

/* What a socket waits at most (SO_RCVTIMEO), in nanoseconds; 0: for ever, or it is none. */
static long long limit_of(int fd) {
  struct timeval limit = {0, 0};
  socklen_t size = sizeof limit;
  return getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &size) == 0 ? limit.tv_sec * 1000000000ll + limit.tv_usec * 1000ll : 0;
}

/* A terminal that gives what is there, or nothing, after a time of its own (termios(3), VMIN 0). */
static int is_impatient(int fd) {
  struct termios settings;
  return tcgetattr(fd, &settings) == 0 && !(settings.c_lflag & ICANON) && settings.c_cc[VMIN] == 0;
}

/* Until there is something to read, or an error that read will report. What must not wait does not. */
ssize_t __imago_wait_read(int fd, void *to, size_t size) {
  struct pollfd ready = {.fd = fd, .events = POLLIN};
  if (poll(&ready, 1, 0) == 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK) && !is_impatient(fd)) {
    long long limit = limit_of(fd), begun = nanoseconds_now();
    for (;;) {
      int found = poll(&ready, 1, SLICE / 1000000);
      if (found > 0 || (found < 0 && (errno != EINTR || __imago_request == 0))) break;
      if (limit > 0 && nanoseconds_now() - begun >= limit) return recv(fd, to, size, MSG_DONTWAIT);
      POINT();
    }
  }
  return read(fd, to, size);
}

pid_t __imago_wait_waitpid(pid_t child, int *status, int options) {
  for (;;) {
    pid_t found = waitpid(child, status, options | WNOHANG);
    if (found != 0 || (options & WNOHANG)) return found;
    struct timespec little = {0, 1000000};
    nanosleep(&little, NULL);
    POINT();
  }
}
pid_t __imago_wait_wait(int *status) { return __imago_wait_waitpid(-1, status, 0); }
