/*
 * The file that the image goes to. It has a temporary name until it is whole.
 *
 * To create a file takes longer than to describe a small program. So what is written while the program still stands waits in memory, in pieces
 * (struct piece, its bytes behind it), and is written when the program runs on. When the room is full, the file is made at once.
 */
#include "writer.h"

#define EARLY_ROOM (16ul << 20)

struct piece {
  uint64_t offset, size;
};

/* The path of the image, %p and %n filled in, and made absolute; the temporary one beside it. */
static void choose_paths(struct writer *writer) {
  const char *template = writer->options.output;
  struct text path = {writer->path, writer->path, writer->path + PATH_SIZE - 1};
  if (template[0] != '/') {
    const long length = call(readlinkat, AT_FDCWD, "/proc/self/cwd", path.at, PATH_SIZE - 2);
    if (length > 0) path.at += length;
    put(&path, "/");
  }
  for (const char *at = template; *at != 0; at++) {
    if (*at != '%') put_bytes(&path, at, 1);
    else if (*++at == 'p') put_decimal(&path, writer->scratch->pid);
    else if (*at == 'n') put_decimal(&path, writer->number);
    else if (*at == '%') put(&path, "%");
    else put(&path, "%"), at--;
  }
  const char *base = writer->path;
  for (const char *at = writer->path; *at != 0; at++)
    if (*at == '/') base = at + 1;
  struct text temporary = {writer->temporary, writer->temporary, writer->temporary + PATH_SIZE - 1};
  put_bytes(&temporary, writer->path, base - writer->path);
  put(&temporary, "."), put(&temporary, base), put(&temporary, ".");
  put_decimal(&temporary, call(getpid)), put(&temporary, ".tmp");
}

static void open_image(struct writer *writer) {
  if (writer->out >= 0) return;
  choose_paths(writer);
  const long fd = call(openat, AT_FDCWD, writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (failed(fd)) fail(writer, "create the image", fd);
  writer->out = fd;
  hold_lock(writer);
}

/* For the bar that imago draws. */
static void tell_progress(struct writer *writer) {
  TEXT(line, 64);
  writer->told = writer->written;
  put(&line, "progress "), put_decimal(&line, writer->written), put(&line, " "), put_decimal(&line, writer->expected);
  reply_line(&writer->options, line.start);
}

static void write_to_file(struct writer *writer, const unsigned char *from, size_t size, uint64_t offset) {
  while (size > 0) {
    const long done = call(pwrite64, writer->out, from, size, offset);
    if (done == ERROR_INTERRUPTED) continue;
    if (failed(done) || done == 0) fail(writer, "write the image", done);
    writer->written += done;
    if (writer->written - writer->told >= PROGRESS_STEP) tell_progress(writer);
    from += done, offset += done, size -= done;
  }
}

void begin_early_writes(struct writer *writer) {
  writer->early = allocate(writer, EARLY_ROOM);
}

void write_what_was_early(struct writer *writer) {
  unsigned char *early = writer->early;
  writer->early = 0;
  open_image(writer);
  if (early == 0) return; /* it was too much to wait */
  for (uint64_t at = 0; at < writer->early_size;) {
    const struct piece *piece = (const struct piece *)(early + at);
    write_to_file(writer, early + at + sizeof *piece, piece->size, piece->offset);
    at += sizeof *piece + round_up(piece->size, 8);
  }
  call(munmap, early, EARLY_ROOM);
}

void write_at(struct writer *writer, const void *bytes, size_t size, uint64_t offset) {
  const uint64_t needed = sizeof(struct piece) + round_up(size, 8);
  if (writer->early != 0 && needed > EARLY_ROOM - writer->early_size) write_what_was_early(writer);
  if (writer->early == 0) return write_to_file(writer, bytes, size, offset);
  struct piece *piece = (struct piece *)(writer->early + writer->early_size);
  *piece = (struct piece){offset, size};
  memcpy(piece + 1, bytes, size);
  writer->early_size += needed;
}

/* Sync, rename, sync of the folder, and the end of writing. The ELF header was the last thing written before. */
void put_in_place(struct writer *writer) {
  long result = call(fsync, writer->out);
  if (!failed(result)) result = call(renameat, AT_FDCWD, writer->temporary, AT_FDCWD, writer->path);
  if (failed(result)) fail(writer, "put the image in its place", result);
  writer->temporary[0] = 0;
  char folder[PATH_SIZE] = {0};
  size_t length = 0;
  for (size_t i = 0; writer->path[i] != 0; i++)
    if (writer->path[i] == '/') length = i;
  for (size_t i = 0; i < length; i++) folder[i] = writer->path[i];
  const long fd = call(openat, AT_FDCWD, length == 0 ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!failed(fd)) call(fsync, fd);
  call(close, writer->out); /* with its lock: whoever wants to change the image may */
  writer->out = -1;
}
