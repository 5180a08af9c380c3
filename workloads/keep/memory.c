/* Mappings: kinds, permissions, content, advice, sharing, the heap's end. */
#include "keep.h"

#define PAGES 16
#define SIZE (PAGES * 4096ul)

struct part {
  const char *name;
  unsigned char *at;
  size_t size;
  bool readable;
};
static struct part parts[32];
static int count;

static unsigned char pattern(const unsigned char *address) {
  const uint64_t page = (uintptr_t)address / 4096;
  return page % 5 == 0 ? 0 : (unsigned char)(page * 37 + (uintptr_t)address * 11);
}

static unsigned char *add(const char *name, void *at, size_t size, bool fill) {
  if (at == MAP_FAILED) {
    printf("cannot map %s: %s\n", name, strerror(errno));
    exit(1);
  }
  parts[count++] = (struct part){name, at, size, fill};
  for (size_t i = 0; fill && i < size; i++) ((unsigned char *)at)[i] = pattern((unsigned char *)at + i);
  return at;
}

/* Whether the page cannot be read though its mapping allows it. */
static bool is_guarded(const unsigned char *page) {
  const int file = memfd_create("probe", MFD_CLOEXEC);
  const bool guarded = pwrite(file, page, 1, 0) < 0 && errno == EFAULT;
  close(file);
  return guarded;
}

/* Range, permissions and the marks that stick of every mapping of ours. */
static void describe(char *into, size_t size) {
  static const char *const marks[] = {" gd", " nr", " lo", " hg", " nh", " sr", " rr", " dd", " mg", " wf", " dc", " sh"};
  FILE *smaps = fopen("/proc/self/smaps", "r");
  char line[5000];
  bool ours = false;
  size_t used = 0;
  while (fgets(line, sizeof line, smaps) != 0) {
    unsigned long start, end;
    char permissions[8];
    if (line[0] < 'A' && sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3) {
      ours = false;
      for (int i = 0; i < count; i++)
        if ((uintptr_t)parts[i].at < end && (uintptr_t)parts[i].at + parts[i].size > start) ours = true;
      if (ours) used += snprintf(into + used, size - used, "%lx-%lx %s", start, end, permissions);
    } else if (ours && strncmp(line, "VmFlags:", 8) == 0) {
      for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(line, marks[i]) != 0) used += snprintf(into + used, size - used, "%s", marks[i]);
      used += snprintf(into + used, size - used, "\n");
    }
  }
  fclose(smaps);
}

