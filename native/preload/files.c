/*
 * Open files: a record a descriptor, a record an open file description (which descriptors may share), and what /proc/PID/fdinfo says of it.
 */
#include "writer.h"
#include <linux/fcntl.h>
#include <linux/kcmp.h>

#define FMODE(mode) ((mode) & 0170000)
#define MODE_FIFO 0010000
#define MODE_CHARACTER 0020000
#define MODE_DIRECTORY 0040000
#define MODE_REGULAR 0100000

static const struct { const char *link; uint32_t kind; } anonymous_kinds[] = {
  {"anon_inode:[eventfd]", DESCRIPTION_KIND_EVENTFD},     {"anon_inode:[timerfd]", DESCRIPTION_KIND_TIMERFD},
  {"anon_inode:[signalfd]", DESCRIPTION_KIND_SIGNALFD},   {"anon_inode:[eventpoll]", DESCRIPTION_KIND_EPOLL},
};

static bool is_stateless_device(uint64_t device) {
  static const uint8_t memory_devices[] = {3, 5, 7, 8, 9}; /* null, zero, full, random, urandom */
  for (unsigned i = 0; i < sizeof memory_devices; i++)
    if (device == device_number(1, memory_devices[i])) return true;
  return false;
}

static uint32_t kind_of(int fd, struct note_description *description, const char *link) {
  unsigned char termios[64];
  if (begins_with(link, "pipe:")) return DESCRIPTION_KIND_PIPE;
  if (begins_with(link, "socket:") && describe_pair_end(fd, description)) return DESCRIPTION_KIND_SOCKET_PAIR;
  if (begins_with(link, "/memfd:")) return DESCRIPTION_KIND_MEMFD;
  for (unsigned i = 0; i < sizeof anonymous_kinds / sizeof *anonymous_kinds; i++)
    if (same_text(link, anonymous_kinds[i].link)) return anonymous_kinds[i].kind;
  if (link[0] != '/') return DESCRIPTION_KIND_OTHER;
  switch (FMODE(description->mode)) {
    case MODE_REGULAR: return is_message_queue(fd) ? DESCRIPTION_KIND_OTHER : DESCRIPTION_KIND_REGULAR;
    case MODE_DIRECTORY: return DESCRIPTION_KIND_DIRECTORY;
    case MODE_FIFO: return DESCRIPTION_KIND_FIFO;
    case MODE_CHARACTER:
      if (is_stateless_device(description->special_device)) return DESCRIPTION_KIND_DEVICE;
      /* 5:2 is ptmx, the other side of a terminal that this program drives. */
      if (description->special_device != device_number(5, 2) && !failed(call(ioctl, fd, 0x5401 /* TCGETS */, termios)))
        return DESCRIPTION_KIND_TERMINAL;
      return DESCRIPTION_KIND_OTHER;
    default: return DESCRIPTION_KIND_OTHER;
  }
}

static bool is_seekable(uint32_t kind) {
  return kind == DESCRIPTION_KIND_REGULAR || kind == DESCRIPTION_KIND_DIRECTORY || kind == DESCRIPTION_KIND_MEMFD;
}

/* "(12, 345)" of fdinfo: seconds and nanoseconds. */
static uint64_t take_time(const char *at) {
  at += *at == '(';
  const uint64_t seconds = take_number(&at, 10);
  at += *at == ',';
  skip_spaces(&at);
  return seconds * NANOSECONDS + take_number(&at, 10);
}

/* "1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF" */
static void describe_lock(struct writer *writer, uint32_t description, const char *at) {
  struct note_lock *lock = add_record(writer, LIST_LOCK);
  lock->description = description;
  while (*at != 0 && *at != ':') at++;
  at += *at == ':';
  skip_spaces(&at);
  lock->kind = begins_with(at, "POSIX") ? 1 : begins_with(at, "FLOCK") ? 2 : begins_with(at, "OFDLCK") ? 3 : 0;
  lock->type = find_text(at, " WRITE ") != 0 ? 1 : 0;
  if (lock->kind == 0) add_loss(writer, "a lease on a file", at);
  for (int words = 0; words < 5 && *at != 0; words++) { /* kind, advisory, type, pid, device */
    while (*at != 0 && *at != ' ') at++;
    skip_spaces(&at);
  }
  lock->start = take_number(&at, 10);
  skip_spaces(&at);
  if (!begins_with(at, "EOF")) lock->length = take_number(&at, 10) - lock->start + 1;
}

