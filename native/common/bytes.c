/* memcpy and memset, which the compiler calls, and the CRC-32 of zlib and Ethernet (polynomial 0xedb88320), eight bytes a step. */
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

static uint32_t table[8][256];

static void make_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t value = i;
    for (int k = 0; k < 8; k++) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
    table[0][i] = value;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int k = 1; k < 8; k++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

uint32_t crc32(uint32_t crc, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  if (table[0][1] == 0) make_table();
  crc = ~crc;
  for (; size >= 8; size -= 8, at += 8) {
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    word ^= crc;
    crc = table[7][word & 255] ^ table[6][word >> 8 & 255] ^ table[5][word >> 16 & 255] ^ table[4][word >> 24 & 255] ^
          table[3][word >> 32 & 255] ^ table[2][word >> 40 & 255] ^ table[1][word >> 48 & 255] ^ table[0][word >> 56];
  }
  while (size-- > 0) crc = crc >> 8 ^ table[0][(crc ^ *at++) & 255];
  return ~crc;
}
