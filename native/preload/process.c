/* What only the program itself can ask of the kernel: pending signals, timers, and what its copy does not inherit. */
#include "checkpoint.h"
#include <linux/prctl.h>
#include <linux/time.h>

/* The signals of a mask line of /proc/thread-self/status, such as SigPnd or ShdPnd. */
static uint64_t mask_of(const char *name) {
  LINES(lines, 512); /* small: this may run on an alternate stack */
  uint64_t mask = 0;
  if (!open_lines(&lines, AT_FDCWD, "/proc/thread-self/status")) return 0;
  for (char *line; (line = next_line(&lines)) != 0;)
    if (begins_with(line, name)) {
      const char *at = line + length_of(name);
      skip_spaces(&at);
      mask = take_number(&at, 16);
    }
  return mask;
}

/*
 * Notes the signals pending for this thread (or for the process, tid 0) with their siginfo. The kernel only hands them over, so each is taken and
 * sent again, in order. With all signals blocked, as here, nothing runs meanwhile.
 */
void note_pending(struct scratch *scratch, uint32_t tid) {
  const uint64_t ignored = own_signals | signal_mask(STOP_SIGNAL);
  const char *name = tid == 0 ? "ShdPnd:" : "SigPnd:";
  uint32_t mine[64];
  uint32_t count = 0;
  uint64_t any = 0;
  call(rt_sigpending, &any, 8); /* of both; says quickly that there are none */
  if ((any & ~ignored) == 0) return;
  while (count < 64) {
    const uint64_t waiting = mask_of(name) & ~ignored;
    if (waiting == 0) break;
    const uint64_t one = waiting & -waiting;
    const uint32_t index = __atomic_fetch_add(&scratch->pending_count, 1, __ATOMIC_ACQ_REL);
    if (index >= MAX_PENDING) break;
    struct note_pending *note = &scratch->pending[index];
    const struct time_pair now = {0, 0};
    note->signal = 0;
    const long signal = call(rt_sigtimedwait, &one, note->info, &now, 8);
    if (failed(signal)) continue; /* leaves an empty note, which the writer skips */
    note->tid = tid;
    note->signal = signal;
    mine[count++] = index;
  }
  for (uint32_t i = 0; i < count; i++) {
    struct note_pending *note = &scratch->pending[mine[i]];
    if (tid == 0) call(rt_sigqueueinfo, scratch->pid, note->signal, note->info);
    else call(rt_tgsigqueueinfo, scratch->pid, tid, note->signal, note->info);
  }
}

static void note_interval_timers(struct scratch *scratch) {
  for (uint32_t which = 0; which < 3; which++) {
    int64_t value[4] = {0}; /* interval and remaining: seconds, microseconds */
    if (failed(call(getitimer, which, value))) continue;
    if (value[2] == 0 && value[3] == 0) value[2] = value[0], value[3] = value[1]; /* expired now: the kernel re-arms it with its signal */
    if (value[2] == 0 && value[3] == 0) continue;
    scratch->interval_timers[scratch->interval_timer_count++] = (struct note_interval_timer){
      .which = which,
      .remaining = value[2] * NANOSECONDS + value[3] * 1000,
      .interval = value[0] * NANOSECONDS + value[1] * 1000,
    };
  }
}

/* timers of /proc/self: "ID: 0", "signal: 14/00007ffd…", "notify: signal/pid.4711", "ClockID: 1" for each. */
static void read_posix_timers(struct scratch *scratch) {
  LINES(lines, 512);
  if (!open_lines(&lines, AT_FDCWD, "/proc/self/timers")) return;
  struct note_posix_timer *timer = 0;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    if (begins_with(line, "ID: ")) {
      if (scratch->timer_count == sizeof scratch->timers / sizeof *scratch->timers) timer = 0;
      else *(timer = &scratch->timers[scratch->timer_count++]) = (struct note_posix_timer){0};
      at += 4;
      if (timer != 0) timer->id = take_number(&at, 10);
    } else if (timer == 0) continue;
    else if (begins_with(line, "signal: ")) {
      at += 8;
      timer->signal = take_number(&at, 10);
      at++;
      timer->value = take_number(&at, 16);
    } else if (begins_with(line, "notify: ")) {
      at += 8;
      timer->notify = begins_with(at, "none") ? 1 : begins_with(at, "thread") ? 2 : 0;
      const char *tid = find_text(at, "tid.");
      if (tid != 0) tid += 4, timer->tid = take_number(&tid, 10), timer->notify |= 4;
    } else if (begins_with(line, "ClockID: ")) {
      at += 9;
      const bool negative = *at == '-';
      at += negative;
      timer->clock = take_number(&at, 10);
      if (negative) timer->clock = -timer->clock;
    }
  }
  for (uint32_t i = 0; i < scratch->timer_count; i++) {
    timer = &scratch->timers[i];
    struct time_pair value[2] = {{0, 0}, {0, 0}};
    call(timer_gettime, timer->id, value);
    timer->interval = value[0].seconds * NANOSECONDS + value[0].nanoseconds;
    timer->remaining = value[1].seconds * NANOSECONDS + value[1].nanoseconds;
    const long overrun = call(timer_getoverrun, timer->id);
    timer->overrun = failed(overrun) ? 0 : overrun;
  }
}

bool may_make_any_call(void) {
  return call(prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == 0;
}

/* The number that a new timer gets, or -1. */
static int32_t next_timer(void) {
  const struct { uint64_t value; int32_t signal, notify; uint64_t more[6]; } nobody = {.notify = 1 /* SIGEV_NONE */};
  int32_t id;
  if (!may_make_any_call() || failed(call(timer_create, 1 /* CLOCK_MONOTONIC */, &nobody, &id))) return -1;
  call(timer_delete, id);
  return id;
}

/*
 * To open the list takes long. Linux numbers the timers of a process one after another, and gives no number out twice: when there was none at the
 * last checkpoint, and the next has the number that is due, there is none now.
 */
static void note_posix_timers(struct scratch *scratch) {
  int32_t next = next_timer();
  if (scratch->timer_due == 0 || next != scratch->timer_due) {
    read_posix_timers(scratch);
    const int32_t before = next;
    next = next_timer();
    if (scratch->timer_count > 0 || before < 0 || next != before + 1) next = -1;
  }
  scratch->timer_due = next + 1;
}

void note_timers(struct scratch *scratch) {
  note_interval_timers(scratch);
  note_posix_timers(scratch);
}

uint64_t total_pages(int directory, const char *statm) {
  char text[128];
  const char *at = text;
  return read_text(directory, statm, text, sizeof text) > 0 ? take_number(&at, 10) : 0;
}
