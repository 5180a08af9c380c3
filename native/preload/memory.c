/*
 * The bytes of the mappings. What the program shares with others is copied before it runs on (`before_go`), the rest after, from the copy.
 * Only pages that are there are looked at, only pages that are not all zeros are written; the others stay holes of the image.
 */
#include "writer.h"

/* linux/fs.h of Linux 6.7; older kernels give the same by reading /proc/self/pagemap, eight bytes a page. */
struct page_region {
  uint64_t start, end, categories;
};
struct scan_arguments {
  uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages, inverted, mask, any_of, returned;
};
#define PAGEMAP_SCAN 0xc0606610ul
#define PAGE_IS_FILE (1u << 2)
#define PAGE_IS_PRESENT (1u << 3)
#define PAGE_IS_SWAPPED (1u << 4)
#define PAGE_IS_ZERO (1u << 5)
#define PAGE_IS_GUARD (1u << 8) /* Linux 6.15; before, nothing tells */

#define REGIONS 512
struct page_walk {
  uint64_t next, end;
  uint32_t count, index;
  bool old_kernel;
  struct page_region regions[REGIONS];
};

/* Categories of one entry of /proc/pid/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
static uint32_t categories_of(uint64_t entry) {
  return (entry >> 63 & 1 ? PAGE_IS_PRESENT : 0) | (entry >> 62 & 1 ? PAGE_IS_SWAPPED : 0) | (entry >> 61 & 1 ? PAGE_IS_FILE : 0);
}

static void fill_from_pagemap(const struct writer *writer, struct page_walk *walk) {
  uint64_t entries[REGIONS];
  while (walk->count == 0 && walk->next < walk->end) {
    uint64_t pages = (walk->end - walk->next) / PAGE;
    if (pages > REGIONS) pages = REGIONS;
    const long got = call(pread64, writer->pagemap, entries, pages * 8, walk->next / PAGE * 8);
    if (got <= 0) {
      walk->next = walk->end;
      return;
    }
    for (long i = 0; i < got / 8; i++, walk->next += PAGE) {
      const uint32_t categories = categories_of(entries[i]);
      struct page_region *last = &walk->regions[walk->count - 1];
      if (!(categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED))) continue;
      if (walk->count > 0 && last->end == walk->next && last->categories == categories) last->end += PAGE;
      else walk->regions[walk->count++] = (struct page_region){walk->next, walk->next + PAGE, categories};
    }
  }
}

/* The next run of pages that are there, or 0. */
static const struct page_region *next_region(const struct writer *writer, struct page_walk *walk) {
  if (walk->index < walk->count) return &walk->regions[walk->index++];
  walk->index = walk->count = 0;
  while (walk->count == 0 && walk->next < walk->end) {
    struct scan_arguments scan = {
      .size = sizeof scan, .start = walk->next, .end = walk->end, .regions = (uint64_t)walk->regions, .region_count = REGIONS,
      .any_of = PAGE_IS_PRESENT | PAGE_IS_SWAPPED, .returned = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_FILE | PAGE_IS_ZERO,
    };
    const long got = walk->old_kernel ? -1 : call(ioctl, writer->pagemap, PAGEMAP_SCAN, &scan);
    if (failed(got)) {
      walk->old_kernel = true;
      fill_from_pagemap(writer, walk);
      break;
    }
    walk->count = got;
    walk->next = scan.walk_end > walk->next ? scan.walk_end : walk->end;
  }
  return walk->count == 0 ? 0 : &walk->regions[walk->index++];
}

static bool is_zero_page(const void *page) {
  const uint64_t *word = page;
  for (unsigned i = 0; i < PAGE / 8; i += 64) {
    uint64_t any = 0;
    for (unsigned k = 0; k < 64; k++) any |= word[i + k];
    if (any != 0) return false;
  }
  return true;
}

/* Writes the pages of `bytes` that are not all zeros; `bytes` are what lies at `address` of the mapping. */
static void write_pages(struct writer *writer, struct note_mapping *mapping, const unsigned char *bytes, uint64_t address, uint64_t size) {
  for (uint64_t at = 0; at < size;) {
    while (at < size && is_zero_page(bytes + at)) at += PAGE;
    uint64_t end = at;
    while (end < size && !is_zero_page(bytes + end)) end += PAGE;
    if (end == at) continue;
    mapping->checksum = crc32(mapping->checksum, bytes + at, end - at);
    mapping->stored_pages += (end - at) / PAGE;
    write_at(writer, bytes + at, end - at, mapping->content_offset + (address + at - mapping->start));
    at = end;
  }
}

/* Through /proc/PID/mem, which also reads what the program may not, and fails where there is nothing instead of raising a signal. */
static void write_through(struct writer *writer, int memory, struct note_mapping *mapping, uint64_t start, uint64_t end) {
  for (uint64_t at = start; at < end;) {
    const uint64_t size = end - at < BOUNCE_SIZE ? end - at : BOUNCE_SIZE;
    const long got = call(pread64, memory, writer->bounce, size, at);
    const uint64_t pages = failed(got) ? 0 : (uint64_t)got / PAGE * PAGE;
    write_pages(writer, mapping, writer->bounce, at, pages);
    at += pages == 0 ? PAGE : pages;
  }
}

static void write_directly(struct writer *writer, struct note_mapping *mapping, uint64_t start, uint64_t end) {
  for (uint64_t at = start; at < end; at += BOUNCE_SIZE) {
    const uint64_t size = end - at < BOUNCE_SIZE ? end - at : BOUNCE_SIZE;
    write_pages(writer, mapping, (const unsigned char *)at, at, size);
  }
}

