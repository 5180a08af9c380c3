/*
 * What the program and its copy share, and the program may change as soon as it goes on: the content of shared memory, of pipes of its own and of
 * files that it writes, counters, locks, positions. When that is little, the program copies it before the fork, here, which takes less time than to wait
 * until its copy has; with nothing left that is shared it need not wait. What is not certain counts as shared.
 */
#include "checkpoint.h"
#include <linux/stat.h>

#define PIPE_FILE_SYSTEM 0x50495045u
#define MANY_DESCRIPTORS 1024 /* so far is looked for open ones */
#define FORMAT(mode) ((mode) & 0170000)

/* Bytes are noted one after another; nothing begins at 0, which stands for nothing. */
static struct noted_bytes begin_noting(const struct scratch *scratch) {
  const uint32_t start = round_up(scratch->noted_size + 1, 8);
  return (struct noted_bytes){start, start};
}

/* All that `fd` gives. False when there is not room enough. */
static bool note_stream(struct scratch *scratch, struct noted_bytes *bytes, int fd) {
  struct noted_bytes noted = begin_noting(scratch);
  for (;;) {
    if (noted.end >= NOTED_ROOM) return false;
    const long got = call(read, fd, scratch->noted + noted.end, NOTED_ROOM - noted.end);
    if (got == ERROR_INTERRUPTED) continue;
    if (failed(got)) return false;
    if (got == 0) break;
    noted.end += got;
  }
  *bytes = noted;
  scratch->noted_size = noted.end;
  return true;
}

static bool note_file_of_proc(struct scratch *scratch, struct noted_bytes *bytes, const char *folder, int number) {
  TEXT(path, 32);
  put(&path, folder), put_decimal(&path, number);
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
  if (failed(fd)) return false;
  const bool noted = note_stream(scratch, bytes, fd);
  call(close, fd);
  return noted;
}

/* linux/fs.h of Linux 6.11. */
struct mapping_query {
  uint64_t size, flags, address, start, end, mapping_flags, page_size, offset, inode;
  uint32_t major, minor, name_size, build_id_size;
  uint64_t name, build_id;
};
#define PROCMAP_QUERY 0xc0686611ul
#define QUERY_SHARED 0x08u
#define QUERY_THIS_OR_NEXT 0x10u
#define ERROR_NO_SUCH_MAPPING (-2)

/* Of a file that has a name the image does not hold the bytes. */
static bool is_kept_by_its_file(const char *name) {
  static const char deleted[] = " (deleted)";
  const size_t length = length_of(name);
  if (name[0] != '/' || begins_with(name, "/memfd:") || begins_with(name, "/dev/zero") || begins_with(name, "/SYSV")) return false;
  return length < sizeof deleted || !same_text(name + length - (sizeof deleted - 1), deleted);
}

static bool note_memory(struct scratch *scratch, uint64_t start, uint64_t end) {
  const struct { uint64_t start, size; } from = {start, end - start}, to = {(uint64_t)scratch->noted + begin_noting(scratch).start, end - start};
  struct noted_memory *note = &scratch->noted_memory[scratch->noted_memory_count];
  if (scratch->noted_memory_count == MAX_NOTED_MEMORY || from.size > NOTED_ROOM - begin_noting(scratch).start) return false;
  if (call(process_vm_readv, scratch->pid, &to, 1, &from, 1, 0) != (long)from.size) return false; /* raises no signal where there is nothing */
  *note = (struct noted_memory){start, end, begin_noting(scratch)};
  scratch->noted_size = note->content.end += from.size;
  scratch->noted_memory_count++;
  return true;
}

static bool note_mappings(struct scratch *scratch, int maps) {
  struct mapping_query query = {.size = sizeof query, .flags = QUERY_SHARED | QUERY_THIS_OR_NEXT, .name = (uint64_t)scratch->text};
  for (;; query.address = query.end) {
    query.name_size = sizeof scratch->text;
    const long found = call(ioctl, maps, PROCMAP_QUERY, &query);
    if (found == ERROR_NO_SUCH_MAPPING) return true;
    if (failed(found)) return false;
    if (query.start == (uint64_t)scratch || (query.name_size > 0 && is_kept_by_its_file(scratch->text))) continue;
    if (!note_memory(scratch, query.start, query.end)) return false;
  }
}

