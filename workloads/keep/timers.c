/* Interval timers, POSIX timers, timerfd, eventfd, signalfd, epoll over them. */
#include "keep.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile int alarms, timer_signals, timer_value, notifications;

static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

static void on_timer(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  timer_signals++;
  timer_value = info->si_value.sival_int;
}

static void on_notification(union sigval value) {
  if (value.sival_int == 77) notifications++;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGALRM, on_alarm);
  signal(SIGVTALRM, on_alarm);
  struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN + 3, &action, 0);
  const struct itimerval fast = {{0, 5000}, {0, 5000}}, far = {{100, 0}, {1000, 0}};
  setitimer(ITIMER_REAL, &fast, 0);
  setitimer(ITIMER_VIRTUAL, &far, 0);

  timer_t unused, with_signal, with_thread, silent;
  struct sigevent by_signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 1234};
  struct sigevent by_thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_notification, .sigev_value.sival_int = 77};
  struct sigevent by_nothing = {.sigev_notify = SIGEV_NONE};
  timer_create(CLOCK_MONOTONIC, &by_signal, &unused);
  timer_create(CLOCK_MONOTONIC, &by_signal, &with_signal);
  timer_create(CLOCK_REALTIME, &by_thread, &with_thread);
  timer_create(CLOCK_MONOTONIC, &by_nothing, &silent);
  timer_delete(unused); /* ids have gaps */
  const struct itimerspec every = {{0, 4000000}, {0, 4000000}}, once = {{0, 0}, {500, 0}};
  timer_settime(with_signal, 0, &every, 0);
  timer_settime(with_thread, 0, &every, 0);
  timer_settime(silent, 0, &once, 0);

  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), sleeper = timerfd_create(CLOCK_MONOTONIC, 0);
  const struct itimerspec passed = {{0, 0}, {0, 1000}}, later = {{7, 0}, {900, 0}};
  timerfd_settime(timer, 0, &passed, 0);
  timerfd_settime(sleeper, 0, &later, 0);
  const int counter = eventfd(41, EFD_NONBLOCK), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
  check(write(counter, &(uint64_t){1}, 8) == 8, "eventfd");
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGRTMIN + 6);
  sigprocmask(SIG_BLOCK, &mask, 0);
  const int signals = signalfd(-1, &mask, SFD_NONBLOCK);
  sigqueue(getpid(), SIGRTMIN + 6, (union sigval){.sival_int = 9});
  const int watcher = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788};
  epoll_ctl(watcher, EPOLL_CTL_ADD, counter, &event);
  event.data.u64 = 0x99;
  epoll_ctl(watcher, EPOLL_CTL_ADD, sleeper, &event);
  while (alarms < 2 || timer_signals < 2 || notifications < 2) pause_briefly();

  wait_for_go();

  const int alarms_before = alarms, signals_before = timer_signals, notifications_before = notifications;
  for (int i = 0; i < 3000 && (alarms < alarms_before + 3 || timer_signals < signals_before + 3 || notifications < notifications_before + 3); i++)
    pause_briefly();
  check(alarms > alarms_before, "setitimer goes on");
  check(timer_signals > signals_before && timer_value == 1234, "a timer that signals goes on");
  check(notifications > notifications_before, "a timer that starts threads goes on");
  struct itimerval left;
  getitimer(ITIMER_VIRTUAL, &left);
  check(left.it_value.tv_sec > 800 && left.it_value.tv_sec <= 1000 && left.it_interval.tv_sec == 100, "virtual timer: %ld", left.it_value.tv_sec);
  struct itimerspec remaining;
  timer_gettime(silent, &remaining);
  check(remaining.it_value.tv_sec > 300 && remaining.it_value.tv_sec < 501, "timer without notice: %ld", remaining.it_value.tv_sec);
  timerfd_gettime(sleeper, &remaining);
  check(remaining.it_value.tv_sec > 700 && remaining.it_value.tv_sec <= 900 && remaining.it_interval.tv_sec == 7, "timerfd");
  uint64_t value = 0;
  check(read(timer, &value, 8) == 8 && value == 1, "expired timerfd: %lu", value);
  struct epoll_event got;
  check(epoll_wait(watcher, &got, 1, 0) == 1 && got.data.u64 == 0x1122334455667788, "epoll");
  check(read(counter, &value, 8) == 8 && value == 42, "eventfd: %lu", value);
  check(read(semaphore, &value, 8) == 8 && value == 1 && read(semaphore, &value, 8) == 8, "eventfd semaphore");
  struct signalfd_siginfo info;
  check(read(signals, &info, sizeof info) == sizeof info && info.ssi_int == 9, "signalfd");
  return verdict();
}