static void write_anonymous(struct writer *writer, struct note_mapping *mapping) {
  struct page_walk walk = {.next = mapping->start, .end = mapping->end};
  for (const struct page_region *run; (run = next_region(writer, &walk)) != 0;) {
    if (run->categories & PAGE_IS_ZERO) continue;
    /* What is not present now may be anything the kernel keeps in its place; and what cannot be read is read for us. */
    if (run->categories & PAGE_IS_PRESENT && mapping->protection & PROT_READ) write_directly(writer, mapping, run->start, run->end);
    else write_through(writer, writer->memory, mapping, run->start, run->end);
  }
}

static void write_private_file(struct writer *writer, struct note_mapping *mapping) {
  struct page_walk walk = {.next = mapping->start, .end = mapping->end};
  for (const struct page_region *run; (run = next_region(writer, &walk)) != 0;) {
    if (run->categories & PAGE_IS_FILE) continue;
    const struct list *list = &writer->lists[LIST_MODIFIED];
    struct note_modified *last = list->count > 0 ? record_at(list, list->count - 1) : 0;
    if (last != 0 && last->end == run->start) last->end = run->end;
    else *(struct note_modified *)add_record(writer, LIST_MODIFIED) = (struct note_modified){run->start, run->end};
  }
  write_through(writer, writer->memory, mapping, mapping->start, mapping->end);
}

/* Pages marked MADV_GUARD_INSTALL, as glibc's below its threads' stacks: they hold nothing, but must not be touched. */
static void note_guards(struct writer *writer, const struct note_mapping *mapping) {
  struct page_region regions[64];
  for (uint64_t next = mapping->start; next < mapping->end;) {
    struct scan_arguments scan = {
      .size = sizeof scan, .start = next, .end = mapping->end, .regions = (uint64_t)regions, .region_count = 64,
      .any_of = PAGE_IS_GUARD, .returned = PAGE_IS_GUARD,
    };
    const long count = call(ioctl, writer->pagemap, PAGEMAP_SCAN, &scan);
    if (failed(count)) return;
    for (long i = 0; i < count; i++) *(struct note_guard *)add_record(writer, LIST_GUARD) = (struct note_guard){regions[i].start, regions[i].end};
    next = scan.walk_end > next ? scan.walk_end : mapping->end;
  }
}

static const uint8_t *noted_content(const struct scratch *scratch, const struct note_mapping *mapping) {
  for (uint32_t i = 0; i < scratch->noted_memory_count; i++)
    if (scratch->noted_memory[i].start == mapping->start && scratch->noted_memory[i].end == mapping->end)
      return scratch->noted + scratch->noted_memory[i].content.start;
  return 0;
}

static void write_shared(struct writer *writer, struct note_mapping *mapping) {
  const uint8_t *noted = noted_content(writer->scratch, mapping);
  if (noted != 0) return write_pages(writer, mapping, noted, mapping->start, mapping->end - mapping->start);
  if (!writer->program_stands) ask_for_standing(writer);
  write_through(writer, writer->memory, mapping, mapping->start, mapping->end);
}

static void write_mapping(struct writer *writer, struct note_mapping *mapping) {
  const bool shared = mapping->flags & MAPPING_FLAG_SHARED;
  mapping->content_offset = writer->end;
  mapping->content_size = mapping->end - mapping->start;
  writer->end += mapping->content_size;
  if (mapping->advice & ADVICE_FLAG_DO_NOT_FORK) write_through(writer, writer->program_memory, mapping, mapping->start, mapping->end);
  else if (shared) write_shared(writer, mapping);
  else if (mapping->kind == MAPPING_KIND_VDSO) write_through(writer, writer->memory, mapping, mapping->start, mapping->end);
  else if (mapping->kind == MAPPING_KIND_FILE || mapping->kind == MAPPING_KIND_MEMFD) write_private_file(writer, mapping);
  else if (mapping->reserved == LAZILY_RESTORED) write_through(writer, writer->memory, mapping, mapping->start, mapping->end);
  else write_anonymous(writer, mapping);
  if (!shared && !(mapping->advice & ADVICE_FLAG_DO_NOT_FORK)) note_guards(writer, mapping);
  mapping->reserved = 0;
}

/* Whether the image holds the bytes at all: not those of the kernel, nor of a file that others see too. */
static bool has_content(const struct note_mapping *mapping) {
  if (mapping->kind == MAPPING_KIND_VVAR || mapping->kind == MAPPING_KIND_VSYSCALL) return false;
  return !(mapping->kind == MAPPING_KIND_FILE && mapping->flags & MAPPING_FLAG_SHARED && !(mapping->flags & MAPPING_FLAG_DELETED));
}

void write_mappings(struct writer *writer, bool before_go) {
  if (before_go) {
    writer->memory = call(openat, AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    writer->pagemap = call(openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    if (writer->memory < 0 || writer->pagemap < 0) fail(writer, "read its memory", writer->memory);
    if (writer->scratch->hole_count > 0) {
      writer->program_memory = call(openat, writer->scratch->process_fd, "mem", O_RDONLY | O_CLOEXEC, 0);
      if (writer->program_memory < 0) fail(writer, "read its memory marked MADV_DONTFORK", writer->program_memory);
    }
  }
  struct list *list = &writer->lists[LIST_MAPPING];
  for (uint32_t i = 0; i < list->count; i++) {
    struct note_mapping *mapping = record_at(list, i);
    const bool early = mapping->flags & MAPPING_FLAG_SHARED || mapping->advice & ADVICE_FLAG_DO_NOT_FORK;
    if (early == before_go && has_content(mapping) && mapping->content_size == 0) write_mapping(writer, mapping);
  }
}
