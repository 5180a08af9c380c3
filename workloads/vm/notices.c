/* timer_create and its kin, signalfd, sigqueue: each line says what Linux does, too. No line depends on how fast the machine
 * is. With an argument it asks to be saved (system call 400) in the middle, with signals on their way. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t count, code, value;

static void on_signal(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  count++;
  code = info->si_code;
  value = info->si_value.sival_int;
}

static const char *how(int result) { return result >= 0 ? "done" : strerror(errno); }

static timer_t make(clockid_t clock, int how_told, int signal, int tell) {
  struct sigevent event = {.sigev_notify = how_told, .sigev_signo = signal, .sigev_value.sival_int = tell};
  timer_t timer;
  if (timer_create(clock, &event, &timer) != 0)
    printf("not made: %s\n", strerror(errno));
  return timer;
}

/* In milliseconds; `every` 0: once. */
static void set(timer_t timer, long first, long every) {
  struct itimerspec spec = {{every / 1000, every % 1000 * 1000000}, {first / 1000, first % 1000 * 1000000}};
  timer_settime(timer, 0, &spec, 0);
}

static void sleep_past(long milliseconds) {
  struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  while (nanosleep(&rest, &rest) != 0)
    ;
}

static void told(const char *what, const struct signalfd_siginfo *info) {
  printf("%s: signal %d, code %d, value %d\n", what, (int)info->ssi_signo - (info->ssi_signo >= 32 ? SIGRTMIN : 0),
         info->ssi_code, info->ssi_int);
}

int main(int argc, char **argv) {
  (void)argv;
  setbuf(stdout, 0);
  const int waiting = SIGRTMIN + 3, single = SIGUSR2;
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigset_t empty, blocked;
  sigemptyset(&empty);
  sigprocmask(SIG_SETMASK, &empty, 0);
  sigaction(SIGUSR1, &action, 0);

  timer_t once = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 77), silent = make(CLOCK_REALTIME, SIGEV_NONE, 0, 0);
  struct itimerspec left;
  set(once, 20, 0);
  while (count == 0)
    ;
  printf("once: code %d, value %d, overrun %d\n", (int)code, (int)value, timer_getoverrun(once));
  timer_gettime(once, &left);
  printf("over: %ld %ld\n", (long)left.it_value.tv_sec, left.it_value.tv_nsec);
  set(silent, 100000000, 5000);
  timer_gettime(silent, &left);
  printf("silent: %d, interval %ld\n", left.it_value.tv_sec > 90000 && left.it_value.tv_sec <= 100000,
         (long)left.it_interval.tv_sec);
  struct itimerspec past = {.it_value = {1, 0}};
  count = 0;
  timer_settime(once, TIMER_ABSTIME, &past, 0);
  while (count == 0)
    ;
  printf("a moment that is past: %d\n", (int)count);
  timer_t busy = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1, 5);
  count = 0;
  set(busy, 10, 10);
  while (count < 3)
    ;
  printf("CPU time: value %d\n", (int)value);
  printf("removed: %s, then %s\n", how(timer_delete(busy)), how((int)syscall(SYS_timer_delete, 12345)));
  printf("no such clock: %s\n", how(timer_create(1234, 0, &busy)));
  printf("no such signal: %s\n",
         how(timer_create(CLOCK_MONOTONIC, &(struct sigevent){.sigev_signo = 99}, &busy)));

  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, single);
  sigaddset(&blocked, waiting);
  sigprocmask(SIG_BLOCK, &blocked, 0);
  int all = signalfd(-1, &blocked, SFD_NONBLOCK | SFD_CLOEXEC), epoll = epoll_create1(0);
  struct signalfd_siginfo infos[8];
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(epoll, EPOLL_CTL_ADD, all, &event);
  printf("nothing yet: %s, %d ready\n", how((int)read(all, infos, sizeof infos)), epoll_wait(epoll, &event, 1, 0));
  count = 0;
  set(once, 5, 5);
  sleep_past(60); /* it runs out again and again, and waits as one signal */
  for (int i = 1; i <= 3; i++)
    sigqueue(getpid(), waiting, (union sigval){.sival_int = i});
  for (int i = 0; i < 2; i++) {
    raise(single); /* to the thread: these come first */
    kill(getpid(), single);
  }
  timer_t later = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, waiting, 9);
  set(later, 40, 0);
  if (argc > 1)
    syscall(400);
  sleep_past(80);
  struct itimerspec off = {{0, 0}, {0, 0}};
  printf("ready: %d\n", epoll_wait(epoll, &event, 1, -1));
  read(all, infos, sizeof infos[0]);
  told("to the thread", &infos[0]);
  int bytes = (int)read(all, infos, sizeof infos[0]);
  printf("first %d of them: ", bytes / (int)sizeof infos[0]);
  printf("overruns %d, ", infos[0].ssi_overrun > 0);
  told("it", &infos[0]);
  printf("overrun %d\n", timer_getoverrun(once) == (int)infos[0].ssi_overrun);
  timer_settime(once, 0, &off, &left);
  printf("interval %ld\n", left.it_interval.tv_nsec);
  bytes = (int)read(all, infos, sizeof infos);
  for (int i = 0; i < bytes / (int)sizeof infos[0]; i++)
    told("then", &infos[i]);
  printf("no more: %s, %d ready, handlers %d\n", how((int)read(all, infos, sizeof infos)),
         epoll_wait(epoll, &event, 1, 0), (int)count);
  printf("too small: %s\n", how((int)read(all, infos, 100)));

  sigset_t fewer;
  sigemptyset(&fewer);
  sigaddset(&fewer, waiting);
  printf("another set: %d\n", signalfd(all, &fewer, 0) == all);
  raise(single);
  printf("not taken: %s\n", how((int)read(all, infos, sizeof infos)));
  int patient = signalfd(-1, &blocked, 0);
  struct pollfd both[2] = {{.fd = all, .events = POLLIN}, {.fd = patient, .events = POLLIN}};
  printf("polled: %d, %d %d\n", poll(both, 2, -1), both[0].revents, both[1].revents);
  read(patient, infos, sizeof infos);
  told("patient", &infos[0]);
  set(later, 30, 0);
  read(patient, infos, sizeof infos); /* waits */
  told("waited for", &infos[0]);

  siginfo_t info;
  struct timespec limit = {100000, 0};
  set(later, 20, 0);
  printf("sigtimedwait: %d,", sigtimedwait(&fewer, &info, &limit) - SIGRTMIN);
  printf(" code %d, value %d\n", info.si_code, info.si_value.sival_int);
  sigqueue(getpid(), waiting, (union sigval){.sival_int = 12});
  sigprocmask(SIG_UNBLOCK, &fewer, 0); /* nobody handles it */
  printf("never\n");
  return 0;
}
