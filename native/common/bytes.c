/* memcpy and memset, which the compiler calls. */
#include "base.h"

void *memcpy(void *to, const void *from, size_t size) {
#if defined(__x86_64__)
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return start;
#else
  unsigned char *out = to;
  const unsigned char *in = from;
  while (size-- > 0) *out++ = *in++;
  return to;
#endif
}

void *memset(void *to, int value, size_t size) {
#if defined(__x86_64__)
  void *start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return start;
#else
  volatile unsigned char *out = to;
  while (size-- > 0) *out++ = (unsigned char)value;
  return to;
#endif
}
