/*
 * The vDSO belongs to the kernel, not to the image. When this kernel's is the one that the image was made with, it goes to the old address.
 * Otherwise (another kernel) the old code stays as memory of the program, with a jump at the entry of each function to the same function of this
 * kernel's own, which goes where there is room: addresses that the C library has remembered still work. A thread that was stopped within the old
 * code goes on in a second copy of it, without jumps. Where either looks for the kernel's data there are zeros. They say that no clock can be read
 * without the kernel, so it asks the kernel, as for a clock source that the vDSO does not know. (Only time(2) and the coarse clocks do not look:
 * stopped within their few instructions, they give 0.)
 */
#include "restore.h"
#include <linux/elf.h>

static bool same;
static uint64_t own_start, own_end, own_data;

static void find_own(void) {
  LINES(lines, 4096);
  own_start = own_data = 0;
  if (!open_lines(&lines, AT_FDCWD, "/proc/self/maps")) return;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    const uint64_t start = take_number(&at, 16);
    at++;
    const uint64_t end = take_number(&at, 16);
    if (find_text(line, "[vvar") != 0 && own_data == 0) own_data = start;
    if (find_text(line, "[vdso]") != 0) own_start = start, own_end = end;
  }
}

static bool find_content(struct note_mapping *mapping) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    read_record(NOTE_TYPE_MAPPING, i, mapping, sizeof *mapping);
    if (mapping->kind == MAPPING_KIND_VDSO) return mapping->content_size > 0;
  }
  return false;
}

/* Before anything is unmapped: is this kernel's vDSO the one the program knows? */
void examine_vdso(void) {
  struct note_mapping old;
  find_own();
  if (own_start == 0 || !find_content(&old) || settings.foreign_vdso) return;
  const uint64_t size = old.end - old.start;
  if (size != own_end - own_start || old.start - image.process.vvar_start != own_start - own_data) return;
  unsigned char *code = arena(size);
  read_image(code, size, old.content_offset);
  same = same_bytes(code, (const void *)own_start, size);
}

/* Where the kernel cannot be asked for another vDSO, our own is moved: out of the way, and later to its place, part by part. */
static struct { uint64_t start, size; } parts[8];
static unsigned part_count;

void park_vdso(void) {
  LINES(lines, 4096);
  if (ARCH_MAPS_VDSO || own_start == 0 || !open_lines(&lines, AT_FDCWD, "/proc/self/maps")) return;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    if (find_text(line, "[vvar") == 0 && find_text(line, "[vdso]") == 0) continue;
    parts[part_count].start = take_number(&at, 16);
    at++;
    parts[part_count].size = take_number(&at, 16) - parts[part_count].start;
    part_count++;
  }
  const uint64_t first = parts[0].start;
  for (unsigned i = 0; i < part_count; i++) {
    const uint64_t at = VDSO_PARK + (parts[i].start - first);
    call(mremap, parts[i].start, parts[i].size, parts[i].size, 3 /* MREMAP_MAYMOVE | MREMAP_FIXED */, at);
    parts[i].start = at;
  }
}