/* Not looked for when there was none at the last checkpoint: should there be some by now, the writer asks for a standing stop. */
static bool note_shared_memory(struct scratch *scratch) {
  if (scratch->shares_no_memory) return true;
  const long maps = call(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (failed(maps)) return false;
  const bool noted = note_mappings(scratch, maps);
  call(close, maps);
  scratch->shares_no_memory = scratch->noted_memory_count == 0;
  return noted;
}

/* True when the other end of this one-ended pipe is gone for good: nobody outside feeds or drains it. */
bool is_orphan(int fd) {
  struct { int fd; short events, returned; } poll = {fd, 0, 0};
  const struct time_pair now = {0, 0};
  return call(ppoll, &poll, 1, &now, 0, 8) == 1 && poll.returned & (0x8 | 0x10); /* POLLERR, POLLHUP */
}

static bool is_same(const struct noted_file *one, const struct noted_file *other) {
  return one->inode == other->inode && one->device == other->device;
}

/* tee(2) doubles what is in a pipe without taking it out. */
static bool note_content_of_pipe(struct scratch *scratch, struct noted_file *pipe) {
  int32_t copy[2], size = 0;
  if (pipe->content.end != 0) return true;
  if (failed(call(ioctl, pipe->fd, 0x541b /* FIONREAD */, &size))) return false;
  if (size == 0) pipe->content = begin_noting(scratch);
  if (size == 0) return true;
  if (failed(call(pipe2, copy, O_CLOEXEC | O_NONBLOCK))) return false;
  const bool is_all = call(tee, pipe->fd, copy[1], 1 << 30, 2 /* SPLICE_F_NONBLOCK */) == size;
  call(close, copy[1]);
  const bool noted = is_all && note_stream(scratch, &pipe->content, copy[0]);
  call(close, copy[0]);
  return noted;
}

/* A pipe to another process, whose content is not the program's to keep; or one of its own, by the second end that is found. */
static bool note_pipe(struct scratch *scratch, struct noted_file *pipe) {
  uint64_t statistics[16] = {0}; /* struct statfs: f_type comes first */
  if (failed(call(fstatfs, pipe->fd, statistics)) || statistics[0] != PIPE_FILE_SYSTEM || (pipe->flags & 3) == 2 || is_orphan(pipe->fd)) return false;
  for (struct noted_file *other = scratch->noted_files; other < pipe; other++)
    if (is_same(other, pipe) && (other->flags & 3) != (pipe->flags & 3))
      return note_content_of_pipe(scratch, (pipe->flags & 3) == O_RDONLY ? pipe : other);
  return true;
}

static bool has_lock(const struct scratch *scratch) {
  for (const struct noted_file *file = scratch->noted_files; file < scratch->noted_files + scratch->noted_file_count; file++)
    for (uint32_t at = file->fdinfo.start; at + 5 < file->fdinfo.end; at++)
      if (same_bytes(scratch->noted + at, "lock:", 5)) return true;
  return false;
}

/* That of a file is noted once, however many descriptors lead to it. To close a file again would lose the program's locks of it (fcntl(2)). */
static bool note_content_of_file(struct scratch *scratch, struct noted_file *file) {
  const bool is_small = file->size <= SMALL_FILE;
  for (const struct noted_file *other = scratch->noted_files; other < file; other++)
    if (is_same(other, file) && other->content.end != 0) {
      file->content = other->content;
      return true;
    }
  return is_small && !has_lock(scratch) && note_file_of_proc(scratch, &file->content, "/proc/self/fd/", file->fd);
}

static bool note_contents_of_files(struct scratch *scratch) {
  for (struct noted_file *file = scratch->noted_files; file < scratch->noted_files + scratch->noted_file_count; file++)
    if (file->is_kept && !note_content_of_file(scratch, file)) return false;
  return true;
}

/* True when the open file has nothing more that changes for the copy than what is noted. */
static bool note_file(struct scratch *scratch, int fd, uint32_t flags) {
  struct statx stat;
  struct { int32_t type, pid; } owner = {0, 0};
  if (failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_BASIC_STATS, &stat))) return false;
  if (!failed(call(fcntl, fd, 16 /* F_GETOWN_EX */, &owner)) && owner.pid != 0) return false;
  const bool may_seek = FORMAT(stat.stx_mode) == 0100000 || FORMAT(stat.stx_mode) == 0040000 /* directory */;
  const long offset = may_seek ? call(lseek, fd, 0, 1 /* SEEK_CUR */) : 0;
  struct noted_file *note = &scratch->noted_files[scratch->noted_file_count++];
  *note = (struct noted_file){
    .fd = fd,
    .flags = flags,
    .offset = failed(offset) ? 0 : offset, /* O_PATH has none */
    .inode = stat.stx_ino,
    .device = device_number(stat.stx_dev_major, stat.stx_dev_minor),
    .size = stat.stx_size,
    .modified = stat.stx_mtime.tv_sec * (int64_t)NANOSECONDS + stat.stx_mtime.tv_nsec,
  };
  switch (FORMAT(stat.stx_mode)) {
    case 0140000 /* socket */: return fd < 3;
    case 0010000 /* fifo */: return note_pipe(scratch, note);
    case 0020000 /* character device */:
      if (fd < 3 || stat.stx_rdev_major == 1 /* null and its like */) return true;
      break;
    case 0100000 /* regular */:
      note->is_kept = stat.stx_nlink == 0 || ((flags & 3) != O_RDONLY && (note->size <= SMALL_FILE || scratch->options.files));
      break;
  }
  return note_file_of_proc(scratch, &note->fdinfo, "/proc/self/fdinfo/", fd); /* locks, counters, timers, watches */
}

