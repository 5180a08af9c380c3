/*
 * Open files. Each description is opened once, at a number above all that the program uses; then every descriptor becomes a copy of its
 * description's. The standard streams that led to a terminal or to another program are this process's own.
 */
#include "restore.h"
#include <asm/socket.h>
#include <linux/eventpoll.h>

static int *opened;          /* by description id */
static int first_free = 64;  /* numbers from here on are ours */
static int standard[3] = {-1, -1, -1};

static struct note_description description_at(uint32_t index) {
  struct note_description description;
  read_record(NOTE_TYPE_DESCRIPTION, index, &description, sizeof description);
  return description;
}

/* Moves a descriptor to where the program has none. */
static int lift(long fd) {
  if (failed(fd)) return fd;
  const long high = call(fcntl, fd, 1030 /* F_DUPFD_CLOEXEC */, first_free);
  if (failed(high)) die(EXIT_HOST, "not enough file descriptors (ulimit -n)", 0, high);
  call(close, fd);
  return high;
}

static void write_content(const struct note_description *description, int fd, uint64_t to) {
  static unsigned char *chunk;
  enum { CHUNK = 1 << 16 };
  if (chunk == 0) chunk = arena(CHUNK);
  for (uint64_t at = 0; at < description->content_size;) {
    const uint64_t size = description->content_size - at < CHUNK ? description->content_size - at : CHUNK;
    read_image(chunk, size, description->content_offset + at);
    const long done = to == ~0ul ? call(write, fd, chunk, size) : call(pwrite64, fd, chunk, size, to + at);
    if (done == ERROR_INTERRUPTED) continue;
    if (done == ERROR_WOULD_BLOCK) die(EXIT_HOST, "a pipe or socket holds less here than what was in one (sysctl fs.pipe-user-pages-soft, net.core.wmem_max)", 0, 0);
    if (failed(done) || done == 0) die(EXIT_FAILED, "cannot write back the content of a file", text_of(NOTE_TYPE_DESCRIPTION, description->path), done);
    at += done;
  }
}

/* A file without a name, holding what the image kept of a deleted one. */
static int open_nameless(const struct note_description *description) {
  long fd = call(openat, AT_FDCWD, "/tmp", O_RDWR | 020200000 /* O_TMPFILE */, 0600);
  if (failed(fd)) fd = call(memfd_create, "deleted", 0);
  if (failed(fd)) die(EXIT_HOST, "cannot make a file for a deleted one", 0, fd);
  if (failed(call(ftruncate, fd, description->size))) die(EXIT_HOST, "cannot make a file for a deleted one", 0, 0);
  write_content(description, fd, 0);
  call(fchmod, fd, description->mode & 07777);
  TEXT(path, 64);
  put(&path, "/proc/self/fd/"), put_decimal(&path, fd);
  const long again = call(openat, AT_FDCWD, path.start, (description->flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | 020000000)) | O_CLOEXEC, 0);
  if (failed(again)) return fd;
  call(close, fd);
  return again;
}

/* A folder without a name, empty as a deleted one is: made where it was, so that /proc tells the same, or in /tmp. */
long open_nameless_folder(const char *path, uint32_t flags) {
  TEXT(made, 64);
  put(&made, "/tmp/imago-folder-"), put_decimal(&made, call(getpid));
  const char *const places[] = {path, made.start};
  long fd = 0;
  for (int i = 0; i < 2; i++) {
    fd = call(mkdirat, AT_FDCWD, places[i], 0700);
    if (failed(fd)) continue;
    fd = call(openat, AT_FDCWD, places[i], flags | O_DIRECTORY | O_CLOEXEC, 0);
    call(unlinkat, AT_FDCWD, places[i], AT_REMOVEDIR);
    break;
  }
  return fd;
}

