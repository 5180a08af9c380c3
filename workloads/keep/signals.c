/* Signal actions, masks, pending signals with what they carry, the alternate stack. */
#include "keep.h"
#include <pthread.h>

static int seen[128], values[128], codes[128], order[128], taken;
static volatile bool on_other_stack;
static char *other_stack;

static void note(int signal, siginfo_t *info, void *context) {
  char here;
  (void)context;
  seen[signal]++;
  values[signal] = info->si_value.sival_int;
  codes[signal] = info->si_code;
  if (taken < 128) order[taken++] = info->si_value.sival_int;
  if (signal == SIGSEGV) on_other_stack = &here >= other_stack && &here < other_stack + 65536;
}

static void install(int signal, int flags) {
  struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
  sigaddset(&action.sa_mask, SIGQUIT);
  sigaction(signal, &action, 0);
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  other_stack = malloc(65536);
  const stack_t stack = {.ss_sp = other_stack, .ss_size = 65536};
  sigaltstack(&stack, 0);
  install(SIGUSR1, 0);
  install(SIGHUP, SA_RESTART | SA_NODEFER);
  install(SIGSEGV, SA_ONSTACK);
  for (int i = 0; i < 4; i++) install(SIGRTMIN + i, SA_RESTART);
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);

  sigset_t mask, before, after;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGTERM);
  for (int i = 0; i < 4; i++) sigaddset(&mask, SIGRTMIN + i);
  sigprocmask(SIG_BLOCK, &mask, &before);
  sigprocmask(SIG_BLOCK, 0, &before);
  kill(getpid(), SIGUSR1);
  for (int i = 0; i < 5; i++) sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 100 + i});
  pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){.sival_int = 55});
  struct sigaction actions[65], now;
  for (int i = 1; i < 65; i++) sigaction(i, 0, &actions[i]);

  wait_for_go();

  for (int i = 1; i < 65; i++) {
    if (i == SIGUSR2 || sigaction(i, 0, &now) != 0) continue;
    check(now.sa_handler == actions[i].sa_handler && now.sa_flags == actions[i].sa_flags && memcmp(&now.sa_mask, &actions[i].sa_mask, 8) == 0,
          "action of signal %d", i);
  }
  sigprocmask(SIG_BLOCK, 0, &after);
  check(memcmp(&before, &after, 8) == 0, "signal mask");
  check(seen[SIGUSR1] == 0, "a blocked signal came through");
  stack_t found;
  sigaltstack(0, &found);
  check(found.ss_sp == other_stack && found.ss_size == 65536, "alternate stack");
  sigdelset(&mask, SIGTERM);
  sigprocmask(SIG_UNBLOCK, &mask, 0);
  check(seen[SIGUSR1] == 1 && codes[SIGUSR1] == SI_USER, "pending signal: %d times, code %d", seen[SIGUSR1], codes[SIGUSR1]);
  check(seen[SIGRTMIN + 1] == 5 && codes[SIGRTMIN + 1] == SI_QUEUE, "queued signals: %d", seen[SIGRTMIN + 1]);
  check(seen[SIGRTMIN + 2] == 1 && values[SIGRTMIN + 2] == 55, "signal pending for a thread");
  int next = 100;
  for (int i = 0; i < taken; i++)
    if (order[i] >= 100 && order[i] < 105) check(order[i] == next++, "order of queued signals");
  raise(SIGSEGV);
  check(seen[SIGSEGV] == 1 && on_other_stack, "handler on the alternate stack");
  return verdict();
}
