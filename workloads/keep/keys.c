/* What each thread may do with memory of which protection key (PKRU). Where the processor or kernel has no keys it says so and ends with 77. */
#include "keep.h"
#include <pthread.h>

static volatile bool over;
static int key;

static uint32_t rights(void) {
  uint32_t low, high;
  __asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static void set_rights(uint32_t value) {
  __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static void *spin(void *unused) { /* makes no system call */
  const uint32_t own = rights() ^ 1u << 2 * key;
  set_rights(own);
  while (!over) check(rights() == own, "PKRU of a computing thread: %x, was %x", rights(), own);
  return unused;
}

int main(void) {
  pthread_t thread;
  setvbuf(stdout, 0, _IONBF, 0);
  key = syscall(SYS_pkey_alloc, 0, 2 /* PKEY_DISABLE_WRITE */);
  if (key < 0) {
    puts("no protection keys");
    return 77;
  }
  pthread_create(&thread, 0, spin, 0);
  const uint32_t own = rights();
  wait_for_go();
  check(rights() == own, "PKRU: %x, was %x", rights(), own);
  over = true;
  pthread_join(thread, 0);
  return verdict();
}