int main(void) {
  const int private = MAP_PRIVATE | MAP_ANONYMOUS;
  setvbuf(stdout, 0, _IONBF, 0);
  unsigned char *hidden = add("no access", mmap(0, SIZE, 3, private, -1, 0), SIZE, true);
  mprotect(hidden, SIZE, PROT_NONE);
  parts[count - 1].readable = false;
  unsigned char *constant = add("read only", mmap(0, SIZE, 3, private, -1, 0), SIZE, true);
  mprotect(constant, SIZE, PROT_READ);
  mprotect(constant + 4096, 4096, PROT_READ | PROT_EXEC);
  add("huge pages", mmap(0, 4 << 20, 3, private, -1, 0), 4 << 20, true);
  madvise(parts[count - 1].at, 4 << 20, MADV_HUGEPAGE);
  madvise(add("no huge pages", mmap(0, SIZE, 3, private, -1, 0), SIZE, true), SIZE, MADV_NOHUGEPAGE);
  madvise(add("not for forks", mmap(0, SIZE, 3, private, -1, 0), SIZE, true), SIZE, MADV_DONTFORK);
  madvise(add("not for dumps", mmap(0, SIZE, 3, private, -1, 0), SIZE, true), SIZE, MADV_DONTDUMP);
  madvise(add("random", mmap(0, SIZE, 3, private, -1, 0), SIZE, true), SIZE, MADV_RANDOM);
  add("reserved", mmap(0, 1ul << 36, PROT_NONE, private | MAP_NORESERVE, -1, 0), 1ul << 36, false);
  add("no reserve", mmap(0, SIZE, 3, private | MAP_NORESERVE, -1, 0), SIZE, true);
  mlock(add("locked", mmap(0, SIZE, 3, private, -1, 0), SIZE, true), SIZE);
  unsigned char *guarded = mmap(0, SIZE, 3, private, -1, 0);
  for (size_t i = 0; i < SIZE; i++) guarded[i] = 1;
  madvise(guarded + 4096, 2 * 4096, 102 /* MADV_GUARD_INSTALL */);
  const bool has_guards = is_guarded(guarded + 4096); /* Linux 6.13 */
  add("untouched", mmap(0, SIZE, 3, private, -1, 0), SIZE, false);

  unsigned char *down = mmap((void *)0x40000000, SIZE, 3, private | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
  add("grows down", down, SIZE, true);

  unsigned char *shared = add("shared", mmap(0, SIZE, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0), SIZE, true);
  unsigned char *twin = add("shared twice", mremap(shared, 0, SIZE, MREMAP_MAYMOVE), SIZE, false);

  const int memory = memfd_create("keep", MFD_ALLOW_SEALING);
  check(ftruncate(memory, SIZE) == 0, "ftruncate");
  unsigned char *named = add("memfd", mmap(0, SIZE, 3, MAP_SHARED, memory, 0), SIZE, true);
  unsigned char *half = add("memfd, second half", mmap(0, SIZE / 2, 3, MAP_SHARED, memory, SIZE / 2), SIZE / 2, false);
  const int unnamed = memfd_create("closed", 0);
  check(ftruncate(unnamed, SIZE) == 0, "ftruncate");
  add("memfd without descriptor", mmap(0, SIZE, 3, MAP_SHARED, unnamed, 0), SIZE, true);
  close(unnamed);

  const int file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
  for (size_t i = 0; i < SIZE / 8; i++) check(write(file, &i, 8) == 8, "write");
  uint64_t *writable = mmap(0, SIZE, 3, MAP_PRIVATE, file, 0);
  add("private file", writable, SIZE, false);
  writable[1000] = 42;
  uint64_t *common = mmap(0, SIZE, 3, MAP_SHARED, file, 0);
  add("shared file", common, SIZE, false);
  close(file);

  const int gone = open("deleted", O_RDWR | O_CREAT | O_TRUNC, 0600);
  check(ftruncate(gone, SIZE) == 0, "ftruncate");
  add("deleted file", mmap(0, SIZE, 3, MAP_PRIVATE, gone, 0), SIZE, true);
  close(gone);
  unlink("deleted");

  unsigned char *heap = sbrk(100000);
  for (int i = 0; i < 100000; i++) heap[i] = pattern(heap + i);
  static char before[65536], after[65536];
  describe(before, sizeof before);
  void *const end = sbrk(0);
  wait_for_go();
  describe(after, sizeof after);
  check(strcmp(before, after) == 0, "mappings; before:\n%safter:\n%s", before, after);

  mprotect(hidden, SIZE, PROT_READ);
  parts[0].readable = true;
  for (int i = 0; i < count; i++)
    for (size_t k = 0; parts[i].readable && k < parts[i].size; k++)
      if (parts[i].at[k] != pattern(parts[i].at + k)) {
        check(false, "content of '%s' at %zu: %d", parts[i].name, k, parts[i].at[k]);
        break;
      }
  for (int i = 0; i < 100000; i++)
    if (heap[i] != pattern(heap + i)) {
      check(false, "heap at %d", i);
      break;
    }
  if (has_guards)
    for (int i = 0; i < PAGES; i++)
      check(is_guarded(guarded + i * 4096ul) == (i == 1 || i == 2) && (i == 1 || i == 2 || guarded[i * 4096ul] == 1), "guarded page %d", i);
  check(sbrk(0) == end, "end of the heap");
  check(sbrk(4096) == end, "heap grows on");
  twin[5] = 99;
  check(shared[5] == 99, "shared twice is not one memory");
  half[7] = 98;
  check(named[SIZE / 2 + 7] == 98, "a memfd mapped twice is not one memory");
  unsigned char byte = 0;
  check(pread(memory, &byte, 1, SIZE / 2 + 7) == 1 && byte == 98, "a memfd and its mapping are not one memory");
  check(writable[1000] == 42 && writable[1001] == 1001, "private file");
  check(common[1000] == 1000, "shared file");
  common[3] = 77;
  const int again = open("mapped", O_RDONLY);
  uint64_t word = 0;
  check(pread(again, &word, 8, 24) == 8 && word == 77, "shared file is not shared any more");
  return verdict();
}