static void describe_watch(struct writer *writer, uint32_t description, const char *at) {
  struct note_watch *watch = add_record(writer, LIST_WATCH);
  watch->description = description;
  watch->fd = take_number(&at, 10);
  if ((at = find_text(at, "events:")) == 0) return;
  at += 7, skip_spaces(&at);
  watch->events = take_number(&at, 16);
  if ((at = find_text(at, "data:")) == 0) return;
  at += 5, skip_spaces(&at);
  watch->data = take_number(&at, 16);
}

/* /proc/PID/fdinfo/N of the program, as it was noted, or as it is while the program stands: the copy would not show its locks. */
static bool open_fdinfo(struct writer *writer, struct lines *lines, int fd) {
  struct scratch *scratch = writer->scratch;
  const struct noted_file *note = noted_file(scratch, fd);
  TEXT(path, 64);
  put(&path, "fdinfo/"), put_decimal(&path, fd);
  if (note == 0 || note->fdinfo.end == 0) return writer->program_stands && open_lines(lines, scratch->process_fd, path.start);
  const size_t size = note->fdinfo.end - note->fdinfo.start;
  *lines = (struct lines){-1, (char *)scratch->noted + note->fdinfo.start, size + 1, 0, size};
  return true;
}

static void read_fdinfo(struct writer *writer, struct note_description *description, int fd) {
  LINES(lines, 4096);
  if (!open_fdinfo(writer, &lines, fd)) return;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    while (*at != 0 && *at != ':') at++;
    at += *at == ':';
    skip_spaces(&at);
    if (begins_with(line, "lock:")) describe_lock(writer, description->id, at);
    else if (begins_with(line, "eventfd-count:")) description->a = take_number(&at, 16);
    else if (begins_with(line, "eventfd-semaphore:")) description->b = take_number(&at, 10);
    else if (begins_with(line, "sigmask:")) description->a = take_number(&at, 16);
    else if (begins_with(line, "clockid:")) description->a = take_number(&at, 10);
    else if (begins_with(line, "settime flags:")) description->b = take_number(&at, 8);
    else if (begins_with(line, "it_value:")) description->c = take_time(at);
    else if (begins_with(line, "it_interval:")) description->d = take_time(at);
    else if (begins_with(line, "ticks:")) description->e = take_number(&at, 10);
    else if (begins_with(line, "tfd:")) describe_watch(writer, description->id, at);
  }
}

/* The description that `fd` shares with one seen before, or 0. kcmp(2) tells; where it is forbidden, equal marks do. */
static struct note_description *shared_description(struct writer *writer, int fd, const struct note_description *like) {
  const struct list *descriptors = &writer->lists[LIST_DESCRIPTOR];
  const int self = call(getpid);
  for (uint32_t i = 0; i < descriptors->count; i++) {
    const struct note_descriptor *other = record_at(descriptors, i);
    struct note_description *description = record_at(&writer->lists[LIST_DESCRIPTION], other->description - 1);
    if (description->inode != like->inode || description->device != like->device || description->kind != like->kind ||
        description->flags != like->flags || description->offset != like->offset)
      continue;
    const long order = call(kcmp, self, self, KCMP_FILE, fd, other->fd);
    if (order == 0 || (failed(order) && like->kind == DESCRIPTION_KIND_REGULAR)) return description;
  }
  return 0;
}

