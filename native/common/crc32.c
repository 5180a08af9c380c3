/* The CRC-32 of zlib and Ethernet (polynomial 0xedb88320): by what the processor has for it, else by tables, eight bytes a step. */
#include "base.h"
#if defined(__x86_64__)
#include "arch/x86-64-crc32.h"
#else
#define ARCH_CRC32_BLOCK 64
static bool arch_has_crc32(void) {
  return false;
}
static void arch_crc32_fold(uint32_t crc, const unsigned char *bytes, size_t blocks, unsigned char *folded) {
  (void)crc, (void)bytes, (void)blocks, (void)folded;
}
#endif

static uint32_t table[8][256];
static bool folds;

static void prepare(void) {
  folds = arch_has_crc32();
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t value = i;
    for (int k = 0; k < 8; k++) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
    table[0][i] = value;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int k = 1; k < 8; k++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

/* Of inverted crcs. */
static uint32_t by_tables(uint32_t crc, const unsigned char *at, size_t size) {
  for (; size >= 8; size -= 8, at += 8) {
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    word ^= crc;
    crc = table[7][word & 255] ^ table[6][word >> 8 & 255] ^ table[5][word >> 16 & 255] ^ table[4][word >> 24 & 255] ^
          table[3][word >> 32 & 255] ^ table[2][word >> 40 & 255] ^ table[1][word >> 48 & 255] ^ table[0][word >> 56];
  }
  while (size-- > 0) crc = crc >> 8 ^ table[0][(crc ^ *at++) & 255];
  return crc;
}

/** Of more bytes after those that `crc` is of; 0 before the first. */
uint32_t crc32(uint32_t crc, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  if (table[0][1] == 0) prepare();
  crc = ~crc;
  const size_t blocks = size / ARCH_CRC32_BLOCK;
  if (folds && blocks > 0) {
    unsigned char folded[16];
    arch_crc32_fold(crc, at, blocks, folded);
    crc = by_tables(0, folded, sizeof folded);
    at += blocks * ARCH_CRC32_BLOCK, size -= blocks * ARCH_CRC32_BLOCK;
  }
  return ~by_tables(crc, at, size);
}
