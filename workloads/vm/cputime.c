/* CPU time and its timers: each line says what Linux does, too, whatever the machine's speed and wherever it is moved. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t profiled, passed;

static void on_profile(int signal) {
  (void)signal;
  profiled++;
}

static void on_virtual(int signal) {
  (void)signal;
  passed++;
}

static double used(clockid_t clock) {
  struct timespec time;
  return clock_gettime(clock, &time) == 0 ? (double)time.tv_sec + (double)time.tv_nsec / 1e9 : -1;
}

int main(void) {
  setbuf(stdout, 0);
  signal(SIGPROF, on_profile);
  signal(SIGVTALRM, on_virtual);
  clockid_t own;
  printf("clock of the process: %d\n", clock_getcpuclockid(0, &own) == 0 && used(own) >= 0);

  struct itimerval often = {{0, 20000}, {0, 20000}}, once = {{0, 0}, {0, 50000}}, left;
  setitimer(ITIMER_PROF, &often, 0);
  setitimer(ITIMER_VIRTUAL, &once, 0);
  double began = used(CLOCK_PROCESS_CPUTIME_ID), last = began;
  int backwards = 0;
  while (profiled < 5 || passed < 1) {
    double now = used(CLOCK_THREAD_CPUTIME_ID);
    backwards += now < last;
    last = now;
  }
  printf("computing: enough was used: %d, backwards %d\n", used(CLOCK_PROCESS_CPUTIME_ID) - began >= 0.05, backwards);
  getitimer(ITIMER_PROF, &left);
  printf("interval %ld\n", (long)left.it_interval.tv_usec);
  often = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_PROF, &often, 0);
  getitimer(ITIMER_VIRTUAL, &left);
  printf("once: %d, left %ld\n", (int)passed, (long)left.it_value.tv_usec);

  once = (struct itimerval){{0, 0}, {3600, 0}};
  setitimer(ITIMER_VIRTUAL, &once, 0);
  double before = used(CLOCK_PROCESS_CPUTIME_ID);
  usleep(300000);
  printf("asleep: little was used: %d\n", used(CLOCK_PROCESS_CPUTIME_ID) - before < 0.25);
  getitimer(ITIMER_VIRTUAL, &left);
  printf("late: %d\n", left.it_value.tv_sec >= 3590 && left.it_value.tv_sec <= 3600);
  struct rusage usage;
  struct tms ticks;
  getrusage(RUSAGE_SELF, &usage);
  times(&ticks);
  printf("usage: %d %d\n", usage.ru_utime.tv_sec + usage.ru_stime.tv_sec > 0 || usage.ru_utime.tv_usec > 40000,
         ticks.tms_utime + ticks.tms_stime >= 4);
  return 0;
}
