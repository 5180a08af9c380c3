/*
 * A system call that waits ends with EINTR when a handler of ours has run, where the kernel does not restart it by itself (signal(7)). The program
 * has no such handler, so it shall not see that: its signal frame is set back to the call, as the kernel does for SA_RESTART.
 *
 *   frame    rax = -EINTR, rip behind `syscall`     ─►     rax = the call's number, rip at `syscall`
 *
 * The kernel hands the number over nowhere; the code around the call tells it (arch_interrupted_call). Nothing is done
 *   - when a signal of the program's own waits: for that one the call may well have ended;
 *   - when the call has a time limit of which the kernel has not told how much is left, and it may have been set back again and again for as
 *     long as that: it would begin anew for ever. So such a wait never ends too early, but may take up to three times as long.
 */
#include "checkpoint.h"

/* Which argument, counted from 0, is the time limit, and what it says; or which is the socket that has one (SO_RCVTIMEO, SO_SNDTIMEO). */
enum limit {
  NO_LIMIT, KEPT_CURRENT /* by the kernel, where it is passed */, SLEEP /* 0: how long, 1: what is left */, CLOCK_SLEEP, MILLISECONDS, TIME_PAIR,
  RECEIVE, SEND, FUTEX,
};

static const struct waiting_call { uint16_t number; uint8_t limit, argument; } calls[] = {
#ifdef __NR_pause
  {__NR_pause, NO_LIMIT, 0}, {__NR_select, KEPT_CURRENT, 4}, {__NR_poll, MILLISECONDS, 2}, {__NR_epoll_wait, MILLISECONDS, 3},
#endif
  {__NR_rt_sigsuspend, NO_LIMIT, 0},    {__NR_pselect6, KEPT_CURRENT, 4},    {__NR_ppoll, KEPT_CURRENT, 2},
  {__NR_nanosleep, SLEEP, 0},           {__NR_clock_nanosleep, CLOCK_SLEEP, 2}, {__NR_epoll_pwait, MILLISECONDS, 3},
  {__NR_epoll_pwait2, TIME_PAIR, 3},    {__NR_rt_sigtimedwait, TIME_PAIR, 2}, {__NR_semop, NO_LIMIT, 0},
  {__NR_semtimedop, TIME_PAIR, 3},      {__NR_msgsnd, NO_LIMIT, 0},          {__NR_msgrcv, NO_LIMIT, 0},
  {__NR_read, RECEIVE, 0},              {__NR_readv, RECEIVE, 0},            {__NR_recvfrom, RECEIVE, 0},
  {__NR_recvmsg, RECEIVE, 0},           {__NR_accept, RECEIVE, 0},           {__NR_accept4, RECEIVE, 0},
  {__NR_write, SEND, 0},                {__NR_writev, SEND, 0},              {__NR_sendto, SEND, 0},
  {__NR_sendmsg, SEND, 0},              {__NR_connect, SEND, 0},             {__NR_futex, FUTEX, 1},
};

#define FORBIDDEN ~0ul

/* Calls with a time limit that were set back, by their stack pointer: since when, again and again, and when last. */
#define REMEMBERED 256
static struct { uint64_t stack, code, first, last; } remembered[REMEMBERED];

static uint64_t nanoseconds_at(uint64_t address) {
  const struct time_pair *pair = (const struct time_pair *)address;
  return address == 0 ? ~0ul : (uint64_t)pair->seconds * NANOSECONDS + pair->nanoseconds;
}

/* 0: it is none, or has none. */
static uint64_t limit_of_socket(uint64_t fd, uint32_t option) {
  int64_t limit[2] = {0, 0}; /* seconds, microseconds */
  uint32_t size = sizeof limit;
  if (failed(call(getsockopt, fd, 1 /* SOL_SOCKET */, option, limit, &size))) return 0;
  return limit[0] * NANOSECONDS + limit[1] * 1000;
}

/* How long the call would wait if it began anew; 0 when that is right, whatever it is. */
static uint64_t limit_of(const struct waiting_call *waiting, const uint64_t *argument) {
  const uint64_t value = argument[waiting->argument];
  switch (waiting->limit) {
    case SLEEP: return argument[1] == argument[0] ? 0 : nanoseconds_at(argument[0]);
    case CLOCK_SLEEP: return argument[1] & 1 /* TIMER_ABSTIME */ || argument[3] == argument[2] ? 0 : nanoseconds_at(argument[2]);
    case MILLISECONDS: return (int32_t)value < 0 ? 0 : (uint64_t)(uint32_t)value * 1000000;
    case TIME_PAIR: return value == 0 ? 0 : nanoseconds_at(value);
    case RECEIVE: return limit_of_socket(value, 20 /* SO_RCVTIMEO */);
    case SEND: return limit_of_socket(value, 21 /* SO_SNDTIMEO */);
    /* Until a moment, but for FUTEX_WAIT. Who uses that one must look again after any return, and knows better how long. */
    case FUTEX: return (value & 127) == 0 && argument[3] != 0 ? FORBIDDEN : 0;
    default: return 0;
  }
}

static bool may_begin_anew(uint64_t limit, uint64_t stack, uint64_t code) {
  const uint64_t now = clock_nanoseconds(1);
  const uint32_t place = (stack >> 4) % REMEMBERED; /* two that share one see EINTR more often, that is all */
  if (limit == 0) return true;
  if (limit == FORBIDDEN) return false;
  const bool known = remembered[place].stack == stack && remembered[place].code == code;
  const bool again = known && now - remembered[place].last <= limit; /* else it has ended since, and this is another; a clock set back looks so, too */
  if (!again) remembered[place].stack = stack, remembered[place].code = code, remembered[place].first = now;
  remembered[place].last = now;
  if (now - remembered[place].first <= limit) return true;
  remembered[place].code = 0;
  return false;
}

/* True when a signal will be delivered to the program's handler, or end it, as soon as it goes on. */
static bool signal_waits(uint64_t mask) {
  static const uint64_t ignored_by_default = 1ul << 16 /* SIGCHLD */ | 1ul << 17 /* SIGCONT */ | 1ul << 22 /* SIGURG */ | 1ul << 27 /* SIGWINCH */;
  uint64_t waiting = 0;
  call(rt_sigpending, &waiting, 8);
  waiting &= ~mask & ~own_signals & ~signal_mask(STOP_SIGNAL);
  for (uint32_t signal = 1; signal <= 64; signal++) {
    struct kernel_action action = {0, 0, 0, 0};
    if (!(waiting & signal_mask(signal))) continue;
    call(rt_sigaction, signal, 0, &action, 8);
    if (action.handler > 1 || (action.handler == 0 && !(ignored_by_default >> (signal - 1) & 1))) return true;
  }
  return false;
}

void set_back_interrupted_call(struct ucontext *context) {
  uint64_t argument[6];
  for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
    if (!arch_interrupted_call(context, calls[i].number, argument)) continue;
    if (!signal_waits(arch_signal_mask(context)) && may_begin_anew(limit_of(&calls[i], argument), arch_sp(context), arch_pc(context)))
      arch_begin_call_anew(context, calls[i].number);
    return;
  }
}