/* The policy for a file that is not as it was: longer, shorter, or written to. */
static void settle_changes(const struct note_description *description, const char *path) {
  struct statx stat;
  if (failed(call(statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &stat)) || (description->flags & 3) == 0) return;
  const int64_t modified = stat.stx_mtime.tv_sec * (int64_t)NANOSECONDS + stat.stx_mtime.tv_nsec;
  if (stat.stx_size == description->size && modified == description->modified) return;
  const bool kept = description->state & DESCRIPTION_FLAG_CONTENT_KEPT;
  if (settings.files == FILES_RESTORE && kept) {
    const long fd = call(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (failed(fd)) die(EXIT_FAILED, "cannot write back the content of a file", path, fd);
    write_content(description, fd, 0);
    call(ftruncate, fd, description->size);
    call(close, fd);
  } else if (settings.files != FILES_KEEP && stat.stx_size > description->size) {
    if (settings.files == FILES_RESTORE) remark("its content is not in the image, it was only cut to its length", path);
    call(truncate, path, description->size);
  } else if (stat.stx_size > description->size) remark("a file grew since the image was made, and is kept so (--files truncate|restore)", path);
  else if (stat.stx_size < description->size) remark("a file is shorter than when the image was made (--files restore)", path);
}

static int open_named(const struct note_description *description) {
  const char *path = text_of(NOTE_TYPE_DESCRIPTION, description->path);
  const uint32_t flags = description->flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY);
  if (description->kind == DESCRIPTION_KIND_REGULAR) settle_changes(description, path);
  long fd = call(openat, AT_FDCWD, path, flags | O_NOCTTY | O_CLOEXEC, 0);
  if (fd == ERROR_NOT_THERE && description->kind == DESCRIPTION_KIND_REGULAR && description->state & DESCRIPTION_FLAG_CONTENT_KEPT) {
    const long made = call(openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, description->mode & 07777);
    if (failed(made)) die(EXIT_FAILED, "a file that it had open is gone, and cannot be made again", path, made);
    write_content(description, made, 0);
    call(ftruncate, made, description->size);
    call(close, made);
    remark("a file was gone, and is made again from the image", path);
    fd = call(openat, AT_FDCWD, path, flags | O_NOCTTY | O_CLOEXEC, 0);
  }
  if (fd == ERROR_NOT_THERE && description->kind == DESCRIPTION_KIND_DIRECTORY) {
    fd = open_nameless_folder(path, flags);
    if (!failed(fd)) remark("a folder that it had open is gone: it has an empty one without a name", path);
  }
  if (failed(fd)) die(EXIT_FAILED, "cannot open a file that it had open", path, fd);
  return fd;
}

/* The ends of a pipe are made together, for the first description with its inode. */
static int open_pipe(uint32_t index, const struct note_description *description) {
  static struct { uint64_t inode; int ends[2]; } *pipes;
  static uint32_t count;
  if (pipes == 0) pipes = arena(record_count(NOTE_TYPE_DESCRIPTION) * sizeof *pipes);
  uint32_t known = 0;
  while (known < count && pipes[known].inode != description->inode) known++;
  if (known == count) {
    int ends[2];
    const long made = call(pipe2, ends, O_CLOEXEC | O_NONBLOCK); /* nobody reads yet; the ends proper are opened below */
    if (failed(made)) die(EXIT_HOST, "cannot make a pipe", 0, made);
    pipes[count].inode = description->inode;
    pipes[count].ends[0] = lift(ends[0]), pipes[count].ends[1] = lift(ends[1]);
    call(fcntl, pipes[count].ends[1], 1031 /* F_SETPIPE_SZ */, description->a);
    for (uint32_t i = index; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
      const struct note_description reader = description_at(i);
      if (reader.kind != DESCRIPTION_KIND_PIPE || reader.inode != description->inode || reader.content_size == 0) continue;
      write_content(&reader, pipes[count].ends[1], ~0ul);
      break;
    }
    count++;
  }
  TEXT(path, 64);
  put(&path, "/proc/self/fd/"), put_decimal(&path, pipes[known].ends[(description->flags & 3) == 1]);
  return call(openat, AT_FDCWD, path.start, description->flags | O_CLOEXEC | O_NONBLOCK, 0);
}

