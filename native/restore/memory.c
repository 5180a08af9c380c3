/*
 * Memory: everything but the restorer itself is unmapped, then each mapping of the image is made at its address.
 *
 *   its bytes                                   how it is mapped
 *   none, or all zeros                          anonymous
 *   a file that is unchanged                    from that file; the pages the program had changed are read from the image
 *   shared with its own descriptors or itself   from the memfd; else one is made for it
 *   a stack, mostly holes, or --eager           anonymous, read from the image now
 *   anything else                               privately from the image: a page is read when it is first touched
 *
 * Pages that the image has elsewhere, because they changed when it was rewritten, are then read over them.
 */
#include "restore.h"
#include <linux/prctl.h>

#define MAP_GROWSDOWN_FLAG 0x100

/* Our own pages may not come from our file: the kernel refuses to name another executable while they do. */
void anonymise_self(void) {
  struct { uint64_t start, end; int protection; } parts[16];
  int count = 0;
  LINES(lines, 4096);
  if (!open_lines(&lines, AT_FDCWD, "/proc/self/maps")) return;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    const uint64_t start = take_number(&at, 16);
    at++;
    const uint64_t end = take_number(&at, 16);
    if (start < RESTORER_START || end > ARENA_START || count == 16 || *at != ' ' || find_text(line, "/") == 0) continue;
    parts[count].start = start, parts[count].end = end;
    parts[count++].protection = (at[1] == 'r' ? PROT_READ : 0) | (at[2] == 'w' ? PROT_WRITE : 0) | (at[3] == 'x' ? PROT_EXEC : 0);
  }
  for (int i = 0; i < count; i++) {
    const uint64_t size = parts[i].end - parts[i].start;
    void *copy = arena(size);
    memcpy(copy, (const void *)parts[i].start, size);
    call(mprotect, copy, size, parts[i].protection);
    call(mremap, copy, size, size, 3 /* MREMAP_MAYMOVE | MREMAP_FIXED */, parts[i].start);
  }
}

static void must_be_at(const struct note_mapping *mapping, long result) {
  if (result != (long)mapping->start) die_at(EXIT_HOST, "cannot map memory at its old address", mapping->start, failed(result) ? result : 0);
}

static void map(const struct note_mapping *mapping, uint32_t protection, uint32_t flags, int fd, uint64_t offset) {
  if (mapping->flags & MAPPING_FLAG_NO_RESERVE) flags |= MAP_NORESERVE;
  must_be_at(mapping, call(mmap, mapping->start, mapping->end - mapping->start, protection, flags | MAP_FIXED_NOREPLACE, fd, offset));
}

/* Reads the part [start, end) of a mapping from the image, leaving zero pages untouched. */
static void read_range(const struct note_mapping *mapping, uint64_t start, uint64_t end) {
  const uint64_t base = mapping->content_offset - mapping->start;
  for (uint64_t at = start; at < end;) {
    const long data = call(lseek, image.fd, base + at, 3 /* SEEK_DATA */);
    if (data == -6 /* ENXIO */) return;
    if (!failed(data)) at = data - base;
    if (at >= end) return;
    const long hole = call(lseek, image.fd, base + at, 4 /* SEEK_HOLE */);
    uint64_t stop = failed(hole) ? end : hole - base;
    if (stop > end) stop = end;
    read_image((void *)at, stop - at, base + at);
    at = stop;
  }
}

static void map_eagerly(const struct note_mapping *mapping) {
  const uint32_t down = mapping->flags & MAPPING_FLAG_GROWS_DOWN ? MAP_GROWSDOWN_FLAG : 0;
  const bool content = mapping->content_size > 0 && mapping->stored_pages > 0;
  map(mapping, content ? PROT_READ | PROT_WRITE : mapping->protection, MAP_PRIVATE | MAP_ANONYMOUS | down, -1, 0);
  if (!content) return;
  read_range(mapping, mapping->start, mapping->end);
  call(mprotect, mapping->start, mapping->end - mapping->start, mapping->protection);
}

