/*
 * What writers that were killed left behind: .NAME.PID.tmp beside the image NAME. Such a file is removed when no process has that pid and
 * nobody holds its lock, which every writer takes: one in another pid namespace shows only by its lock.
 */
#include "writer.h"

#define LOCK_EXCLUSIVE_NOW (2 | 4) /* flock(2): LOCK_EX | LOCK_NB */

/* The pid in the name of a temporary file of this image, or 0. `stem` is ".NAME.". */
static int writer_in(const char *name, const char *stem) {
  if (!begins_with(name, stem)) return 0;
  const char *at = name + length_of(stem);
  const uint64_t pid = take_number(&at, 10);
  return same_text(at, ".tmp") && pid < 1u << 30 ? pid : 0;
}

static void remove_stale(int folder, const char *name, int pid) {
  if (call(kill, pid, 0) != ERROR_NO_SUCH_PROCESS) return;
  const long fd = call(openat, folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
  if (failed(fd)) return;
  if (call(flock, fd, LOCK_EXCLUSIVE_NOW) != ERROR_WOULD_BLOCK) call(unlinkat, folder, name, 0);
  call(close, fd);
}

void hold_lock(struct writer *writer) {
  call(flock, writer->out, LOCK_EXCLUSIVE_NOW);
}

void remove_stale_files(struct writer *writer) {
  char folder[PATH_SIZE], entries[8192];
  size_t slash = 0;
  for (size_t i = 0; writer->temporary[i] != 0; i++) {
    folder[i] = writer->temporary[i];
    if (folder[i] == '/') slash = i;
  }
  folder[slash + 1] = 0;
  TEXT(stem, PATH_SIZE);
  put(&stem, "."), put(&stem, writer->path + slash + 1), put(&stem, ".");
  const long fd = call(openat, AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (failed(fd)) return;
  for (long size; (size = call(getdents64, fd, entries, sizeof entries)) > 0;)
    for (long at = 0; at < size; at += *(uint16_t *)(entries + at + 16)) {
      const char *name = entries + at + 19;
      const int pid = writer_in(name, stem.start);
      if (pid > 0) remove_stale(fd, name, pid);
    }
  call(close, fd);
}