static void set_up_socket(const struct note_description *description, int fd) {
  const int32_t half = description->c / 2, passes = description->f; /* Linux doubles what it is told */
  const uint64_t limits[2][2] = {{description->d / NANOSECONDS, description->d % NANOSECONDS / 1000}, {description->e / NANOSECONDS, description->e % NANOSECONDS / 1000}};
  call(setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
  call(setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, limits[0], sizeof limits[0]);
  call(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, limits[1], sizeof limits[1]);
  if (passes) call(setsockopt, fd, SOL_SOCKET, SO_PASSCRED, &passes, sizeof passes);
}

static void shut_down(const struct note_description *description, int fd) {
  if (description->b & 1) call(shutdown, fd, 0 /* SHUT_RD */);
  if (description->b & 2) call(shutdown, fd, 1 /* SHUT_WR */);
}

/* Both ends are made for the first of them; what each was to receive the other sends again. */
static long open_socket_pair(uint32_t index, const struct note_description *description) {
  static int *made; /* by index of the description: what it will be */
  if (made == 0) made = arena(record_count(NOTE_TYPE_DESCRIPTION) * sizeof *made);
  if (made[index] != 0) return made[index];
  for (uint32_t i = index + 1; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
    const struct note_description other = description_at(i);
    int ends[2];
    if (other.kind != DESCRIPTION_KIND_SOCKET_PAIR || other.inode != description->a) continue;
    const long pair = call(socketpair, 1 /* AF_UNIX */, 1 /* SOCK_STREAM */ | O_CLOEXEC | O_NONBLOCK, 0, ends);
    if (failed(pair)) return pair;
    made[i] = lift(ends[1]);
    set_up_socket(description, ends[0]), set_up_socket(&other, made[i]);
    write_content(description, made[i], ~0ul), write_content(&other, ends[0], ~0ul);
    shut_down(description, ends[0]), shut_down(&other, made[i]);
    return ends[0];
  }
  return call(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
}

static int open_fifo(const struct note_description *description) {
  const char *path = text_of(NOTE_TYPE_DESCRIPTION, description->path);
  const long helper = call(openat, AT_FDCWD, path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0); /* never blocks, and keeps the content */
  if (failed(helper)) die(EXIT_FAILED, "cannot open a fifo that it had open", path, helper);
  int waiting = 0;
  call(ioctl, helper, 0x541b /* FIONREAD */, &waiting);
  if (waiting == 0) write_content(description, helper, ~0ul);
  const long fd = call(openat, AT_FDCWD, path, description->flags | O_NONBLOCK | O_CLOEXEC, 0);
  lift(helper); /* open until the program's own ends all are */
  return fd;
}

static int open_timer(const struct note_description *description) {
  const long fd = call(timerfd_create, (int)description->a, O_CLOEXEC);
  if (failed(fd)) return fd;
  if (description->c != 0) {
    const struct time_pair value[2] = {pair_of(description->d), pair_of(description->c)};
    call(timerfd_settime, fd, 0, value, 0);
  }
  if (description->e != 0) call(ioctl, fd, 0x40085400 /* TFD_IOC_SET_TICKS */, &description->e);
  return fd;
}

static int open_memory_file(const struct note_description *description) {
  const char *path = text_of(NOTE_TYPE_DESCRIPTION, description->path);
  const long fd = call(memfd_create, begins_with(path, "/memfd:") ? path + 7 : path, 3 /* MFD_CLOEXEC | MFD_ALLOW_SEALING */);
  if (failed(fd)) return fd;
  call(ftruncate, fd, description->size);
  write_content(description, fd, 0);
  return fd;
}

static int inherited(uint32_t id, const struct note_description *description) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTOR); i++) {
    struct note_descriptor descriptor;
    read_record(NOTE_TYPE_DESCRIPTOR, i, &descriptor, sizeof descriptor);
    if (descriptor.fd > 2) {
      if (descriptor.description != id) continue;
      const long fd = call(fcntl, descriptor.fd, 1030 /* F_DUPFD_CLOEXEC */, first_free);
      if (!failed(fd)) return fd; /* found open by this process too */
      remark("a pipe or socket that it was started with now leads to /dev/null", 0);
      break;
    }
    const struct note_description other = description_at(descriptor.description - 1);
    if ((descriptor.description == id || (other.inode == description->inode && other.kind == description->kind)) && standard[descriptor.fd] >= 0)
      return call(fcntl, standard[descriptor.fd], 1030 /* F_DUPFD_CLOEXEC */, first_free);
  }
  return call(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
}