/* How many descriptors are open, as Linux 6.2 and later show it. */
static uint64_t open_descriptors(void) {
  struct statx stat;
  return failed(call(statx, AT_FDCWD, "/proc/self/fd", 0, STATX_SIZE, &stat)) ? 0 : stat.stx_size;
}

/* Of those open at the last checkpoint, the lowest from `fd` on; else -1. */
static int next_known(const struct scratch *scratch, int fd) {
  for (uint32_t i = 0; i < scratch->descriptor_count; i++)
    if (scratch->descriptors[i] >= fd) return scratch->descriptors[i];
  return -1;
}

/*
 * They are counted once; then those are looked at that were open, and the lowest number that is free: a new descriptor would have it. Should there be
 * another all the same, the writer asks for a standing stop.
 */
static bool note_files(struct scratch *scratch) {
  const bool is_known = scratch->descriptor_count > 0;
  const uint64_t count = is_known ? MAX_NOTED_FILES : open_descriptors();
  bool may_be_new = true;
  if (count == 0 || count > MAX_NOTED_FILES) return false;
  for (int fd = 0; fd >= 0 && fd < MANY_DESCRIPTORS && scratch->noted_file_count < count; fd = may_be_new ? fd + 1 : next_known(scratch, fd + 1)) {
    const long flags = call(fcntl, fd, 3 /* F_GETFL */, 0);
    if (failed(flags)) may_be_new = !is_known;
    else if (!note_file(scratch, fd, flags)) return false;
  }
  if (!is_known && scratch->noted_file_count != count) return false;
  scratch->descriptor_count = scratch->noted_file_count;
  for (uint32_t i = 0; i < scratch->noted_file_count; i++) scratch->descriptors[i] = scratch->noted_files[i].fd;
  return note_contents_of_files(scratch);
}

bool shares_nothing(struct scratch *scratch) {
  if (scratch->options.blocking || scratch->options.stand || scratch->has_children || (scratch->pages == 0 && !scratch->is_settled)) return false;
  return note_shared_memory(scratch) && note_files(scratch);
}
