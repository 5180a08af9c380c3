/*
 * mmap and mremap for musl and the program: what nobody asked an address for comes from a window that exists on both
 * ISAs and under an emulator (portableWindow in src/toolchain/program.ts), so that nothing has to move later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096 };
static const uintptr_t START = 0x100000000000, END = 0x400000000000;
static volatile uintptr_t next = START;

/* Addresses are given out in order, a page apart; at the end from the start again. */
static uintptr_t take(size_t length) {
  size_t step = (length + 2 * PAGE - 1) & ~(size_t)(PAGE - 1);
  for (;;) {
    uintptr_t at = next;
    uintptr_t begin = at + step > END ? START : at;
    if (__atomic_compare_exchange_n(&next, &at, begin + step, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return begin;
  }
}

static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *__mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (address != NULL || (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || length == 0 || length > END - START)
    return map(address, length, protection, flags, fd, offset);
  for (int tries = 0; tries < 64; tries++) {
    uintptr_t wanted = take(length);
    void *got = map((void *)wanted, length, protection, flags | MAP_FIXED_NOREPLACE, fd, offset);
    if ((uintptr_t)got == wanted || (got == MAP_FAILED && errno != EEXIST)) return got;
    if (got != MAP_FAILED) munmap(got, length); /* a kernel before 4.17 takes it for a hint */
  }
  errno = ENOMEM;
  return MAP_FAILED;
}
void *mmap(void *, size_t, int, int, int, off_t) __attribute__((weak, alias("__mmap")));

void *__mremap(void *old, size_t old_size, size_t new_size, int flags, ...) {
  if (flags & MREMAP_FIXED) {
    __builtin_va_list list;
    __builtin_va_start(list, flags);
    void *target = __builtin_va_arg(list, void *);
    __builtin_va_end(list);
    return (void *)syscall(SYS_mremap, old, old_size, new_size, flags, target);
  }
  void *got = (void *)syscall(SYS_mremap, old, old_size, new_size, flags & ~MREMAP_MAYMOVE);
  if (got != MAP_FAILED || !(flags & MREMAP_MAYMOVE) || errno != ENOMEM) return got;
  return (void *)syscall(SYS_mremap, old, old_size, new_size, flags | MREMAP_FIXED, take(new_size));
}
void *mremap(void *, size_t, size_t, int, ...) __attribute__((weak, alias("__mremap")));