/* Program and copy share the description: once the program has gone on, only the notes tell. Flags in its own numbering, not of an emulator's host. */
static void take_position(struct writer *writer, int fd, struct note_description *description) {
  const struct noted_file *note = noted_file(writer->scratch, fd);
  if (note != 0) {
    description->flags = note->flags;
    description->size = note->size, description->modified = note->modified;
    if (is_seekable(description->kind)) description->offset = note->offset;
    return;
  }
  if (!writer->program_stands) ask_for_standing(writer);
  const long offset = is_seekable(description->kind) ? call(lseek, fd, 0, 1 /* SEEK_CUR */) : 0;
  if (!failed(offset)) description->offset = offset;
  description->flags = call(fcntl, fd, 3 /* F_GETFL */, 0);
}

static void describe_descriptor(struct writer *writer, int fd) {
  char link[PATH_SIZE];
  TEXT(name, 64);
  put(&name, "fd/"), put_decimal(&name, fd);
  const long length = call(readlinkat, writer->self_fd, name.start, link, sizeof link - 1);
  struct statx stat;
  if (failed(length) || failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_BASIC_STATS, &stat))) return;
  link[length] = 0;
  struct note_description like = {
    .mode = stat.stx_mode,
    .size = stat.stx_size,
    .device = device_number(stat.stx_dev_major, stat.stx_dev_minor),
    .inode = stat.stx_ino,
    .modified = stat.stx_mtime.tv_sec * (int64_t)NANOSECONDS + stat.stx_mtime.tv_nsec,
    .special_device = device_number(stat.stx_rdev_major, stat.stx_rdev_minor),
  };
  like.kind = kind_of(fd, &like, link);
  take_position(writer, fd, &like);
  const uint32_t close_on_exec = call(fcntl, fd, 1 /* F_GETFD */, 0) & 1;
  struct note_description *description = shared_description(writer, fd, &like);
  if (description == 0) {
    description = add_record(writer, LIST_DESCRIPTION);
    like.id = writer->lists[LIST_DESCRIPTION].count;
    *description = like;
    read_fdinfo(writer, description, fd);
    size_t used = length;
    struct statx named;
    const bool has_name = !failed(call(statx, AT_FDCWD, link, 0, STATX_BASIC_STATS, &named)) && named.stx_ino == stat.stx_ino;
    if (!has_name && length > 10 && same_text(link + length - 10, " (deleted)")) link[used -= 10] = 0; /* a file may be called so */
    description->path = add_string(writer, LIST_DESCRIPTION, link, used);
    if (!has_name && description->kind == DESCRIPTION_KIND_REGULAR) description->state |= DESCRIPTION_FLAG_DELETED;
    struct { int32_t type, pid; } owner = {0, 0};
    if (!failed(call(fcntl, fd, 16 /* F_GETOWN_EX */, &owner)) && owner.pid != 0) {
      description->owner = owner.pid;
      description->owner_type = owner.type;
      description->owner_signal = call(fcntl, fd, 11 /* F_GETSIG */, 0);
    }
    unsigned char termios[36];
    int32_t session = 0;
    if (description->kind == DESCRIPTION_KIND_TERMINAL && !failed(call(ioctl, fd, 0x5429 /* TIOCGSID */, &session)))
      description->a = session == writer->scratch->session;
    if (description->kind == DESCRIPTION_KIND_TERMINAL && !failed(call(ioctl, fd, 0x5401 /* TCGETS */, termios)))
      description->extra = add_string(writer, LIST_DESCRIPTION, (const char *)termios, sizeof termios);
    if (description->kind == DESCRIPTION_KIND_PIPE || description->kind == DESCRIPTION_KIND_FIFO)
      description->a = call(fcntl, fd, 1032 /* F_GETPIPE_SZ */, 0);
    if (description->kind == DESCRIPTION_KIND_MEMFD) description->a = call(fcntl, fd, 1034 /* F_GET_SEALS */, 0);
  }
  *(struct note_descriptor *)add_record(writer, LIST_DESCRIPTOR) = (struct note_descriptor){fd, close_on_exec, description->id, 0};
}

/* Any descriptor of the description. */
int descriptor_of(const struct writer *writer, uint32_t description) {
  const struct list *list = &writer->lists[LIST_DESCRIPTOR];
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_descriptor *descriptor = record_at(list, i);
    if (descriptor->description == description) return descriptor->fd;
  }
  return -1;
}

