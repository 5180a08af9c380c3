/*
 * The list of mappings, from the program's /proc/PID/maps when it stands still, else from the copy's, which is the same; their advice from the copy's smaps.
 *
 *   7f3aad900000-7f3aad926000 r-xp 00001000 fe:00 338944    /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
 */
#include "writer.h"

static bool take_range(const char **at, uint64_t *start, uint64_t *end) {
  *start = take_number(at, 16);
  if (**at != '-') return false;
  (*at)++;
  *end = take_number(at, 16);
  return **at == ' ' && *start < *end;
}

/* In part: a stack may have grown since. */
static bool is_mapped(int process, uint64_t start, uint64_t end) {
  LINES(lines, 512);
  bool found = false;
  if (!open_lines(&lines, process, "maps")) return false;
  for (char *line; (line = next_line(&lines)) != 0;) {
    uint64_t from, to;
    const char *at = line;
    if (take_range(&at, &from, &to) && from < end && to > start) found = true;
  }
  return found;
}

/*
 * What the program maps and its copy does not: forbidden to fork. Runs before the writer maps anything, on the little stack it was made with.
 * False when there is too much of it.
 */
bool find_holes(struct scratch *scratch, int self) {
  LINES(lines, 512);
  if (!open_lines(&lines, scratch->process_fd, "maps")) return true;
  for (char *line; (line = next_line(&lines)) != 0;) {
    uint64_t start, end;
    const char *at = line;
    if (!take_range(&at, &start, &end) || start >= ARCH_ADDRESS_END || is_mapped(self, start, end)) continue;
    if (scratch->hole_count == MAX_HOLES) return false;
    scratch->holes[scratch->hole_count++] = (struct hole){start, end};
  }
  return true;
}

static bool is_hole(const struct scratch *scratch, uint64_t start) {
  for (uint32_t i = 0; i < scratch->hole_count; i++)
    if (scratch->holes[i].start <= start && start < scratch->holes[i].end) return true;
  return false;
}

/* Size and time of a mapped file, by which the restorer knows it again. */
static void describe_file(struct note_mapping *mapping, const char *path) {
  struct statx stat;
  if (mapping->flags & MAPPING_FLAG_DELETED) return;
  if (failed(call(statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &stat)) || stat.stx_ino != mapping->inode ||
      (stat.stx_mode & 0170000) != 0100000) {
    mapping->flags |= MAPPING_FLAG_DELETED; /* the name leads to another file, or to none */
    return;
  }
  mapping->device = device_number(stat.stx_dev_major, stat.stx_dev_minor);
  mapping->file_size = stat.stx_size;
  mapping->file_modified = stat.stx_mtime.tv_sec * (int64_t)NANOSECONDS + stat.stx_mtime.tv_nsec;
  mapping->flags |= MAPPING_FLAG_MAY_BE_REPLACED;
}

static void classify(struct writer *writer, struct note_mapping *mapping, const char *name) {
  const struct resume_block *resumed = &imago_resume_block;
  const bool shared = mapping->flags & MAPPING_FLAG_SHARED;
  const bool lazily_restored = !shared && resumed->generation > 0 && mapping->inode != 0 && mapping->inode == resumed->image_inode;
  if (same_text(name, "[vdso]")) {
    mapping->kind = MAPPING_KIND_VDSO;
    writer->process->vdso_start = mapping->start;
    writer->process->vdso_end = mapping->end;
  } else if (begins_with(name, "[vvar")) {
    mapping->kind = MAPPING_KIND_VVAR;
    if (writer->process->vvar_start == 0) writer->process->vvar_start = mapping->start;
  } else if (same_text(name, "[vsyscall]")) mapping->kind = MAPPING_KIND_VSYSCALL;
  else if (same_text(name, "[stack]")) mapping->kind = MAPPING_KIND_STACK;
  else if (lazily_restored || name[0] == 0 || begins_with(name, "[anon") || same_text(name, "[heap]") /* see settle_mappings */) mapping->kind = shared ? MAPPING_KIND_SHARED_ANONYMOUS : MAPPING_KIND_ANONYMOUS;
  else if (begins_with(name, "/memfd:")) mapping->kind = MAPPING_KIND_MEMFD;
  else if (begins_with(name, "/dev/zero")) mapping->kind = shared ? MAPPING_KIND_SHARED_ANONYMOUS : MAPPING_KIND_ANONYMOUS;
  else if (begins_with(name, "/SYSV")) add_loss(writer, "System V shared memory", name);
  else if (begins_with(name, "/anon_hugepage")) add_loss(writer, "hugetlb pages", name);
  else if (name[0] != '/' || (begins_with(name, "/dev/") && !begins_with(name, "/dev/shm/"))) add_loss(writer, "a mapped device", name);
  else mapping->kind = MAPPING_KIND_FILE;
  if (lazily_restored) {
    mapping->inode = mapping->device = mapping->page_offset = 0;
    mapping->reserved = LAZILY_RESTORED;
  }
}

