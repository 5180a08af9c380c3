/* Lists of records, in address space that is taken generously and filled sparingly. */
#include "writer.h"

#define NOTE(name, kind, records, strings) \
  [LIST_##name] = {.type = NOTE_TYPE_##name, .record_size = sizeof(struct kind), .capacity = records, .strings_capacity = strings}

static const struct list kinds[LISTS] = {
  NOTE(IMAGE, note_image, 1, 4096),
  NOTE(PROCESS, note_process, 1, 16384),
  NOTE(THREAD, note_thread, MAX_THREADS, 0),
  NOTE(MAPPING, note_mapping, 1 << 20, 1 << 27),
  NOTE(MODIFIED, note_modified, 1 << 22, 0),
  NOTE(DESCRIPTOR, note_descriptor, 1 << 20, 0),
  NOTE(DESCRIPTION, note_description, 1 << 20, 1 << 27),
  NOTE(LOCK, note_lock, 1 << 18, 0),
  NOTE(WATCH, note_watch, 1 << 20, 0),
  NOTE(ACTION, note_action, 64, 0),
  NOTE(PENDING, note_pending, MAX_PENDING, 0),
  NOTE(INTERVAL_TIMER, note_interval_timer, 3, 0),
  NOTE(POSIX_TIMER, note_posix_timer, 1024, 0),
  NOTE(LIMIT, note_limit, 16, 0),
  NOTE(CREDENTIAL, note_credential, 1, 1 << 19),
  NOTE(LOSS, note_loss, 4096, 1 << 22),
  NOTE(GUARD, note_guard, 1 << 18, 0),
  NOTE(SEAL, note_seal, 1, 0),
};

static size_t records_size(const struct list *list) {
  return round_up((size_t)list->capacity * list->record_size, PAGE);
}

size_t lists_size(void) {
  size_t size = 0;
  for (int i = 0; i < LISTS; i++) size += records_size(&kinds[i]) + kinds[i].strings_capacity;
  return size;
}

void make_lists(struct writer *writer, unsigned char *at) {
  for (int i = 0; i < LISTS; i++) {
    struct list *list = &writer->lists[i];
    *list = kinds[i];
    list->records = at;
    list->strings = (char *)at + records_size(list);
    at += records_size(list) + list->strings_capacity;
  }
}

void *add_record(struct writer *writer, enum list_name name) {
  struct list *list = &writer->lists[name];
  if (list->count == list->capacity) fail(writer, "it has more of one kind than an image holds", -(long)list->type);
  return record_at(list, list->count++);
}

struct note_string add_string(struct writer *writer, enum list_name name, const char *bytes, size_t size) {
  struct list *list = &writer->lists[name];
  if (list->strings_size + size > list->strings_capacity) fail(writer, "its names are longer than an image holds", 0);
  const struct note_string string = {list->strings_size, size};
  for (size_t i = 0; i < size; i++) list->strings[list->strings_size++] = bytes[i];
  return string;
}

void add_loss(struct writer *writer, const char *what, const char *detail) {
  TEXT(text, MESSAGE_SIZE);
  put(&text, what);
  if (detail[0] != 0) put(&text, ": "), put(&text, detail);
  struct note_loss *loss = add_record(writer, LIST_LOSS);
  loss->what = add_string(writer, LIST_LOSS, text.start, text.at - text.start);
}
