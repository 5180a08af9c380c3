/*
 * How the process that writes the image is made: a copy of the program.
 *
 *   program ── clone(CLONE_VM) ──► helper ── fork of the memory that both have ──► writer
 *      │ waits for its end            │ looks how much of it was copied              │ waits for that
 *      │ ◄────────────────────────────┘ ends                                         │ begins
 *
 * Two processes, so that the program never has a child to wait for. The exit signal of the helper is 0: no SIGCHLD, and wait(2) without __WALL
 * or __WCLONE does not see it. An emulator (qemu-user) knows neither shared memory nor another exit signal: there it is an ordinary child, whose
 * signal is taken away.
 */
#include "checkpoint.h"
#include <linux/sched.h>
#include <linux/wait.h>

static int32_t last_writer;

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

bool writer_at_work(void) {
  return !has_ended(last_writer, "imago-writer");
}

/* The program goes on at once when all of its memory was copied, and nothing of it is shared. */
static void help(struct scratch *scratch, uint32_t exit_signal) {
  scratch->helper = call(getpid);
  const long writer = call(clone, exit_signal, 0, 0, 0, 0);
  if (writer == 0) become_writer(scratch);
  TEXT(path, 32);
  put(&path, "/proc/"), put_decimal(&path, writer), put(&path, "/statm");
  scratch->writer = writer;
  scratch->copied_pages = total_pages(AT_FDCWD, path.start);
  if (scratch->shares_nothing && scratch->copied_pages == scratch->pages) scratch->go = GO_RUN;
  __atomic_store_n(&scratch->measured, 1, __ATOMIC_RELEASE);
  call(exit, 0);
}

__attribute__((noinline)) long fork_writer(struct scratch *scratch) {
  const uint64_t child_signal = 1ul << (SIGCHLD - 1);
  uint64_t waiting = 0;
  uint32_t exit_signal = 0;
  scratch->writer = -1;
  long helper = call(clone, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS | CLONE_SIGHAND, 0, 0, 0, 0);
  if (helper == ERROR_INVALID) helper = call(clone, exit_signal = SIGCHLD, 0, 0, 0, 0);
  if (helper == 0) help(scratch, exit_signal);
  if (failed(helper)) return helper;
  if (exit_signal != 0) call(rt_sigpending, &waiting, 8);
  while (call(wait4, helper, 0, exit_signal == 0 ? __WCLONE : 0, 0) == ERROR_INTERRUPTED) {}
  if (exit_signal != 0 && !(waiting & child_signal)) {
    const struct time_pair now = {0, 0};
    call(rt_sigtimedwait, &child_signal, 0, &now, 8);
  }
  if (scratch->writer > 0) last_writer = scratch->writer;
  return scratch->writer;
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