/* At `address`, or where there is room. */
static long place_vdso(uint64_t address) {
  if (ARCH_MAPS_VDSO || part_count == 0) return arch_map_vdso(address);
  const uint64_t size = parts[part_count - 1].start + parts[part_count - 1].size - VDSO_PARK;
  if (address == 0) address = call(mmap, 0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long result = address;
  for (unsigned i = 0; i < part_count && !failed(result); i++)
    result = call(mremap, parts[i].start, parts[i].size, parts[i].size, 3, address + (parts[i].start - VDSO_PARK));
  return result;
}

/* When nothing else is mapped: it gets the address that it is told. */
void map_vdso_first(void) {
  if (!same) return;
  const long result = place_vdso(image.process.vvar_start != 0 ? image.process.vvar_start : image.process.vdso_start);
  find_own();
  if (failed(result) || own_start != image.process.vdso_start) die_at(EXIT_HOST, "cannot map the vDSO at its old address", image.process.vdso_start, result);
}

struct symbols {
  const Elf64_Sym *table;
  const char *names;
  uint64_t bias, count;
};

/* The dynamic symbols of a vDSO at `base`, or in a copy of it. */
static bool find_symbols(uint64_t base, uint64_t size, struct symbols *symbols) {
  const Elf64_Ehdr *elf = (const Elf64_Ehdr *)base;
  const Elf64_Phdr *headers = (const Elf64_Phdr *)(base + elf->e_phoff);
  const Elf64_Dyn *dynamic = 0;
  const uint32_t *hash = 0, *gnu_hash = 0;
  uint64_t first = 0;
  symbols->table = 0, symbols->names = 0, symbols->count = 0;
  if (!same_bytes(elf->e_ident, "\177ELF\2", 5) || elf->e_phoff + (uint64_t)elf->e_phnum * sizeof *headers > size) return false;
  for (int i = 0; i < elf->e_phnum; i++) {
    if (headers[i].p_type == PT_DYNAMIC && headers[i].p_offset < size) dynamic = (const Elf64_Dyn *)(base + headers[i].p_offset);
    if (headers[i].p_type == PT_LOAD) first = headers[i].p_vaddr;
  }
  if (dynamic == 0) return false;
  symbols->bias = base - first;
  for (; dynamic->d_tag != 0 && (uint64_t)dynamic < base + size; dynamic++) {
    const uint64_t at = dynamic->d_un.d_ptr - first;
    if (at >= size) continue;
    if (dynamic->d_tag == 6 /* DT_SYMTAB */) symbols->table = (const Elf64_Sym *)(base + at);
    if (dynamic->d_tag == 5 /* DT_STRTAB */) symbols->names = (const char *)(base + at);
    if (dynamic->d_tag == 4 /* DT_HASH */) hash = (const uint32_t *)(base + at);
    if (dynamic->d_tag == 0x6ffffef5 /* DT_GNU_HASH */) gnu_hash = (const uint32_t *)(base + at);
  }
  if (symbols->table == 0 || symbols->names == 0) return false;
  if (hash != 0) symbols->count = hash[1];
  else if (gnu_hash != 0) symbols->count = ((uint64_t)symbols->names - (uint64_t)symbols->table) / sizeof *symbols->table;
  if ((uint64_t)symbols->table + symbols->count * sizeof *symbols->table > base + size) return false;
  return symbols->count > 0;
}

/* Where the old code finds its data; that of the old code itself when there is none. */
static uint64_t start_of_data(const struct note_mapping *old) {
  const uint64_t data = image.process.vvar_start;
  return data == 0 || data > old->start || old->start - data > 1ul << 20 ? old->start : data;
}

/* Zeros, and the old code behind them. */
static void map_old(const struct note_mapping *old, uint64_t at) {
  const uint64_t size = old->end - start_of_data(old), code = at + (old->start - start_of_data(old));
  const long result = call(mmap, at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (result != (long)at) die_at(EXIT_HOST, "cannot map the old vDSO", at, result);
  read_image((void *)code, old->end - old->start, old->content_offset);
}

static void let_threads_leave(const struct note_mapping *old) {
  const uint64_t data = start_of_data(old);
  uint64_t copy = 0;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_THREAD); i++) {
    struct note_thread thread;
    read_record(NOTE_TYPE_THREAD, i, &thread, sizeof thread);
    struct ucontext *frame = (struct ucontext *)thread.frame;
    if (arch_pc(frame) < old->start || arch_pc(frame) >= old->end) continue;
    if (copy == 0) {
      copy = call(mmap, 0, old->end - data, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* finds room */
      if (failed(copy)) die(EXIT_HOST, "cannot map the old vDSO a second time", 0, copy);
      call(munmap, copy, old->end - data);
      map_old(old, copy);
      call(mprotect, copy + (old->start - data), old->end - old->start, PROT_READ | PROT_EXEC);
    }
    arch_set_pc(frame, arch_pc(frame) - data + copy);
  }
}

/* When all else is mapped. */
void map_vdso_last(void) {
  struct note_mapping old;
  if (same || !find_content(&old)) return;
  map_old(&old, start_of_data(&old)); /* first, as the kernel's own may go anywhere */
  const long result = place_vdso(0);
  find_own();
  if (failed(result) || own_start == 0) die(EXIT_HOST, "cannot map the vDSO", 0, result);
  struct symbols theirs, ours;
  if (!find_symbols(old.start, old.end - old.start, &theirs) || !find_symbols(own_start, own_end - own_start, &ours))
    die_at(EXIT_UNREADABLE, "the image's vDSO cannot be understood", old.start, 0);
  for (uint64_t i = 1; i < theirs.count; i++)
    for (uint64_t k = 1; k < ours.count; k++) {
      if ((theirs.table[i].st_info & 15) != 2 /* STT_FUNC */ || !same_text(theirs.names + theirs.table[i].st_name, ours.names + ours.table[k].st_name)) continue;
      const uint64_t entry = theirs.bias + theirs.table[i].st_value;
      if (entry >= old.start && entry + ARCH_JUMP_SIZE <= old.end) arch_write_jump((unsigned char *)entry, ours.bias + ours.table[k].st_value);
      break;
    }
  call(mprotect, old.start, old.end - old.start, PROT_READ | PROT_EXEC);
  let_threads_leave(&old);
}
