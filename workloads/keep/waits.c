/* Threads in system calls that wait, and that a signal handler would end with EINTR: none of them may notice that it was frozen. */
#include "keep.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>

static int pipe_ends[2], epoll, set;
static volatile bool over; /* nobody waits for anything any more */

static const struct timespec hour = {3600, 0};

static bool wait_poll(void) {
  struct pollfd one = {pipe_ends[0], POLLIN, 0};
  return poll(&one, 1, -1) == 1;
}
static bool wait_poll_limited(void) {
  struct pollfd one = {pipe_ends[0], POLLIN, 0};
  return poll(&one, 1, 3600000) == 1;
}
static bool wait_ppoll(void) {
  struct pollfd one = {pipe_ends[0], POLLIN, 0};
  return ppoll(&one, 1, &hour, 0) == 1;
}
static bool wait_select(void) {
  fd_set files;
  FD_ZERO(&files);
  FD_SET(pipe_ends[0], &files);
  struct timeval limit = {3600, 0};
  return select(pipe_ends[0] + 1, &files, 0, 0, &limit) == 1;
}
static bool wait_epoll(void) {
  struct epoll_event event;
  return epoll_wait(epoll, &event, 1, -1) == 1;
}
static bool wait_epoll_limited(void) {
  struct epoll_event event;
  return epoll_wait(epoll, &event, 1, 3600000) == 1;
}
static bool wait_semaphore(void) {
  struct sembuf one = {0, -1, 0};
  return semop(set, &one, 1) == 0;
}
static bool sleeps(void) { /* short ones, most of which are not interrupted */
  while (!over) {
    struct timespec left = {0, 3000000};
    if (nanosleep(&left, &left) != 0 || usleep(3000) != 0) return false;
  }
  return true;
}
static bool wait_signal(void) { /* SIGUSR1, which is blocked everywhere else */
  sigset_t signals;
  siginfo_t info;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  return sigwaitinfo(&signals, &info) == SIGUSR1;
}

static const struct { const char *name; bool (*wait)(void); bool with_semaphore; } waits[] = {
  {"poll", wait_poll, false},       {"poll with a limit", wait_poll_limited, false},        {"ppoll", wait_ppoll, false},
  {"select", wait_select, false},   {"epoll_wait", wait_epoll, false},                      {"epoll_wait with a limit", wait_epoll_limited, false},
  {"nanosleep, usleep", sleeps, false}, {"sigwaitinfo", wait_signal, false}, {"semop", wait_semaphore, true},
};
enum { WAITS = sizeof waits / sizeof *waits };
static bool went_well[WAITS];
static int errors[WAITS];

static void *run(void *which) {
  const size_t i = (size_t)which;
  went_well[i] = waits[i].wait();
  errors[i] = errno;
  return 0;
}

static volatile sig_atomic_t handled;
static void on_alarm(int signal) {
  handled = signal;
}

int main(int count, char **words) {
  pthread_t threads[WAITS];
  sigset_t signals;
  setvbuf(stdout, 0, _IONBF, 0);
  const bool with_semaphore = count > 1 && strcmp(words[1], "semaphore") == 0;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, 0);
  check(pipe(pipe_ends) == 0, "pipe");
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &event) == 0, "epoll_ctl");
  if (with_semaphore) set = semget(IPC_PRIVATE, 1, 0600);
  for (size_t i = 0; i < WAITS; i++)
    if (!waits[i].with_semaphore || with_semaphore) check(pthread_create(&threads[i], 0, run, (void *)i) == 0, "pthread_create");
  usleep(100000);

  ready();
  while (!may_go()) { /* the first thread, which takes the signal itself */
    const struct timespec moment = {0, 5000000};
    check(nanosleep(&moment, 0) == 0, "nanosleep of the first thread: %s", strerror(errno));
  }

  /* A signal of its own still ends what waits. */
  const struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, 0);
  alarm(1);
  check(pause() == -1 && errno == EINTR && handled == SIGALRM, "pause");
  over = true;
  check(write(pipe_ends[1], "x", 1) == 1, "write");
  kill(getpid(), SIGUSR1);
  if (with_semaphore) semctl(set, 0, SETVAL, 1);
  for (size_t i = 0; i < WAITS; i++) {
    if (waits[i].with_semaphore && !with_semaphore) continue;
    pthread_join(threads[i], 0);
    check(went_well[i], "%s: %s", waits[i].name, strerror(errors[i]));
  }
  if (with_semaphore) semctl(set, 0, IPC_RMID);
  return verdict();
}
