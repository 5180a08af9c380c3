/*
 * Calls whose numbers or structures differ between the ISAs. The program is compiled once, with the headers of x86-64;
 * here its values become those of the machine it runs on, and back (src/toolchain/renames.ts).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fenv.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/stat.h>

/* A number of x86-64 and the one of this machine. */
struct pair {
  int theirs, ours;
};

static int translate(int value, const struct pair *pairs, size_t count, int back) {
  int known = 0, result = 0;
  for (size_t i = 0; i < count; i++) {
    int from = back ? pairs[i].ours : pairs[i].theirs, to = back ? pairs[i].theirs : pairs[i].ours;
    known |= from;
    if ((value & from) == from) result |= to;
  }
  return (value & ~known) | result;
}

static const struct pair open_flags[] = {
    {0200000, O_DIRECTORY}, {0400000, O_NOFOLLOW}, {040000, O_DIRECT}, {0100000, O_LARGEFILE}};
static int flags_in(int flags) { return translate(flags, open_flags, 4, 0); }
static int flags_out(int flags) { return translate(flags, open_flags, 4, 1); }

#define MODE_ARGUMENT(last)                            \
  unsigned mode = 0;                                   \
  if (flags & (O_CREAT | 020000000)) {                 \
    va_list list;                                      \
    va_start(list, last);                              \
    mode = va_arg(list, unsigned);                     \
    va_end(list);                                      \
  }

int __imago_open(const char *path, int flags, ...) {
  MODE_ARGUMENT(flags)
  return open(path, flags_in(flags), mode);
}
int __imago_openat(int folder, const char *path, int flags, ...) {
  MODE_ARGUMENT(flags)
  return openat(folder, path, flags_in(flags), mode);
}
int __imago_fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  long argument = va_arg(list, long);
  va_end(list);
  if (command == F_SETFL) argument = flags_in((int)argument);
  int result = fcntl(fd, command, argument);
  return command == F_GETFL && result >= 0 ? flags_out(result) : result;
}

struct x86_64_stat {
  uint64_t dev, ino, nlink;
  uint32_t mode, uid, gid, pad;
  uint64_t rdev;
  int64_t size, blksize, blocks;
  struct timespec atim, mtim, ctim;
  int64_t unused[3];
};
_Static_assert(sizeof(struct x86_64_stat) == 144, "struct stat of x86-64");

static int stat_out(int failed, const struct stat *from, struct x86_64_stat *to) {
  if (failed != 0) return failed;
  *to = (struct x86_64_stat){
      .dev = from->st_dev, .ino = from->st_ino, .nlink = from->st_nlink, .mode = from->st_mode, .uid = from->st_uid,
      .gid = from->st_gid, .rdev = from->st_rdev, .size = from->st_size, .blksize = from->st_blksize,
      .blocks = from->st_blocks, .atim = from->st_atim, .mtim = from->st_mtim, .ctim = from->st_ctim};
  return 0;
}
int __imago_stat(const char *path, struct x86_64_stat *to) {
  struct stat native;
  return stat_out(stat(path, &native), &native, to);
}
int __imago_lstat(const char *path, struct x86_64_stat *to) {
  struct stat native;
  return stat_out(lstat(path, &native), &native, to);
}
int __imago_fstat(int fd, struct x86_64_stat *to) {
  struct stat native;
  return stat_out(fstat(fd, &native), &native, to);
}
int __imago_fstatat(int folder, const char *path, struct x86_64_stat *to, int flags) {
  struct stat native;
  return stat_out(fstatat(folder, path, &native, flags), &native, to);
}

/* struct epoll_event is packed on x86-64 only. */
struct x86_64_event {
  uint32_t events;
  uint64_t data;
} __attribute__((packed));

int __imago_epoll_ctl(int epoll, int operation, int fd, const struct x86_64_event *event) {
  struct epoll_event native;
  if (event != NULL) native = (struct epoll_event){.events = event->events, .data.u64 = event->data};
  return epoll_ctl(epoll, operation, fd, event == NULL ? NULL : &native);
}
int __imago_epoll_wait(int epoll, struct x86_64_event *events, int most, int timeout) {
  enum { BATCH = 64 };
  struct epoll_event native[BATCH];
  int count = epoll_wait(epoll, native, most < BATCH ? most : BATCH, timeout);
  for (int i = 0; i < count; i++) events[i] = (struct x86_64_event){native[i].events, native[i].data.u64};
  return count;
}

static const struct pair exceptions[] = {
    {1, FE_INVALID}, {4, FE_DIVBYZERO}, {8, FE_OVERFLOW}, {16, FE_UNDERFLOW}, {32, FE_INEXACT}};
int __imago_feclearexcept(int which) { return feclearexcept(translate(which, exceptions, 5, 0)); }
int __imago_feraiseexcept(int which) { return feraiseexcept(translate(which, exceptions, 5, 0)); }
int __imago_fetestexcept(int which) { return translate(fetestexcept(translate(which, exceptions, 5, 0)), exceptions, 5, 1); }

static const struct pair roundings[] = {
    {0, FE_TONEAREST}, {0x400, FE_DOWNWARD}, {0x800, FE_UPWARD}, {0xc00, FE_TOWARDZERO}};
int __imago_fegetround(void) {
  int native = fegetround();
  for (int i = 0; i < 4; i++)
    if (roundings[i].ours == native) return roundings[i].theirs;
  return -1;
}
int __imago_fesetround(int wanted) {
  for (int i = 0; i < 4; i++)
    if (roundings[i].theirs == wanted) return fesetround(roundings[i].ours);
  return -1;
}
