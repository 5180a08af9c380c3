/*
 * Threads in system calls that wait, and that a signal handler would end with EINTR: none of them may notice that it was frozen.
 *   usage: waits [connected]      also on what no image keeps: sockets with a time limit, System V semaphores. Then it is frozen, but not restored.
 */
#include "keep.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static int pipe_ends[2], epoll, set, sockets[2], listener;
static sem_t semaphore;
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
static bool wait_socket(void) { /* with a limit the kernel does not begin anew */
  char byte;
  return recv(sockets[0], &byte, 1, MSG_PEEK) == 1;
}
static bool wait_socket_read(void) {
  char bytes[2];
  return read(sockets[1], bytes, 2) == 1;
}
static bool wait_accept(void) {
  const int fd = accept(listener, 0, 0);
  return fd >= 0 && close(fd) == 0;
}
static bool wait_posix_semaphore(void) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 3600;
  return sem_timedwait(&semaphore, &limit) == 0;
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

static const struct { const char *name; bool (*wait)(void); bool connected; } waits[] = {
  {"poll", wait_poll, false},       {"poll with a limit", wait_poll_limited, false},        {"ppoll", wait_ppoll, false},
  {"select", wait_select, false},   {"epoll_wait", wait_epoll, false},                      {"epoll_wait with a limit", wait_epoll_limited, false},
  {"nanosleep, usleep", sleeps, false}, {"sigwaitinfo", wait_signal, false}, {"sem_timedwait", wait_posix_semaphore, false},
  {"semop", wait_semaphore, true},  {"recv with a limit", wait_socket, true},               {"read of a socket with a limit", wait_socket_read, true},
  {"accept with a limit", wait_accept, true},
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

static void connect_all(void) {
  const struct timeval limit = {3600, 0};
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  set = semget(IPC_PRIVATE, 1, 0600);
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
  listener = socket(AF_UNIX, SOCK_STREAM, 0);
  check(bind(listener, (struct sockaddr *)&name, sizeof name.sun_family) == 0 && listen(listener, 1) == 0, "listen"); /* a name made up by the kernel */
  const int all[] = {sockets[0], sockets[1], listener};
  for (int i = 0; i < 3; i++) check(setsockopt(all[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
}

static void end_waits_of_connected(void) {
  struct sockaddr_un name;
  socklen_t size = sizeof name;
  semctl(set, 0, SETVAL, 1);
  check(write(sockets[0], "x", 1) == 1 && write(sockets[1], "y", 1) == 1, "write to a socket");
  const int client = socket(AF_UNIX, SOCK_STREAM, 0);
  check(getsockname(listener, (struct sockaddr *)&name, &size) == 0 && connect(client, (struct sockaddr *)&name, size) == 0, "connect");
}

static volatile sig_atomic_t handled;
static void on_alarm(int signal) {
  handled = signal;
}

int main(int count, char **words) {
  pthread_t threads[WAITS];
  sigset_t signals;
  setvbuf(stdout, 0, _IONBF, 0);
  const bool connected = count > 1 && strcmp(words[1], "connected") == 0;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, 0);
  check(pipe(pipe_ends) == 0, "pipe");
  epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &event) == 0, "epoll_ctl");
  sem_init(&semaphore, 0, 0);
  if (connected) connect_all();
  for (size_t i = 0; i < WAITS; i++)
    if (!waits[i].connected || connected) check(pthread_create(&threads[i], 0, run, (void *)i) == 0, "pthread_create");
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
  sem_post(&semaphore);
  if (connected) end_waits_of_connected();
  for (size_t i = 0; i < WAITS; i++) {
    if (waits[i].connected && !connected) continue;
    pthread_join(threads[i], 0);
    check(went_well[i], "%s: %s", waits[i].name, strerror(errors[i]));
  }
  if (connected) semctl(set, 0, IPC_RMID);
  return verdict();
}
