/*
 * What the program and its copy share, and the program may change as soon as it goes on: memory, the content of pipes and of files that it
 * writes, counters, locks. With nothing of that the copy can tell all by itself, and the program need not wait for it. To find that out takes a
 * few quick calls; what is not certain counts as shared. Of open files it keeps the positions, which are shared, too.
 */
#include "checkpoint.h"
#include <linux/stat.h>

#define PIPE_FILE_SYSTEM 0x50495045u
#define MANY_DESCRIPTORS 1024 /* so far is looked for open ones */
#define FORMAT(mode) ((mode) & 0170000)

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

static bool has_shared_memory(const struct scratch *scratch) {
  struct mapping_query query = {.size = sizeof query, .flags = QUERY_SHARED | QUERY_THIS_OR_NEXT};
  for (;;) {
    const long found = call(ioctl, scratch->maps_fd, PROCMAP_QUERY, &query);
    if (found == ERROR_NO_SUCH_MAPPING) return false;
    if (failed(found) || query.start != (uint64_t)scratch) return true;
    query.address = query.end;
  }
}

/* True when the other end of this one-ended pipe is gone for good: nobody outside feeds or drains it. */
bool is_orphan(int fd) {
  struct { int fd; short events, returned; } poll = {fd, 0, 0};
  const struct time_pair now = {0, 0};
  return call(ppoll, &poll, 1, &now, 0, 8) == 1 && poll.returned & (0x8 | 0x10); /* POLLERR, POLLHUP */
}

/* A pipe to another process, whose content is not the program's to keep. */
static bool leads_outside(const struct scratch *scratch, const struct noted_file *pipe) {
  uint64_t statistics[16] = {0}; /* struct statfs: f_type comes first */
  if (failed(call(fstatfs, pipe->fd, statistics)) || statistics[0] != PIPE_FILE_SYSTEM || (pipe->flags & 3) == 2 || is_orphan(pipe->fd)) return false;
  for (const struct noted_file *other = scratch->noted_files; other < pipe; other++)
    if (other->inode == pipe->inode && (other->flags & 3) != (pipe->flags & 3)) return false;
  return true;
}

static bool is_locked(const struct scratch *scratch, int fd) {
  LINES(lines, 256); /* small: this may run on an alternate stack */
  TEXT(path, 32);
  bool found = false;
  put(&path, "fdinfo/"), put_decimal(&path, fd);
  if (!open_lines(&lines, scratch->process_fd, path.start)) return true;
  for (char *line; (line = next_line(&lines)) != 0;) found = found || begins_with(line, "lock:");
  return found;
}

/* True when nothing of the open file but its position and flags, which are noted, changes for the copy. */
static bool note_file(struct scratch *scratch, int fd, uint32_t flags) {
  struct statx stat;
  struct { int32_t type, pid; } owner = {0, 0};
  if (failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_BASIC_STATS, &stat))) return false;
  if (!failed(call(fcntl, fd, 16 /* F_GETOWN_EX */, &owner)) && owner.pid != 0) return false;
  const long offset = call(lseek, fd, 0, 1 /* SEEK_CUR */);
  struct noted_file *note = &scratch->noted_files[scratch->noted_file_count++];
  *note = (struct noted_file){fd, flags, failed(offset) ? 0 : offset, stat.stx_ino};
  switch (FORMAT(stat.stx_mode)) {
    case 0140000 /* socket */: return fd < 3;
    case 0010000 /* fifo */: return leads_outside(scratch, note);
    case 0100000 /* regular */: return (flags & 3) == O_RDONLY && !is_locked(scratch, fd);
    case 0040000 /* directory */: return !is_locked(scratch, fd);
    case 0020000 /* character device */: return fd < 3 || stat.stx_rdev_major == 1 /* null and its like */ || !is_locked(scratch, fd);
    default: return false;
  }
}

/* How many descriptors are open, as Linux 6.2 and later show it. */
static uint64_t open_descriptors(const struct scratch *scratch) {
  struct statx stat;
  return failed(call(statx, scratch->process_fd, "fd", 0, STATX_SIZE, &stat)) ? 0 : stat.stx_size;
}

static bool note_files(struct scratch *scratch) {
  const uint64_t count = open_descriptors(scratch);
  uint64_t found = 0;
  if (count == 0 || count > MAX_NOTED_FILES) return false;
  for (int fd = 0; found < count && fd < MANY_DESCRIPTORS; fd++) {
    const long flags = call(fcntl, fd, 3 /* F_GETFL */, 0);
    if (failed(flags)) continue;
    found++;
    if (fd != scratch->process_fd && fd != scratch->maps_fd && !note_file(scratch, fd, flags)) return false;
  }
  return found == count;
}

uint64_t total_pages(int directory, const char *statm) {
  char text[128];
  const char *at = text;
  return read_text(directory, statm, text, sizeof text) > 0 ? take_number(&at, 10) : 0;
}

/* The number behind `name` in a file of /proc with a line for each; `otherwise` when there is none. */
static uint64_t number_of(const char *text, const char *name, uint64_t otherwise) {
  const char *at = find_text(text, name);
  if (at == 0) return otherwise;
  at += length_of(name);
  skip_spaces(&at);
  return take_number(&at, 10);
}

/* What the kernel tells of the program only, not of its copy. */
void note_status(struct scratch *scratch) {
  if (read_text(scratch->process_fd, "status", scratch->text, sizeof scratch->text) < 0) scratch->text[0] = 0;
  scratch->is_own_proc = number_of(scratch->text, "\nPid:", 0) == (uint64_t)scratch->pid;
  scratch->tracer = number_of(scratch->text, "\nTracerPid:", 0);
  scratch->pages = number_of(scratch->text, "\nVmSize:", 0) * 1024 / PAGE;
  scratch->has_locked_memory = number_of(scratch->text, "\nVmLck:", 1) != 0;
}

bool shares_nothing(struct scratch *scratch) {
  if (scratch->tracer != 0 || scratch->has_locked_memory || scratch->has_children || !scratch->is_own_proc) return false;
  if (scratch->options.blocking || scratch->options.stand) return false;
  return !has_shared_memory(scratch) && note_files(scratch);
}
