/* Timers, and calls that wait: each line says what Linux does, too. The last one returns from a handler to an address
 * that no CPU takes. No line depends on how fast the machine is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t alarms;

static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

static void astray(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = 0x800000000000;
}

static void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  sigaction(signal, &action, 0);
}

static void once(int milliseconds) {
  struct itimerval timer = {.it_value = {.tv_usec = milliseconds * 1000}};
  setitimer(ITIMER_REAL, &timer, 0);
}

/* For calls that an alarm just before them would leave waiting: another one comes. */
static void again(int milliseconds) {
  struct itimerval timer = {{0, milliseconds * 1000}, {0, milliseconds * 1000}};
  setitimer(ITIMER_REAL, &timer, 0);
}

static const char *how(int result) {
  return result >= 0 ? "done" : errno == EINTR ? "interrupted" : strerror(errno);
}

int main(void) {
  setbuf(stdout, 0);
  handle(SIGALRM, on_alarm, 0);
  int ends[2];
  char byte;
  pipe(ends);

  once(30);
  while (alarms == 0)
    ;
  printf("an alarm comes while computing: %d\n", alarms);

  struct itimerval often = {{0, 5000}, {0, 5000}}, left;
  setitimer(ITIMER_REAL, &often, 0);
  while (alarms < 6)
    ;
  getitimer(ITIMER_REAL, &left);
  printf("again and again; interval %ld\n", (long)left.it_interval.tv_usec);
  once(0);
  getitimer(ITIMER_REAL, &left);
  printf("off: %ld\n", (long)left.it_value.tv_usec);

  again(20);
  printf("pause: %s\n", how(pause()));
  struct timespec wish = {100000, 0}, rest = {0, 0};
  printf("nanosleep: %s", how(nanosleep(&wish, &rest)));
  printf(", rest %s\n", rest.tv_sec > 99000 && rest.tv_sec < 100000 ? "told" : "wrong");
  printf("read: %s\n", how((int)read(ends[0], &byte, 1)));
  struct pollfd both[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = 77, .events = 0}};
  printf("poll: %s\n", how(poll(both, 1, -1)));
  once(0);
  close(both[1].fd); /* whoever started this may have left it open */
  int closed = poll(both, 2, -1);
  printf("poll of what is closed: %d %#x\n", closed, both[1].revents);

  sigset_t none, alarm_only, before;
  sigemptyset(&none);
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  sigprocmask(SIG_BLOCK, &alarm_only, &before);
  int count = alarms;
  once(1);
  usleep(40000); /* blocked and pending, however slow the machine is: sigsuspend finds it */
  printf("blocked: %d\n", alarms - count);
  printf("sigsuspend: %s", how(sigsuspend(&none)));
  printf(", %d\n", alarms - count);
  once(20);
  printf("sigtimedwait: %d\n", sigtimedwait(&alarm_only, 0, &(struct timespec){10, 0}));
  printf("sigtimedwait: %s\n", how(sigtimedwait(&alarm_only, 0, &(struct timespec){0, 1000})));
  once(20);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  printf("pselect: %s\n", how(pselect(ends[0] + 1, &set, 0, 0, 0, &none)));
  sigprocmask(SIG_SETMASK, 0, &before);
  printf("blocked afterwards: %d\n", sigismember(&before, SIGALRM));
  sigprocmask(SIG_SETMASK, &none, 0);

  struct timeval moment = {0, 2000};
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  printf("select, nothing there: %d", select(ends[0] + 1, &set, 0, 0, &moment));
  printf(" %d\n", FD_ISSET(ends[0], &set) != 0);
  write(ends[1], "x", 1);
  fd_set writable;
  FD_ZERO(&writable);
  FD_SET(ends[0], &set);
  FD_SET(ends[1], &writable);
  int found = select(ends[1] + 1, &set, &writable, 0, 0);
  printf("select: %d %d %d\n", found, FD_ISSET(ends[0], &set) != 0, FD_ISSET(ends[1], &writable) != 0);
  close(60); /* below 64: Linux looks no further than the table of descriptors goes, and waits without an end */
  FD_ZERO(&set);
  FD_SET(60, &set);
  printf("select of what is closed: %s\n", how(select(61, &set, 0, 0, 0)));

  read(ends[0], &byte, 1);
  static char page[4096];
  struct iovec pieces[2] = {{page, 3}, {page + 3, 3}};
  write(ends[1], "abc", 3);
  printf("readv does not wait for more: %d %s\n", (int)readv(ends[0], pieces, 2), page);
  printf("nothing of an empty pipe: %d\n", (int)read(ends[0], page, 0));
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  printf("an empty pipe that does not wait: %s\n", how((int)read(ends[0], page, 1)));
  fcntl(ends[0], F_SETFL, 0);
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  while (write(ends[1], page, sizeof page) > 0)
    ;
  fcntl(ends[1], F_SETFL, 0);
  while (read(ends[0], page, sizeof page) < (int)sizeof page)
    ;
  pieces[0].iov_len = pieces[1].iov_len = sizeof page;
  pieces[1].iov_base = page;
  again(20);
  printf("writev tells of what was written before a signal: %d\n", (int)writev(ends[1], pieces, 2));
  once(0);
  handle(SIGALRM, on_alarm, SA_RESTART);
  count = alarms;
  often = (struct itimerval){{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &often, 0);
  struct timeval from, to;
  gettimeofday(&from, 0);
  do
    gettimeofday(&to, 0);
  while (alarms < count + 3);
  once(0);
  printf("handlers run between calls\n");
  alarm(100000);
  printf("alarm: %s\n", alarm(0) > 99000 ? "told" : "wrong");

  struct sigaction action = {.sa_sigaction = astray, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, 0);
  raise(SIGUSR1);
  printf("never\n");
  return 0;
}
