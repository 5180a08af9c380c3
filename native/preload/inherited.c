/* What the program found open when it started. After a restore the same numbers lead to what the restorer found open. */
#include "checkpoint.h"
#include <linux/stat.h>

struct inherited_file inherited_files[MAX_INHERITED];

/* The inode of a pipe or socket, else 0. */
static uint64_t connection_inode(int fd) {
  struct statx stat;
  if (failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_TYPE | STATX_INO, &stat))) return 0;
  const uint32_t type = stat.stx_mode & 0170000;
  return type == 0010000 || type == 0140000 ? stat.stx_ino : 0;
}

void note_inherited_files(void) {
  char entries[1024];
  uint32_t count = 0;
  const long directory = call(openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  for (long size; (size = call(getdents64, directory, entries, sizeof entries)) > 0;)
    for (long at = 0; at < size; at += *(uint16_t *)(entries + at + 16)) {
      const char *name = entries + at + 19;
      const int fd = take_number(&name, 10);
      if (fd < 3 || fd == directory || count == MAX_INHERITED) continue;
      const uint64_t inode = connection_inode(fd);
      if (inode != 0) inherited_files[count++] = (struct inherited_file){fd, inode};
    }
  call(close, directory);
}

void refresh_inherited_files(void) {
  for (uint32_t i = 0; i < MAX_INHERITED && inherited_files[i].fd != 0; i++) inherited_files[i].inode = connection_inode(inherited_files[i].fd);
}