static int open_description(uint32_t index, const struct note_description *description) {
  if (description->state & DESCRIPTION_FLAG_INHERITED) return inherited(description->id, description);
  switch (description->kind) {
    case DESCRIPTION_KIND_REGULAR: return description->state & DESCRIPTION_FLAG_DELETED ? open_nameless(description) : open_named(description);
    case DESCRIPTION_KIND_DIRECTORY:
    case DESCRIPTION_KIND_TERMINAL:
    case DESCRIPTION_KIND_DEVICE: return open_named(description);
    case DESCRIPTION_KIND_PIPE: return open_pipe(index, description);
    case DESCRIPTION_KIND_SOCKET_PAIR: return open_socket_pair(index, description);
    case DESCRIPTION_KIND_FIFO: return open_fifo(description);
    case DESCRIPTION_KIND_EVENTFD: return call(eventfd2, (uint32_t)description->a, O_CLOEXEC | (description->b ? 1 : 0));
    case DESCRIPTION_KIND_TIMERFD: return open_timer(description);
    case DESCRIPTION_KIND_SIGNALFD: return call(signalfd4, -1, &description->a, 8, O_CLOEXEC);
    case DESCRIPTION_KIND_EPOLL: return call(epoll_create1, O_CLOEXEC);
    case DESCRIPTION_KIND_MEMFD: return open_memory_file(description);
    default:
      remark("a descriptor that is not kept now leads to /dev/null", text_of(NOTE_TYPE_DESCRIPTION, description->path));
      return call(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
  }
}

static void finish_description(const struct note_description *description, int fd) {
  const bool seekable = description->kind == DESCRIPTION_KIND_REGULAR || description->kind == DESCRIPTION_KIND_DIRECTORY || description->kind == DESCRIPTION_KIND_MEMFD;
  if (seekable && description->offset != 0) call(lseek, fd, description->offset, 0);
  if (!(description->state & DESCRIPTION_FLAG_INHERITED)) call(fcntl, fd, 4 /* F_SETFL */, description->flags);
  if (description->kind == DESCRIPTION_KIND_TERMINAL && description->extra.length == 36)
    call(ioctl, fd, 0x5402 /* TCSETS */, text_of(NOTE_TYPE_DESCRIPTION, description->extra));
  if (description->owner != 0) {
    const struct { int32_t type, pid; } owner = {
      description->owner_type, (uint32_t)description->owner == image.process.pid ? (int32_t)call(getpid) : description->owner};
    call(fcntl, fd, 15 /* F_SETOWN_EX */, &owner);
    call(fcntl, fd, 10 /* F_SETSIG */, description->owner_signal);
  }
}

/* Closes all that the program does not have, below our own numbers. */
static void place_descriptors(void) {
  uint32_t next = 0;
  for (uint32_t i = 0; i <= record_count(NOTE_TYPE_DESCRIPTOR); i++) {
    struct note_descriptor descriptor = {.fd = first_free};
    const bool real = i < record_count(NOTE_TYPE_DESCRIPTOR);
    if (real) read_record(NOTE_TYPE_DESCRIPTOR, i, &descriptor, sizeof descriptor);
    if (descriptor.fd > next) call(close_range, next, descriptor.fd - 1, 0);
    next = descriptor.fd + 1;
    if (!real) break;
    const long fd = call(dup3, opened[descriptor.description], descriptor.fd, descriptor.flags & 1 ? O_CLOEXEC : 0);
    if (failed(fd)) die(EXIT_HOST, "cannot give a file its old descriptor (ulimit -n)", 0, fd);
  }
}

static int descriptor_of(uint32_t description) {
  struct note_descriptor descriptor;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTOR); i++) {
    read_record(NOTE_TYPE_DESCRIPTOR, i, &descriptor, sizeof descriptor);
    if (descriptor.description == description) return descriptor.fd;
  }
  return -1;
}