static void map_lazily(const struct note_mapping *mapping) {
  map(mapping, mapping->protection, MAP_PRIVATE, image.fd, mapping->content_offset);
}

/* The pages of which the image has newer bytes than with the rest of their mapping. */
static void read_moved(const struct note_mapping *mapping) {
  static uint32_t next; /* mappings and runs both go by address */
  bool writable = false;
  for (; next < record_count(NOTE_TYPE_MOVED); next++) {
    struct note_moved run;
    read_record(NOTE_TYPE_MOVED, next, &run, sizeof run);
    if (run.start >= mapping->end) break;
    if (!writable) call(mprotect, mapping->start, mapping->end - mapping->start, PROT_READ | PROT_WRITE);
    writable = true;
    read_image((void *)run.start, run.end - run.start, run.content_offset);
  }
  if (writable) call(mprotect, mapping->start, mapping->end - mapping->start, mapping->protection);
}

/* The mapped file, if it is what it was; -1 otherwise. Neighbouring mappings usually want the same. */
static int open_unchanged(const struct note_mapping *mapping, bool writable) {
  static struct note_string last_path;
  static int last_fd = -1;
  static bool last_writable;
  if (last_fd >= 0 && same_bytes(&last_path, &mapping->path, sizeof last_path) && last_writable == writable) return last_fd;
  if (last_fd >= 0) call(close, last_fd);
  const char *path = text_of(NOTE_TYPE_MAPPING, mapping->path);
  struct statx stat;
  last_path = mapping->path, last_writable = writable;
  last_fd = call(openat, AT_FDCWD, path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0);
  if (last_fd < 0) return -1;
  const bool known = !failed(call(statx, last_fd, "", 0x1000, STATX_BASIC_STATS, &stat)) && (stat.stx_mode & 0170000) == 0100000;
  const int64_t modified = stat.stx_mtime.tv_sec * (int64_t)NANOSECONDS + stat.stx_mtime.tv_nsec;
  const bool unchanged = known && stat.stx_size == mapping->file_size && modified == mapping->file_modified;
  const bool usable = known && mapping->flags & MAPPING_FLAG_SHARED && stat.stx_size >= mapping->file_size; /* others may write to it */
  if (unchanged || usable) return last_fd;
  call(close, last_fd);
  return last_fd = -1;
}

/* The pages of a private file mapping that the program had changed. */
static void read_modified(const struct note_mapping *mapping) {
  static uint32_t next; /* mappings and runs both go by address */
  bool writable = false;
  for (; next < record_count(NOTE_TYPE_MODIFIED); next++) {
    struct note_modified run;
    read_record(NOTE_TYPE_MODIFIED, next, &run, sizeof run);
    if (run.end <= mapping->start) continue;
    if (run.start >= mapping->end) break;
    const uint64_t start = run.start > mapping->start ? run.start : mapping->start, end = run.end < mapping->end ? run.end : mapping->end;
    if (!writable) call(mprotect, mapping->start, mapping->end - mapping->start, PROT_READ | PROT_WRITE);
    writable = true;
    read_image((void *)start, end - start, mapping->content_offset + (start - mapping->start));
    if (run.end > mapping->end) break;
  }
  if (writable) call(mprotect, mapping->start, mapping->end - mapping->start, mapping->protection);
}

static bool map_from_file(const struct note_mapping *mapping) {
  const bool shared = mapping->flags & MAPPING_FLAG_SHARED;
  if (!(mapping->flags & MAPPING_FLAG_MAY_BE_REPLACED)) return false;
  int fd = open_unchanged(mapping, shared && mapping->protection & PROT_WRITE);
  if (fd < 0) return false;
  map(mapping, mapping->protection, shared ? MAP_SHARED : MAP_PRIVATE, fd, mapping->page_offset);
  if (!shared) read_modified(mapping);
  return true;
}

