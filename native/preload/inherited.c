/* What the program found open when it started. After a restore the same numbers lead to what the restorer found open. */
#include "checkpoint.h"
#include <linux/stat.h>

struct inherited_file inherited_files[MAX_INHERITED];
uint64_t inherited_places[MAX_PLACES];

const char *const place_paths[MAX_PLACES] = {"root",   "ns/mnt",    "ns/net",  "ns/ipc",
                                             "ns/uts", "ns/cgroup", "ns/user", "ns/time", "ns/pid_for_children"};

/* What tells a namespace or root folder from others: 0 where /proc does not say. The link of a namespace, "net:[4026531840]", is read quicker than followed. */
uint64_t place_identity(int process, uint32_t place) {
  struct statx stat;
  char link[64] = {0};
  if (place > 0) {
    const char *at = link;
    if (failed(call(readlinkat, process, place_paths[place], link, sizeof link - 1))) return 0;
    while (*at != 0 && (*at < '0' || *at > '9')) at++;
    return take_number(&at, 10);
  }
  if (failed(call(statx, process, place_paths[place], 0, STATX_INO, &stat))) return 0;
  return stat.stx_ino ^ device_number(stat.stx_dev_major, stat.stx_dev_minor) << 32;
}

static void note_places(void) {
  const long process = call(openat, AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (failed(process)) return;
  for (uint32_t i = 0; i < MAX_PLACES; i++) inherited_places[i] = place_identity(process, i);
  call(close, process);
}

/* The inode of a pipe or socket, else 0. */
static uint64_t connection_inode(int fd) {
  struct statx stat;
  if (failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_TYPE | STATX_INO, &stat))) return 0;
  const uint32_t type = stat.stx_mode & 0170000;
  return type == 0010000 || type == 0140000 ? stat.stx_ino : 0;
}

void note_what_is_inherited(void) {
  note_places();
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

void refresh_what_is_inherited(void) {
  note_places();
  for (uint32_t i = 0; i < MAX_INHERITED && inherited_files[i].fd != 0; i++) inherited_files[i].inode = connection_inode(inherited_files[i].fd);
}