/* Which ends of a pipe the program holds: 1 to read, 2 to write. */
static uint32_t held_ends(const struct writer *writer, uint64_t inode) {
  const struct list *list = &writer->lists[LIST_DESCRIPTION];
  uint32_t ends = 0;
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_description *description = record_at(list, i);
    if (description->kind != DESCRIPTION_KIND_PIPE && description->kind != DESCRIPTION_KIND_FIFO) continue;
    if (description->inode == inode) ends |= (description->flags & 3) == 0 ? 1 : (description->flags & 3) == 1 ? 2 : 3;
  }
  return ends;
}

static bool is_standard(const struct writer *writer, const struct note_description *like) {
  const struct list *list = &writer->lists[LIST_DESCRIPTOR];
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_descriptor *descriptor = record_at(list, i);
    const struct note_description *description = record_at(&writer->lists[LIST_DESCRIPTION], descriptor->description - 1);
    if (descriptor->fd < 3 && description->inode == like->inode && description->device == like->device && description->kind == like->kind)
      return true;
  }
  return false;
}

/* What connects the program to others: kept as "the restorer's own" for the standard streams, lost otherwise. */
static void judge(struct writer *writer, struct note_description *description) {
  const char *path = writer->lists[LIST_DESCRIPTION].strings + description->path.offset;
  const int fd = descriptor_of(writer, description->id);
  if (description->kind == DESCRIPTION_KIND_SOCKET_PAIR && !may_keep_pair(writer, description)) description->kind = DESCRIPTION_KIND_OTHER;
  bool connected = description->kind == DESCRIPTION_KIND_TERMINAL || description->kind == DESCRIPTION_KIND_OTHER;
  if (description->kind == DESCRIPTION_KIND_PIPE) connected = held_ends(writer, description->inode) != 3 && !(writer->program_stands && is_orphan(fd)); /* was none, when it does not */
  if (!connected) return;
  if (is_standard(writer, description)) {
    description->state |= DESCRIPTION_FLAG_INHERITED;
    return;
  }
  for (uint32_t i = 0; i < MAX_INHERITED; i++)
    if (inherited_files[i].fd == fd && inherited_files[i].inode == description->inode) {
      description->state |= DESCRIPTION_FLAG_INHERITED;
      return;
    }
  if (description->kind == DESCRIPTION_KIND_TERMINAL) return; /* opened again by its name */
  TEXT(text, 300);
  put(&text, "descriptor "), put_decimal(&text, fd), put(&text, ", ");
  put_bytes(&text, path, description->path.length < 200 ? description->path.length : 200);
  add_loss(writer,
           is_message_queue(fd) ? "a POSIX message queue" : begins_with(path, "socket:") ? "a socket" : begins_with(path, "anon_inode:inotify") ? "an inotify watch"
             : begins_with(path, "anon_inode:[io_uring]")  ? "an io_uring"
             : begins_with(path, "pipe:")                  ? "a pipe to another process"
             : begins_with(path, "/dev/ptmx")              ? "a pseudo terminal"
             : begins_with(path, "/dev/")                  ? "a device"
                                                           : "an open file of a kind that is not kept yet",
           text.start);
}

void describe_files(struct writer *writer) {
  char entries[8192];
  const long directory = call(openat, writer->self_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (failed(directory)) fail(writer, "list its open files", directory);
  for (long size; (size = call(getdents64, directory, entries, sizeof entries)) > 0;)
    for (long at = 0; at < size; at += *(uint16_t *)(entries + at + 16)) {
      const char *name = entries + at + 19;
      if (name[0] == '.') continue;
      const int fd = take_number(&name, 10);
      if (fd != directory && fd != writer->self_fd && fd != writer->scratch->process_fd && fd != writer->scratch->maps_fd) describe_descriptor(writer, fd);
    }
  call(close, directory);
  const struct list *list = &writer->lists[LIST_DESCRIPTION];
  for (uint32_t i = 0; i < list->count; i++) judge(writer, record_at(list, i));
}
