/*
 * The content of open files that nothing else keeps: of pipes, sockets, memfds, deleted files, small files open for writing. As the program noted it before the
 * fork (shared.c), or read while it stands.
 */
#include "writer.h"

static void keep_bytes(struct writer *writer, struct note_description *description, const uint8_t *bytes, uint64_t size) {
  description->state |= DESCRIPTION_FLAG_CONTENT_KEPT;
  description->content_offset = writer->end;
  description->content_size = size;
  description->checksum = crc32(0, bytes, description->content_size);
  if (description->content_size > 0) write_at(writer, bytes, description->content_size, description->content_offset);
  writer->end = round_up(writer->end + description->content_size, PAGE);
}

static void keep_noted(struct writer *writer, struct note_description *description, struct noted_bytes noted) {
  keep_bytes(writer, description, writer->scratch->noted + noted.start, noted.end - noted.start);
}

/* Reads what `fd` gives until its end into the image. */
static void keep_stream(struct writer *writer, struct note_description *description, int fd) {
  description->state |= DESCRIPTION_FLAG_CONTENT_KEPT;
  description->content_offset = writer->end;
  for (;;) {
    const long got = call(read, fd, writer->bounce, BOUNCE_SIZE);
    if (got == ERROR_INTERRUPTED) continue;
    if (got <= 0) break;
    write_at(writer, writer->bounce, got, description->content_offset + description->content_size);
    description->checksum = crc32(description->checksum, writer->bounce, got);
    description->content_size += got;
  }
  writer->end = round_up(writer->end + description->content_size, PAGE);
}

static void keep_file(struct writer *writer, struct note_description *description) {
  const int descriptor = descriptor_of(writer, description->id);
  const struct noted_file *note = noted_file(writer->scratch, descriptor);
  TEXT(path, 64);
  if (note != 0 && note->content.end != 0) return keep_noted(writer, description, note->content);
  if (!writer->program_stands && (description->flags & 3) != O_RDONLY) ask_for_standing(writer);
  put(&path, "/proc/self/fd/"), put_decimal(&path, descriptor);
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
  if (failed(fd)) {
    if (description->state & DESCRIPTION_FLAG_DELETED) add_loss(writer, "the content of a deleted file", path.start);
    return;
  }
  keep_stream(writer, description, fd);
  call(close, fd);
}

/* tee(2) doubles what is in a pipe without taking it out. */
static void keep_pipe(struct writer *writer, struct note_description *description) {
  int copy[2];
  if ((description->flags & 3) == 1) return; /* the reading end holds it */
  for (uint32_t i = 0; i < writer->scratch->noted_file_count; i++) { /* by any descriptor of it */
    const struct noted_file *note = &writer->scratch->noted_files[i];
    if (note->inode == description->inode && note->device == description->device && note->content.end != 0)
      return keep_noted(writer, description, note->content);
  }
  if (!writer->program_stands) ask_for_standing(writer);
  if (failed(call(pipe2, copy, O_CLOEXEC | O_NONBLOCK))) fail(writer, "make a pipe", 0);
  call(fcntl, copy[1], 1031 /* F_SETPIPE_SZ */, description->a);
  const int fd = descriptor_of(writer, description->id);
  call(tee, fd, copy[1], 1 << 30, 2 /* SPLICE_F_NONBLOCK */);
  call(close, copy[1]);
  keep_stream(writer, description, copy[0]);
  call(close, copy[0]);
}

static void keep_socket(struct writer *writer, struct note_description *description) {
  if (!writer->program_stands) ask_for_standing(writer);
  const struct received received = received_by(writer, descriptor_of(writer, description->id));
  keep_bytes(writer, description, received.bytes, received.size);
}

void write_kept_content(struct writer *writer) {
  const struct list *list = &writer->lists[LIST_DESCRIPTION];
  for (uint32_t i = 0; i < list->count; i++) {
    struct note_description *description = record_at(list, i);
    const bool writable = (description->flags & 3) != 0;
    if (description->kind == DESCRIPTION_KIND_REGULAR &&
        (description->state & DESCRIPTION_FLAG_DELETED ||
         (writable && (writer->options.files || description->size <= SMALL_FILE))))
      keep_file(writer, description);
    else if (description->kind == DESCRIPTION_KIND_MEMFD) keep_file(writer, description);
    else if (description->kind == DESCRIPTION_KIND_SOCKET_PAIR) keep_socket(writer, description);
    else if ((description->kind == DESCRIPTION_KIND_PIPE || description->kind == DESCRIPTION_KIND_FIFO) &&
             !(description->state & DESCRIPTION_FLAG_INHERITED))
      keep_pipe(writer, description);
  }
}