/* Shared memory that no file keeps. Mappings with one inode are one memory: the first makes a memfd for all. */
static void map_shared(const struct note_mapping *mapping) {
  static struct { uint64_t inode; int fd; } *made;
  static uint32_t count;
  if (made == 0) made = arena((record_count(NOTE_TYPE_MAPPING) + 1ul) * sizeof *made);
  int fd = descriptor_for_inode(mapping->inode);
  const bool has_content = fd >= 0;
  for (uint32_t i = 0; fd < 0 && i < count; i++)
    if (made[i].inode == mapping->inode) fd = made[i].fd;
  if (fd < 0) {
    uint64_t size = 0;
    uint32_t uses = 0;
    for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
      struct note_mapping other;
      read_record(NOTE_TYPE_MAPPING, i, &other, sizeof other);
      if (!(other.flags & MAPPING_FLAG_SHARED) || other.inode != mapping->inode || other.kind != mapping->kind) continue;
      if (other.page_offset + (other.end - other.start) > size) size = other.page_offset + (other.end - other.start);
      uses++;
    }
    if (uses > 1 || mapping->page_offset != 0 || mapping->kind == MAPPING_KIND_MEMFD) {
      const char *path = text_of(NOTE_TYPE_MAPPING, mapping->path);
      fd = call(memfd_create, begins_with(path, "/memfd:") ? path + 7 : "shared", 1 /* MFD_CLOEXEC */);
      if (fd < 0 || failed(call(ftruncate, fd, size))) die_at(EXIT_HOST, "cannot make shared memory", mapping->start, fd);
      made[count].inode = mapping->inode;
      made[count++].fd = fd;
    }
  }
  const uint32_t protection = has_content || mapping->stored_pages == 0 ? mapping->protection : PROT_READ | PROT_WRITE;
  map(mapping, protection, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, fd < 0 ? 0 : mapping->page_offset);
  if (has_content || mapping->stored_pages == 0) return;
  read_range(mapping, mapping->start, mapping->end);
  call(mprotect, mapping->start, mapping->end - mapping->start, mapping->protection);
}

static void advise(const struct note_mapping *mapping) {
  static const struct { uint32_t flag; int advice; } advices[] = {
    {ADVICE_FLAG_SEQUENTIAL, 2}, {ADVICE_FLAG_RANDOM, 1},     {ADVICE_FLAG_DO_NOT_FORK, 10}, {ADVICE_FLAG_DO_NOT_DUMP, 16},
    {ADVICE_FLAG_HUGE_PAGE, 14}, {ADVICE_FLAG_NO_HUGE_PAGE, 15}, {ADVICE_FLAG_MERGEABLE, 12},  {ADVICE_FLAG_WIPE_ON_FORK, 18},
  };
  const uint64_t size = mapping->end - mapping->start;
  for (unsigned i = 0; i < sizeof advices / sizeof *advices; i++)
    if (mapping->advice & advices[i].flag) call(madvise, mapping->start, size, advices[i].advice);
  if (mapping->flags & MAPPING_FLAG_LOCKED && failed(call(mlock, mapping->start, size))) remark("memory that was locked is not any more (ulimit -l)", 0);
}

/* Like a stack that may grow. Mapped from the image, its next checkpoint would read, and its file system fill, every hole. */
static bool is_mostly_holes(const struct note_mapping *mapping) {
  return mapping->stored_pages <= 256 && mapping->stored_pages * 8 < (mapping->end - mapping->start) / PAGE;
}

static void map_one(const struct note_mapping *mapping) {
  switch (mapping->kind) {
    case MAPPING_KIND_VDSO:
    case MAPPING_KIND_VVAR:
    case MAPPING_KIND_VSYSCALL: return;
    default: break;
  }
  const bool shared = mapping->flags & MAPPING_FLAG_SHARED;
  if (mapping->kind == MAPPING_KIND_FILE && map_from_file(mapping)) {
  } else if (mapping->kind == MAPPING_KIND_FILE && shared && mapping->content_size == 0)
    die(EXIT_FAILED, "a file that it shares memory with is gone or shorter", text_of(NOTE_TYPE_MAPPING, mapping->path), 0);
  else if (shared) map_shared(mapping);
  else if (settings.eager || is_mostly_holes(mapping) || mapping->kind == MAPPING_KIND_STACK || mapping->flags & MAPPING_FLAG_GROWS_DOWN) map_eagerly(mapping);
  else map_lazily(mapping);
  read_moved(mapping);
  if (mapping->advice != 0 || mapping->flags & MAPPING_FLAG_LOCKED) advise(mapping);
}

