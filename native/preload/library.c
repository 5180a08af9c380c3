/* How threads come to stand still when the checkpointer is libckpt.so: wherever they are, by a signal. Its counterpart is program.c. */
#include "checkpoint.h"
#include <linux/sched.h>

/* Programs such as vim, java and an interactive bash take SIGUSR2 for themselves. */
const int request_signal = 64;

bool may_begin(siginfo_t *info) {
  (void)info;
  return true;
}

uint32_t stop_others(struct scratch *scratch, uint32_t *signalled_now) {
  char entries[1024];
  uint32_t count = 0;
  const long directory = call(openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  for (long size; (size = call(getdents64, directory, entries, sizeof entries)) > 0;)
    for (long at = 0; at < size; at += *(uint16_t *)(entries + at + 16)) {
      const char *name = entries + at + 19;
      const uint32_t tid = take_number(&name, 10);
      if (tid == 0 || tid == (uint32_t)scratch->leader_tid || tid >= sizeof scratch->signalled * 8) continue;
      count++;
      if (scratch->signalled[tid / 8] >> tid % 8 & 1) continue;
      scratch->signalled[tid / 8] |= 1 << tid % 8;
      if (send_stop(tid)) ++*signalled_now;
    }
  call(close, directory);
  return count;
}

/* unshare(CLONE_THREAD) does nothing but to fail when there is another thread, and so is quicker than to look into /proc. */
bool is_only_thread(void) {
  return may_make_any_call() && call(unshare, CLONE_THREAD) == 0;
}

void forget_request(void) {}

uint32_t own_protection(uint64_t start, uint64_t end) {
  (void)start, (void)end;
  return 0;
}

uint64_t usual_clear_tid(void) {
  return 0;
}
