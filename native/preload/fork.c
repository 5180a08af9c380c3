/*
 * How the process that writes the image is made: a copy of the program.
 *
 *   program ── fork ──► copy ── clone(CLONE_VM) ──► writer: the same memory under another pid
 *      │                 └ ends, and is waited for
 *
 * Two processes, so that the program never has a child to wait for. The exit signal of the copy is 0: no SIGCHLD, and wait(2) without __WALL
 * or __WCLONE does not see it. A program of one thread that need not stand does not wait for it itself: a thread of ours does, and ends with it,
 * about 0.1 ms later. An emulator (qemu-user) knows neither shared memory nor another exit signal: there the copy is an ordinary child, whose
 * signal is taken away.
 */
#include "checkpoint.h"
#include <linux/sched.h>
#include <linux/wait.h>

#define REAPER_LIMIT (NANOSECONDS / 10)

static int32_t copy, last_writer;
static uint32_t exit_signal; /* of the copy */
static uint32_t reaper;      /* the id of the thread that waits for the copy; the kernel makes it 0 when that has ended */
static uint8_t reaper_stack[1024] __attribute__((aligned(16)));

/* True when there is no such process, or only what nobody has waited for yet; or, with `name`, when it is another one by now. */
bool has_ended(int32_t pid, const char *name) {
  TEXT(path, 64);
  char stat[64]; /* "4711 (name) S …" */
  if (pid <= 0 || call(kill, pid, 0) == ERROR_NO_SUCH_PROCESS) return true;
  put(&path, "/proc/"), put_decimal(&path, pid), put(&path, "/stat");
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_CLOEXEC, 0);
  if (failed(fd)) return false;
  const long size = call(read, fd, stat, sizeof stat - 1);
  call(close, fd);
  stat[size > 0 ? size : 0] = 0;
  char *end = 0;
  for (char *at = stat; *at != 0; at++)
    if (*at == ')') end = at;
  if (end == 0) return true;
  *end = 0;
  const char *begin = find_text(stat, "(");
  return end[2] == 'Z' || end[2] == 'X' || (name != 0 && !same_text(begin + 1, name));
}

/* False when the copy has still not been scheduled. */
static bool reaper_has_ended(void) {
  const uint64_t begun = clock_nanoseconds(1);
  const long process = call(getpid);
  for (uint32_t tid; (tid = __atomic_load_n(&reaper, __ATOMIC_ACQUIRE)) != 0;) {
    if (call(tgkill, process, tid, 0) == ERROR_NO_SUCH_PROCESS) reaper = 0; /* it stayed behind when this process was forked */
    else if (clock_nanoseconds(1) - begun > REAPER_LIMIT) return false;
    else futex_wait(&reaper, tid, true, NANOSECONDS / 1000);
  }
  return true;
}

bool writer_at_work(const struct scratch *kept) {
  if (!reaper_has_ended()) return true;
  if (kept != 0) last_writer = kept->is_being_written ? kept->writer : 0;
  return !has_ended(last_writer, "imago-writer");
}

/* In the copy. */
static __attribute__((noreturn)) void become_writer_without_parent(struct scratch *scratch) {
  scratch->copy = call(getpid);
  long result;
  if (exit_signal == 0) result = arch_change_process(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | CLONE_PARENT_SETTID, &scratch->writer);
  else if ((result = call(clone, exit_signal, 0, 0, 0, 0)) > 0) scratch->writer = result, call(exit, 0);
  if (result == 0) become_writer(scratch);
  if (scratch->go != GO_WAIT) tell_refusal(&scratch->options, "error cannot make a second process");
  call(exit_group, 1);
  __builtin_unreachable();
}

__attribute__((noinline)) long fork_writer(struct scratch *scratch) {
  scratch->writer = -1;
  scratch->is_being_written = 1;
  exit_signal = 0;
  copy = call(clone, 0, 0, 0, 0, 0);
  if (copy == ERROR_INVALID) {
    exit_signal = SIGCHLD;
    call(rt_sigpending, &scratch->waiting_before, 8);
    copy = call(clone, exit_signal, 0, 0, 0, 0);
  }
  if (copy == 0) become_writer_without_parent(scratch);
  return copy;
}

void wait_for_copy(struct scratch *scratch) {
  const uint64_t child_signal = 1ul << (SIGCHLD - 1);
  const struct time_pair now = {0, 0};
  while (call(wait4, copy, 0, exit_signal == 0 ? __WCLONE : 0, 0) == ERROR_INTERRUPTED) {}
  if (exit_signal != 0 && !(scratch->waiting_before & child_signal)) call(rt_sigtimedwait, &child_signal, 0, &now, 8);
  last_writer = scratch->writer;
}

static __attribute__((noreturn)) void reap(void) {
  while (call(wait4, copy, 0, __WCLONE, 0) == ERROR_INTERRUPTED) {}
  for (;;) call(exit, 0);
}

/* All signals are blocked here, and so in the thread. */
void let_copy_be_reaped(struct scratch *scratch) {
  const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  if (failed(arch_start_thread(flags, (uint64_t)reaper_stack + sizeof reaper_stack, &reaper, reap))) wait_for_copy(scratch);
}

void wait_for_writer(struct scratch *scratch) {
  while (__atomic_load_n(&scratch->go, __ATOMIC_ACQUIRE) == GO_WAIT) {
    futex_wait(&scratch->go, GO_WAIT, true, NANOSECONDS / 20);
    if (has_ended(scratch->writer, 0) && scratch->go == GO_WAIT) {
      struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
      put(&message, "error the process that writes the image was killed");
      scratch->go = GO_REFUSED;
    }
  }
}