/*
 * Range by range, as the kernel names them: between those there may be what belongs to an emulator. The vDSO is kept where it cannot be
 * mapped anew.
 */
static void leave_addresses(void) {
  static struct { uint64_t start, end; } ranges[256];
  int count;
  do {
    LINES(lines, 4096);
    count = 0;
    if (!open_lines(&lines, AT_FDCWD, "/proc/self/maps")) die(EXIT_HOST, "cannot read /proc/self/maps", 0, lines.fd);
    for (char *line; (line = next_line(&lines)) != 0;) {
      const char *at = line;
      const uint64_t start = take_number(&at, 16);
      at++;
      const uint64_t end = take_number(&at, 16);
      if (count == sizeof ranges / sizeof *ranges || start >= ARCH_ADDRESS_END || (start >= RESTORER_START && end <= RESTORER_END)) continue;
      ranges[count].start = start, ranges[count++].end = end;
    }
    for (int i = 0; i < count; i++) {
      const long result = call(munmap, ranges[i].start, ranges[i].end - ranges[i].start);
      if (failed(result)) die_at(EXIT_HOST, "cannot leave the addresses free", ranges[i].start, result);
    }
  } while (count == sizeof ranges / sizeof *ranges);
}

/* Before Linux 6.13 there are no guards within a mapping: then the pages become a mapping of their own that allows nothing. */
static void restore_guards(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_GUARD); i++) {
    struct note_guard guard;
    read_record(NOTE_TYPE_GUARD, i, &guard, sizeof guard);
    if (failed(call(madvise, guard.start, guard.end - guard.start, 102 /* MADV_GUARD_INSTALL */)))
      call(mprotect, guard.start, guard.end - guard.start, PROT_NONE);
  }
}

void restore_memory(void) {
  park_vdso();
  leave_addresses();
  map_vdso_first();
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    struct note_mapping mapping;
    read_record(NOTE_TYPE_MAPPING, i, &mapping, sizeof mapping);
    map_one(&mapping);
  }
  restore_guards();
  map_vdso_last();
}

/* What /proc shows of the address space, the brk, and the executable's name (which needs root or a user namespace of its own). */
void restore_layout(void) {
  const struct note_process *process = &image.process;
  struct prctl_mm_map layout = {
    .start_code = process->start_code, .end_code = process->end_code, .start_data = process->start_data, .end_data = process->end_data,
    .start_brk = process->start_brk, .brk = process->brk, .start_stack = process->start_stack, .arg_start = process->arg_start,
    .arg_end = process->arg_end, .env_start = process->env_start, .env_end = process->env_end,
    .auxv = (void *)image.auxv, .auxv_size = image.auxv_size,
  };
  const char *executable = text_of(NOTE_TYPE_PROCESS, process->executable);
  const long fd = call(openat, AT_FDCWD, executable, O_RDONLY | O_CLOEXEC, 0);
  layout.exe_fd = failed(fd) ? ~0u : (uint32_t)fd;
  long result = call(prctl, PR_SET_MM, PR_SET_MM_MAP, &layout, sizeof layout, 0);
  if (failed(result)) {
    layout.exe_fd = ~0u;
    result = call(prctl, PR_SET_MM, PR_SET_MM_MAP, &layout, sizeof layout, 0);
  }
  if (failed(result)) remark("the kernel did not take the heap's end and the arguments' place", 0);
  if (!failed(fd)) call(close, fd);
}
