/*
 * How the process that writes the image is made: a copy of the program.
 *
 *   program ── fork ──► copy ── clone(CLONE_VM) ──► writer: the same memory under another pid
 *      │                 └ ends, and is waited for
 *
 * Two processes, so that the program never has a child to wait for. The exit signal of the copy is 0: no SIGCHLD, and wait(2) without __WALL
 * or __WCLONE does not see it. A program that need not stand does not wait for it itself: a thread of ours does, and ends with it, about 0.1 ms
 * later. An emulator (qemu-user) knows neither shared memory nor another exit signal: there the copy is an ordinary child, whose signal is taken away.
 */
#include "checkpoint.h"
#include <linux/sched.h>
#include <linux/wait.h>

#define REAPER_LIMIT (NANOSECONDS / 10)
#define A_MOMENT (NANOSECONDS / 1000)

static int32_t last_writer; /* of a program that stood for it */

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
static bool reaper_has_ended(struct scratch *scratch) {
  const uint64_t begun = clock_nanoseconds(1);
  for (uint32_t tid; (tid = __atomic_load_n(&scratch->reaper, __ATOMIC_ACQUIRE)) != 0;) {
    if (clock_nanoseconds(1) - begun > REAPER_LIMIT) return false;
    futex_wait(&scratch->reaper, tid, true, A_MOMENT);
  }
  return true;
}

bool writer_at_work(struct scratch *kept) {
  if (kept == 0) return !has_ended(last_writer, "imago-writer");
  return !reaper_has_ended(kept) || (kept->is_being_written && !has_ended(kept->writer, "imago-writer"));
}

static __attribute__((noreturn)) void reap(void *argument) {
  struct scratch *scratch = argument;
  int32_t copy;
  while ((copy = __atomic_load_n(&scratch->copy, __ATOMIC_ACQUIRE)) == 0) futex_wait((uint32_t *)&scratch->copy, 0, true, A_MOMENT);
  if (copy > 0)
    while (call(wait4, copy, 0, __WCLONE, 0) == ERROR_INTERRUPTED) {}
  for (;;) call(exit, 0);
}

/*
 * Before the fork, after which each page that is written takes longer. All signals are blocked here, and so in the thread. Linux makes none for a
 * program that has left its pid namespace for its children, where the copy would be.
 */
bool start_reaper(struct scratch *scratch) {
  const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  const uint64_t stack = (uint64_t)scratch->reaper_stack + sizeof scratch->reaper_stack;
  return !failed(arch_start_thread(flags, stack, &scratch->reaper, reap, scratch));
}

/* In the copy. */
static __attribute__((noreturn)) void become_writer_without_parent(struct scratch *scratch) {
  __atomic_store_n(&scratch->copy, call(getpid), __ATOMIC_RELEASE);
  if (scratch->goes_on_at_once) futex_wake((uint32_t *)&scratch->copy, true); /* the program has no time for it */
  long result;
  if (!scratch->is_emulated) result = arch_change_process(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | CLONE_PARENT_SETTID, &scratch->writer);
  else if ((result = call(clone, SIGCHLD, 0, 0, 0, 0)) > 0) scratch->writer = result, call(exit, 0);
  if (result == 0) become_writer(scratch);
  if (scratch->go != GO_WAIT) tell_refusal(&scratch->options, "error cannot make a second process");
  call(exit_group, 1);
  __builtin_unreachable();
}

__attribute__((noinline)) long fork_writer(struct scratch *scratch) {
  scratch->writer = -1;
  scratch->is_being_written = 1;
  long copy = call(clone, 0, 0, 0, 0, 0);
  if (copy == ERROR_INVALID) {
    scratch->is_emulated = 1;
    call(rt_sigpending, &scratch->waiting_before, 8);
    copy = call(clone, SIGCHLD, 0, 0, 0, 0);
  }
  if (copy == 0) become_writer_without_parent(scratch);
  __atomic_store_n(&scratch->copy, copy, __ATOMIC_RELEASE);
  while (failed(copy) && !reaper_has_ended(scratch)) {}
  return copy;
}

void wait_for_copy(const struct scratch *scratch) {
  const uint64_t child_signal = signal_mask(SIGCHLD);
  const struct time_pair now = {0, 0};
  while (call(wait4, scratch->copy, 0, scratch->is_emulated ? 0 : __WCLONE, 0) == ERROR_INTERRUPTED) {}
  if (scratch->is_emulated && !(scratch->waiting_before & child_signal)) call(rt_sigtimedwait, &child_signal, 0, &now, 8);
  last_writer = scratch->writer;
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
