/* Words to the user, and memory that is never given back one by one. */
#include "restore.h"

/* Errors that a user may mend, in the words of errno(3). */
static const struct { long number; const char *words; } errors[] = {
  {1, "operation not permitted"}, {2, "no such file or directory"}, {5, "input/output error"},
  {12, "cannot allocate memory"}, {13, "permission denied"}, {16, "busy"}, {17, "it exists already"}, {20, "not a directory"},
  {21, "is a directory"}, {23, "too many open files in the system"}, {24, "too many open files"}, {26, "text file busy"},
  {28, "no space left on device"}, {30, "read-only file system"}, {36, "file name too long"}, {40, "too many links"}, {122, "disk quota exceeded"},
};

static void put_error(struct text *text, long number) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].number == number) {
      put(text, errors[i].words);
      return;
    }
  put(text, "error "), put_decimal(text, number);
}

/* To imago where it listens, to the terminal otherwise. */
static void say(const char *kind, const char *what, const char *subject, long error) {
  TEXT(text, 1024);
  if (settings.report < 0) put(&text, "myrestart: ");
  put(&text, kind), put(&text, what);
  if (subject != 0 && subject[0] != 0) put(&text, ": "), put(&text, subject);
  if (error != 0) put(&text, " ("), put_error(&text, error < 0 ? -error : error), put(&text, ")");
  put(&text, "\n");
  call(write, settings.report < 0 ? 2 : settings.report, text.start, text.at - text.start);
}

void die(int code, const char *what, const char *subject, long error) {
  say(settings.report < 0 ? "" : "error ", what, subject, error);
  call(exit_group, code);
  __builtin_unreachable();
}

void die_at(int code, const char *what, uint64_t address, long error) {
  TEXT(text, 32);
  put_hex(&text, address);
  die(code, what, text.start, error);
}

void remark(const char *what, const char *subject) {
  say(settings.report < 0 ? "note: " : "remark ", what, subject, 0);
}

void report(const char *word, long number) {
  if (settings.report < 0) return;
  TEXT(text, 64);
  put(&text, word), put(&text, " "), put_decimal(&text, number), put(&text, "\n");
  call(write, settings.report, text.start, text.at - text.start);
}

static uint64_t next = ARENA_START;

uint64_t arena_end(void) {
  return next;
}

void *arena(size_t size) {
  const uint64_t length = round_up(size + 1, PAGE);
  if (length < size || next + length > RESTORER_END) die(EXIT_UNREADABLE, "the image describes more than fits", image.path, 0);
  const long at = call(mmap, next, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
  if (at != (long)next) die(EXIT_HOST, "no memory for the image's description", 0, at);
  next += length + PAGE;
  return (void *)at;
}

/* A NUL-terminated copy of a string of a record. */
const char *text_of(uint32_t type, struct note_string string) {
  static char *pool;
  static size_t left;
  const struct table *table = &image.tables[type - NOTE_TYPE_IMAGE];
  if (string.length > table->strings_size || string.offset > table->strings_size - string.length || string.length > 65536)
    die(EXIT_UNREADABLE, "a name in the image lies outside of it", image.path, 0);
  if (left < string.length + 1ul) pool = arena(left = 1 << 20);
  char *copy = pool;
  for (uint32_t i = 0; i < string.length; i++) copy[i] = table->strings[string.offset + i];
  copy[string.length] = 0;
  pool += string.length + 1, left -= string.length + 1;
  return copy;
}