/* A file that is there may be called as if it were deleted. */
static bool is_called(const struct note_mapping *mapping, const char *name) {
  struct statx stat;
  return !failed(call(statx, AT_FDCWD, name, 0, STATX_INO, &stat)) && stat.stx_ino == mapping->inode;
}

static void describe_mapping(struct writer *writer, const char *line) {
  uint64_t start, end;
  const char *at = line;
  if (!take_range(&at, &start, &end)) fail(writer, "read /proc/self/maps", 0);
  if (start == (uint64_t)writer->scratch || start == (uint64_t)writer) return;
  struct note_mapping *mapping = add_record(writer, LIST_MAPPING);
  mapping->start = start;
  mapping->end = end;
  at++;
  mapping->protection = (at[0] == 'r' ? PROT_READ : 0) | (at[1] == 'w' ? PROT_WRITE : 0) | (at[2] == 'x' ? PROT_EXEC : 0);
  mapping->flags = at[3] == 's' ? MAPPING_FLAG_SHARED : 0;
  at += 5;
  mapping->page_offset = take_number(&at, 16);
  skip_spaces(&at);
  const uint64_t major = take_number(&at, 16);
  at += *at == ':';
  mapping->device = device_number(major, take_number(&at, 16));
  skip_spaces(&at);
  mapping->inode = take_number(&at, 10);
  skip_spaces(&at);
  char name[PATH_SIZE];
  size_t length = 0;
  for (; *at != 0 && length < sizeof name - 1; at++) { /* the kernel writes a newline as \012 */
    const bool newline = begins_with(at, "\\012");
    name[length++] = newline ? '\n' : *at;
    if (newline) at += 3;
  }
  name[length] = 0;
  static const char deleted[] = " (deleted)";
  if (length > sizeof deleted - 1 && same_text(name + length - (sizeof deleted - 1), deleted) && !is_called(mapping, name)) {
    name[length -= sizeof deleted - 1] = 0;
    mapping->flags |= MAPPING_FLAG_DELETED;
  }
  classify(writer, mapping, name);
  if (mapping->kind == MAPPING_KIND_FILE || mapping->kind == MAPPING_KIND_MEMFD || (name[0] == '[' && mapping->inode == 0))
    mapping->path = add_string(writer, LIST_MAPPING, name, length);
  if (mapping->kind == MAPPING_KIND_FILE) mapping->protection |= own_protection(start, end);
  /* Whether a file keeps the bytes of shared memory, or the image must. */
  if (mapping->kind == MAPPING_KIND_FILE && mapping->flags & MAPPING_FLAG_SHARED) describe_file(mapping, name);
  if (is_hole(writer->scratch, start)) mapping->advice |= ADVICE_FLAG_DO_NOT_FORK;
}

void describe_mappings(struct writer *writer) {
  LINES(lines, 8192);
  lines.fd = writer->program_stands ? writer->scratch->maps_fd : call(openat, writer->self_fd, "maps", O_RDONLY | O_CLOEXEC, 0);
  if (failed(lines.fd)) fail(writer, "read its list of mappings", lines.fd);
  for (char *line; (line = next_line(&lines)) != 0;) describe_mapping(writer, line);
}

