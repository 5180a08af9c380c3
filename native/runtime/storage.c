/*
 * Thread-local storage of libc and of this runtime (that of the program: start.c), laid out so that a thread can change its ISA
 * where it is: musl puts the storage below the thread
 * record on x86-64 and above it on aarch64; here both sides have room, and the record has one address for both.
 *
 *   block: [ vector: 2 words │ room for storage │ struct record, 200 bytes │ 16 bytes │ room for storage ]
 *                             x86-64: storage ends at the record             aarch64: storage begins here
 *
 * Takes the place of musl 1.2's own __init_tls.o (all of its names): the start-up and pthread_create call these.
 */
#include "runtime.h"
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What musl keeps about a thread-local segment, and the head of its global state (src/internal/libc.h). */
struct module {
  struct module *next;
  void *image;
  size_t length, size, align, offset;
};
struct global {
  char can_do_threads, threaded, secure;
  volatile signed char need_locks;
  int threads_minus_1;
  size_t *auxv;
  struct module *modules;
  size_t tls_size, tls_align, tls_count, page_size;
  struct {
    const void *categories[6];
  } locale;
};
extern struct global __libc;
extern uintptr_t __sysinfo;
int __set_thread_area(void *);

struct record {
  struct record *self;
#if defined(__x86_64__)
  uintptr_t *vector;
#endif
  struct record *previous, *next;
  uintptr_t sysinfo;
#if defined(__x86_64__)
  uintptr_t canary;
#endif
  int tid, error;
  volatile int detach_state;
  char between[76];
  struct {
    volatile void *volatile head;
    long offset;
    volatile void *volatile pending;
  } robust_list;
  int host_error;
  volatile int timer;
  const void *locale;
  char rest[24];
#if defined(__aarch64__)
  uintptr_t canary;
  uintptr_t *vector;
#endif
};
_Static_assert(sizeof(struct record) == 200, "struct pthread of musl 1.2");
#if defined(__x86_64__)
_Static_assert(offsetof(struct record, tid) == 48 && offsetof(struct record, robust_list) == 136 && offsetof(struct record, locale) == 168, "musl 1.2");
#else
_Static_assert(offsetof(struct record, tid) == 32 && offsetof(struct record, robust_list) == 120 && offsetof(struct record, locale) == 152, "musl 1.2");
#endif

enum { JOINABLE = 2, ABOVE = 16, ALIGN = 64 };
static struct module program;
volatile int __thread_list_lock;

int __imago_other_threads(void) { return __libc.threads_minus_1; }

static size_t up(size_t value, size_t align) { return (value + align - 1) & ~(align - 1); }

void *__copy_tls(unsigned char *block) {
  size_t room = up(program.size, ALIGN) + ALIGN;
  uintptr_t *vector = (uintptr_t *)up((uintptr_t)block, sizeof(uintptr_t));
  struct record *record = (struct record *)up((uintptr_t)block + 2 * sizeof *vector + room, ALIGN);
#if defined(__x86_64__)
  unsigned char *storage = (unsigned char *)record - program.offset;
#else
  unsigned char *storage = (unsigned char *)record + sizeof *record + program.offset;
#endif
  vector[0] = __libc.tls_count;
  vector[1] = (uintptr_t)storage;
  record->vector = vector;
  for (size_t i = 0; i < program.length; i++) storage[i] = ((unsigned char *)program.image)[i];
  return record;
}

int __init_tp(void *thread) {
  struct record *record = thread;
  record->self = record;
#if defined(__x86_64__)
  int failed = __set_thread_area(record);
#else
  int failed = __set_thread_area((char *)record + sizeof *record);
#endif
  if (failed < 0) return -1;
  if (failed == 0) __libc.can_do_threads = 1;
  record->detach_state = JOINABLE;
  record->tid = (int)syscall(SYS_set_tid_address, &__thread_list_lock);
  record->locale = &__libc.locale;
  record->robust_list.head = &record->robust_list.head;
  record->sysinfo = __sysinfo;
  record->next = record->previous = record;
  return 0;
}

/* `auxiliary` is indexed by AT_…, not the kernel's list of pairs. */
void __init_tls(size_t *auxiliary) {
  const unsigned char *headers = (unsigned char *)auxiliary[AT_PHDR];
  size_t count = auxiliary[AT_PHNUM], entry = auxiliary[AT_PHENT];
  program.align = 1;
  for (size_t i = 0; i < count; i++) {
    const Elf64_Phdr *header = (const Elf64_Phdr *)(headers + i * entry);
    if (header->p_type != PT_TLS) continue;
    program.image = (void *)header->p_vaddr;
    program.length = header->p_filesz;
    program.size = header->p_memsz;
    program.align = header->p_align;
    __libc.tls_count = 1;
    __libc.modules = &program;
  }
#if defined(__x86_64__)
  program.offset = program.size = up(program.size, program.align);
#else
  program.offset = ABOVE;
#endif
  size_t room = up(program.size, ALIGN) + ALIGN;
  __libc.tls_align = ALIGN;
  __libc.tls_size = up(2 * sizeof(uintptr_t) + room + ALIGN + sizeof(struct record) + ABOVE + room, ALIGN);
  /* Not mmap(): errno is in the storage that does not exist yet. */
  static unsigned char first[16384] __attribute__((aligned(64)));
  if (__libc.tls_size > sizeof first || __init_tp(__copy_tls(first)) < 0) __builtin_trap();
  __imago_enter_first_thread(); /* before the program's constructors run */
}