/* Last: closing any descriptor of a file gives up the process's locks on it. */
static void restore_locks(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_LOCK); i++) {
    struct note_lock lock;
    read_record(NOTE_TYPE_LOCK, i, &lock, sizeof lock);
    if (lock.description == 0 || lock.description > record_count(NOTE_TYPE_DESCRIPTION)) continue;
    const int fd = descriptor_of(lock.description);
    const struct { int16_t type, whence; int64_t start, length; int32_t pid; } range = {lock.type, 0, lock.start, lock.length, 0};
    const long result = lock.kind == 2   ? call(flock, fd, (lock.type == 1 ? 2 : 1) | 4 /* LOCK_NB */)
                        : lock.kind == 3 ? call(fcntl, fd, 37 /* F_OFD_SETLK */, &range)
                                         : call(fcntl, fd, 6 /* F_SETLK */, &range);
    if (failed(result)) {
      const struct note_description description = description_at(lock.description - 1);
      die(EXIT_FAILED, "a lock that it held is held by another process now", text_of(NOTE_TYPE_DESCRIPTION, description.path), result);
    }
  }
}

static void restore_watches(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_WATCH); i++) {
    struct note_watch watch;
    read_record(NOTE_TYPE_WATCH, i, &watch, sizeof watch);
    if (watch.description == 0 || watch.description > record_count(NOTE_TYPE_DESCRIPTION)) continue;
    struct epoll_event event = {.events = watch.events, .data = watch.data};
    const long result = call(epoll_ctl, opened[watch.description], EPOLL_CTL_ADD, watch.fd, &event);
    if (failed(result) && result != -1 /* EPERM: a regular file */) remark("an epoll no longer watches a descriptor", 0);
  }
}

void restore_files(void) {
  const uint32_t descriptors = record_count(NOTE_TYPE_DESCRIPTOR), count = record_count(NOTE_TYPE_DESCRIPTION);
  uint64_t limit[2];
  if (!failed(call(prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, limit))) {
    limit[0] = limit[1];
    call(prlimit64, 0, 7, limit, 0);
  }
  if (descriptors > 0) {
    struct note_descriptor last;
    read_record(NOTE_TYPE_DESCRIPTOR, descriptors - 1, &last, sizeof last);
    if (last.fd >= (uint32_t)first_free) first_free = last.fd + 1;
  }
  opened = arena((count + 1) * sizeof *opened);
  image.fd = lift(image.fd);
  if (settings.report >= 0) settings.report = lift(settings.report);
  for (int i = 0; i < 3; i++) standard[i] = call(fcntl, i, 1030 /* F_DUPFD_CLOEXEC */, first_free);
  for (uint32_t i = 0; i < count; i++) {
    const struct note_description description = description_at(i);
    opened[i + 1] = lift(open_description(i, &description));
    if (opened[i + 1] < 0) die(EXIT_HOST, "cannot open again", text_of(NOTE_TYPE_DESCRIPTION, description.path), opened[i + 1]);
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct note_description description = description_at(i);
    finish_description(&description, opened[i + 1]);
  }
  place_descriptors();
  restore_watches();
}

/* The memfd or deleted file with this inode that the program also has mapped. */
int descriptor_for_inode(uint64_t inode) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
    const struct note_description description = description_at(i);
    if (description.inode == inode && (description.kind == DESCRIPTION_KIND_MEMFD || description.state & DESCRIPTION_FLAG_DELETED)) return opened[i + 1];
  }
  return -1;
}

static void seal_memory_files(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
    const struct note_description description = description_at(i);
    if (description.kind == DESCRIPTION_KIND_MEMFD && description.a != 1 && description.a < 32) call(fcntl, opened[i + 1], 1033 /* F_ADD_SEALS */, description.a);
  }
}

/* When memory is mapped: seals, then our own descriptors go, all but the report; then locks, and the last word. */
void finish_files(void) {
  seal_memory_files();
  if (settings.report > first_free) call(close_range, first_free, settings.report - 1, 0);
  call(close_range, settings.report < 0 ? first_free : settings.report + 1, ~0u, 0);
  restore_locks();
  report("running", call(gettid));
  if (settings.report >= 0) call(close, settings.report);
}