static bool is_heap(const struct writer *writer, const struct note_mapping *mapping, const char *name) {
  const struct note_process *process = writer->process;
  return mapping->kind == MAPPING_KIND_ANONYMOUS && mapping->start >= process->start_brk && mapping->end <= round_up(process->brk, PAGE) &&
         (name[0] == '[' || mapping->reserved == LAZILY_RESTORED);
}

/** What can be asked when the program runs on: what the names of files lead to (shared memory apart, see above), and which memory is the heap. */
void settle_mappings(struct writer *writer) {
  struct list *list = &writer->lists[LIST_MAPPING];
  for (uint32_t i = 0; i < list->count; i++) {
    struct note_mapping *mapping = record_at(list, i);
    TEXT(name, PATH_SIZE);
    put_bytes(&name, list->strings + mapping->path.offset, mapping->path.length);
    if (is_heap(writer, mapping, name.start)) mapping->kind = MAPPING_KIND_HEAP;
    if (mapping->kind == MAPPING_KIND_FILE && !(mapping->flags & MAPPING_FLAG_SHARED)) describe_file(mapping, name.start);
  }
}

static const struct { char name[3]; uint32_t flag, advice; } marks[] = {
  {"gd", MAPPING_FLAG_GROWS_DOWN, 0}, {"nr", MAPPING_FLAG_NO_RESERVE, 0}, {"lo", MAPPING_FLAG_LOCKED, 0},
  {"sr", 0, ADVICE_FLAG_SEQUENTIAL},  {"rr", 0, ADVICE_FLAG_RANDOM},      {"dd", 0, ADVICE_FLAG_DO_NOT_DUMP},
  {"hg", 0, ADVICE_FLAG_HUGE_PAGE},   {"nh", 0, ADVICE_FLAG_NO_HUGE_PAGE}, {"mg", 0, ADVICE_FLAG_MERGEABLE},
  {"wf", 0, ADVICE_FLAG_WIPE_ON_FORK}, {"dc", 0, ADVICE_FLAG_DO_NOT_FORK},
};

/* The kernel itself gives memory that may only be executed a key; it will again. */
static void add_keyed(struct writer *writer, uint64_t start) {
  const struct list *list = &writer->lists[LIST_MAPPING];
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_mapping *mapping = record_at(list, i);
    if (mapping->start != start || mapping->protection == PROT_EXEC) continue;
    TEXT(text, 32);
    put_hex(&text, start);
    add_loss(writer, "memory with a protection key", text.start);
  }
}

/*
 * VmFlags of smaps, of the copy once the program runs on: reading them walks all page tables, and the copy has the same. Only locked memory is not
 * inherited; then the program's own are read, before.
 */
void describe_advice(struct writer *writer, int process) {
  LINES(lines, 8192);
  const struct list *list = &writer->lists[LIST_MAPPING];
  if (!open_lines(&lines, process, "smaps")) return;
  uint64_t start = 0, end = 0;
  uint32_t first = 0;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    if (line[0] < 'A') {
      take_range(&at, &start, &end);
      continue;
    }
    if (begins_with(line, "ProtectionKey:")) {
      at += 14, skip_spaces(&at);
      if (take_number(&at, 10) != 0) add_keyed(writer, start);
    }
    if (!begins_with(line, "VmFlags:")) continue;
    uint32_t flags = 0, advice = 0;
    for (at += 8; *at != 0; at++)
      for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        if (at[0] == ' ' && at[1] == marks[i].name[0] && at[2] == marks[i].name[1]) flags |= marks[i].flag, advice |= marks[i].advice;
    while (first < list->count && ((struct note_mapping *)record_at(list, first))->end <= start) first++;
    for (uint32_t i = first; i < list->count; i++) {
      struct note_mapping *mapping = record_at(list, i);
      if (mapping->start >= end) break;
      if (mapping->start >= start && mapping->end <= end) mapping->flags |= flags, mapping->advice |= advice;
    }
  }
}
