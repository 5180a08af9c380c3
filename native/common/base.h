/* What all of native/ stands on: system calls by name, bytes, numbers as text. There is no C library below it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include "arch/x86-64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "x86-64 or aarch64"
#endif
#include <linux/fcntl.h>
#include <linux/mman.h>

#define PAGE 4096ul
#define NANOSECONDS 1000000000ul
#define ERROR_NOT_THERE (-2)
#define ERROR_NO_SUCH_PROCESS (-3)
#define ERROR_INTERRUPTED (-4)
#define ERROR_NO_CHILD (-10)
#define ERROR_WOULD_BLOCK (-11)
#define ERROR_INVALID (-22)
#define ERROR_TIMED_OUT (-110)

/* call(read, fd, buffer, size): the system call of that name; returns -errno on failure. */
#define CALL_PICK(a, b, c, d, e, f, g, n, ...) n
#define CALL_0(n) system_call(n, 0, 0, 0, 0, 0, 0)
#define CALL_1(n, a) system_call(n, (long)(a), 0, 0, 0, 0, 0)
#define CALL_2(n, a, b) system_call(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define CALL_3(n, a, b, c) system_call(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL_4(n, a, b, c, d) system_call(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define CALL_5(n, a, b, c, d, e) system_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define CALL_6(n, a, b, c, d, e, f) system_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define call(name, ...) \
  CALL_PICK(0, ##__VA_ARGS__, CALL_6, CALL_5, CALL_4, CALL_3, CALL_2, CALL_1, CALL_0)(__NR_##name, ##__VA_ARGS__)

static inline bool failed(long result) {
  return (unsigned long)result > -4096ul;
}

/* The compiler calls these by itself; common/bytes.c defines them. */
__attribute__((visibility("hidden"))) void *memcpy(void *to, const void *from, size_t size);
__attribute__((visibility("hidden"))) void *memset(void *to, int value, size_t size);

static inline size_t length_of(const char *text) {
  size_t n = 0;
  while (text[n] != 0) n++;
  return n;
}

static inline bool begins_with(const char *text, const char *start) {
  while (*start != 0)
    if (*text++ != *start++) return false;
  return true;
}

static inline bool same_text(const char *a, const char *b) {
  while (*a != 0 && *a == *b) a++, b++;
  return *a == *b;
}

static inline bool same_bytes(const void *a, const void *b, size_t size) {
  const unsigned char *x = a, *y = b;
  for (size_t i = 0; i < size; i++)
    if (x[i] != y[i]) return false;
  return true;
}

static inline uint64_t round_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

/* Reads digits of `base` at *at and moves past them. */
static inline uint64_t take_number(const char **at, unsigned base) {
  uint64_t value = 0;
  for (;;) {
    const char c = **at;
    unsigned digit;
    if (c >= '0' && c <= '9') digit = c - '0';
    else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    else break;
    if (digit >= base) break;
    value = value * base + digit;
    (*at)++;
  }
  return value;
}

static inline void skip_spaces(const char **at) {
  while (**at == ' ' || **at == '\t') (*at)++;
}

static inline const char *find_text(const char *in, const char *what) {
  for (; *in != 0; in++)
    if (begins_with(in, what)) return in;
  return 0;
}

/* Text that is put together piece by piece; what does not fit is cut off. Always NUL-terminated. */
struct text {
  char *start, *at, *end;
};
#define TEXT(name, size)         \
  char name##_bytes[size] = {0}; \
  struct text name = {name##_bytes, name##_bytes, name##_bytes + sizeof name##_bytes - 1}

static inline void put_bytes(struct text *to, const char *from, size_t size) {
  for (size_t i = 0; i < size && to->at < to->end; i++) *to->at++ = from[i];
  *to->at = 0;
}

static inline void put(struct text *to, const char *from) {
  put_bytes(to, from, length_of(from));
}

static inline void put_number(struct text *to, uint64_t value, unsigned base) {
  char digits[24];
  int n = 0;
  do digits[n++] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  while (n > 0) put_bytes(to, &digits[--n], 1);
}

static inline void put_decimal(struct text *to, long value) {
  if (value < 0) put(to, "-");
  put_number(to, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

static inline void put_hex(struct text *to, uint64_t value) {
  put(to, "0x");
  put_number(to, value, 16);
}

/* Reads a whole small file (of /proc) as a NUL-terminated text; returns its length or -errno. */
static inline long read_text(int directory, const char *path, char *into, size_t capacity) {
  const long fd = call(openat, directory, path, O_RDONLY | O_CLOEXEC, 0);
  if (failed(fd)) return fd;
  long length = 0;
  for (;;) {
    const long got = call(read, fd, into + length, capacity - 1 - length);
    if (got == ERROR_INTERRUPTED) continue;
    if (failed(got)) length = got;
    if (got <= 0) break;
    length += got;
  }
  call(close, fd);
  into[length > 0 ? length : 0] = 0;
  return length;
}

/* A file read line by line, whatever its length. Lines longer than the buffer come in parts. */
struct lines {
  long fd;
  char *buffer;
  size_t capacity, begin, end;
};
#define LINES(name, size)      \
  char name##_buffer[size];    \
  struct lines name = {-1, name##_buffer, sizeof name##_buffer, 0, 0}

static inline bool open_lines(struct lines *lines, int directory, const char *path) {
  lines->begin = lines->end = 0;
  lines->fd = call(openat, directory, path, O_RDONLY | O_CLOEXEC, 0);
  return !failed(lines->fd);
}

/* The next line without its newline, or 0 at the end, where the file is closed. */
static inline char *next_line(struct lines *lines) {
  for (;;) {
    for (size_t i = lines->begin; i < lines->end; i++)
      if (lines->buffer[i] == '\n') {
        char *line = lines->buffer + lines->begin;
        lines->buffer[i] = 0;
        lines->begin = i + 1;
        return line;
      }
    const size_t rest = lines->end - lines->begin;
    for (size_t i = 0; i < rest; i++) lines->buffer[i] = lines->buffer[lines->begin + i];
    lines->begin = 0;
    lines->end = rest;
    long got;
    do got = rest < lines->capacity - 1 ? call(read, lines->fd, lines->buffer + rest, lines->capacity - 1 - rest) : 0;
    while (got == ERROR_INTERRUPTED);
    if (got <= 0) {
      if (rest == 0) {
        call(close, lines->fd);
        return 0;
      }
      lines->buffer[rest] = 0;
      lines->begin = lines->end = 0;
      return lines->buffer;
    }
    lines->end += got;
  }
}

/* The kernel's sigaction, which differs from the C library's. */
struct kernel_action {
  uint64_t handler, flags, restorer, mask;
};

struct time_pair {
  int64_t seconds, nanoseconds;
};

static inline uint64_t clock_nanoseconds(int clock) {
  struct time_pair now = {0, 0};
  call(clock_gettime, clock, &now);
  return (uint64_t)now.seconds * NANOSECONDS + now.nanoseconds;
}

static inline struct time_pair pair_of(uint64_t nanoseconds) {
  return (struct time_pair){nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS};
}

uint32_t crc32(uint32_t crc, const void *bytes, size_t size) __attribute__((visibility("hidden")));
