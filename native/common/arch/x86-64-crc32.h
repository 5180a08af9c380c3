/*
 * CRC-32 by carry-less multiplication: 64 bytes a step are folded onto the 64 after them, which leaves the remainder as it was.
 *
 *   message  │ 16 │ 16 │ 16 │ 16 │ 16 │ 16 │ 16 │ 16 │ …          each lane: low half · x^(512+32), high half · x^(512-32),
 *              └────┴────┴────┴───►└────┴────┴────┴───►              both modulo the polynomial, exclusive-or the lane ahead
 *
 * Source of the constants: V. Gopal and others, Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, Intel 2009, for 0xedb88320 reflected.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARCH_CRC32_BLOCK 64

static bool arch_has_crc32(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return c >> 1 & 1; /* PCLMULQDQ */
}

typedef long long lane __attribute__((vector_size(16), aligned(1), may_alias));

__attribute__((target("pclmul"))) static lane fold(lane from, lane ahead, lane by) {
  return ahead ^ __builtin_ia32_pclmulqdq128(from, by, 0x00) ^ __builtin_ia32_pclmulqdq128(from, by, 0x11);
}

/**
 * Folds `blocks` blocks (at least one) with the inverted crc before them into 16 bytes that have the same remainder,
 * when the crc before them is taken to be zero.
 */
__attribute__((target("pclmul"))) static void arch_crc32_fold(uint32_t crc, const unsigned char *bytes, size_t blocks, unsigned char *folded) {
  const lane by_block = {0x154442bd4, 0x1c6e41596}, by_lane = {0x1751997d0, 0xccaa009e}, *at = (const lane *)bytes;
  lane lanes[4] = {at[0] ^ (lane){crc, 0}, at[1], at[2], at[3]};
  for (at += 4; --blocks > 0; at += 4)
    for (int i = 0; i < 4; i++) lanes[i] = fold(lanes[i], at[i], by_block);
  for (int i = 1; i < 4; i++) lanes[i] = fold(lanes[i - 1], lanes[i], by_lane);
  *(lane *)folded = lanes[3];
}
