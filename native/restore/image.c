/* Reads an image and believes nothing: the seal and its checksums, every bound, every address, before anything is given up. */
#include "restore.h"
#include <linux/elf.h>

struct image image;

static __attribute__((noreturn)) void unreadable(const char *what) {
  die(EXIT_UNREADABLE, what, image.path, 0);
}

void read_image(void *into, uint64_t size, uint64_t offset) {
  unsigned char *to = into;
  while (size > 0) {
    const long got = call(pread64, image.fd, to, size, offset);
    if (got == ERROR_INTERRUPTED) continue;
    if (failed(got)) die(EXIT_UNREADABLE, "cannot read the image", image.path, got);
    if (got == 0) unreadable("truncated image: it ends before the data it should hold");
    to += got, offset += got, size -= got;
  }
}

uint32_t record_count(uint32_t type) {
  return image.tables[type - NOTE_TYPE_IMAGE].count;
}

void read_record(uint32_t type, uint32_t index, void *into, size_t size) {
  const struct table *table = &image.tables[type - NOTE_TYPE_IMAGE];
  unsigned char *to = into;
  for (size_t i = 0; i < size; i++) to[i] = i < table->record_size ? table->records[(size_t)index * table->record_size + i] : 0;
}

static void take_note(const char *name, uint32_t name_size, uint32_t type, const unsigned char *bytes, uint32_t size) {
  if (name_size == 5 && same_bytes(name, "CORE", 5) && type == 6) image.auxv = bytes, image.auxv_size = size & ~15u;
  if (name_size != sizeof NOTE_NAME || !same_bytes(name, NOTE_NAME, sizeof NOTE_NAME)) return;
  if (type < NOTE_TYPE_IMAGE || type >= NOTE_TYPE_IMAGE + TABLES) return;
  const struct note_header *header = (const struct note_header *)bytes;
  if (size < sizeof *header || header->record_size == 0 ||
      sizeof *header + (uint64_t)header->record_size * header->record_count + header->strings_size > size)
    unreadable("a private note is longer than the image says");
  image.tables[type - NOTE_TYPE_IMAGE] = (struct table){
    .records = bytes + sizeof *header,
    .strings = (const char *)bytes + sizeof *header + (uint64_t)header->record_size * header->record_count,
    .record_size = header->record_size, .count = header->record_count, .strings_size = header->strings_size,
  };
}

/* Walks over all notes; returns the offset of the last one, the seal. */
static uint64_t take_notes(const unsigned char *notes, uint64_t size) {
  uint64_t last = 0;
  for (uint64_t at = 0; at < size;) {
    if (size - at < sizeof(Elf64_Nhdr)) unreadable("a note is cut short");
    const Elf64_Nhdr *header = (const Elf64_Nhdr *)(notes + at);
    const uint64_t name = at + sizeof *header, bytes = name + round_up(header->n_namesz, 4), end = bytes + round_up(header->n_descsz, 4);
    if (end > size) unreadable("a note is cut short");
    take_note((const char *)notes + name, header->n_namesz, header->n_type, notes + bytes, header->n_descsz);
    last = at;
    at = end;
  }
  return last;
}

static void check_seal(const Elf64_Ehdr *elf, uint64_t headers_size, uint64_t count, const unsigned char *notes, uint64_t notes_size, uint64_t before_seal) {
  struct note_seal seal;
  if (record_count(NOTE_TYPE_SEAL) != 1) unreadable("the image has no seal: it was never finished");
  read_record(NOTE_TYPE_SEAL, 0, &seal, sizeof seal);
  if (crc32(0, &seal, offsetof(struct note_seal, seal_checksum)) != seal.seal_checksum) unreadable("damaged image: the seal's checksum differs");
  if (seal.file_size > image.size) unreadable("damaged image: it is not as long as its seal says");
  if (seal.notes_offset != image.notes_offset || seal.notes_size != notes_size || seal.headers_offset != elf->e_phoff || seal.headers_count != count)
    unreadable("damaged image: its ELF header and its seal disagree");
  if (crc32(0, elf, sizeof *elf) != seal.elf_checksum) unreadable("damaged image: the ELF header's checksum differs");
  if (crc32(0, notes, before_seal) != seal.notes_checksum) unreadable("damaged image: the notes' checksum differs");
  unsigned char *headers = arena(headers_size);
  read_image(headers, headers_size, elf->e_phoff);
  if (crc32(0, headers, headers_size) != seal.headers_checksum) unreadable("damaged image: the program headers' checksum differs");
}

static void check_mappings(void) {
  uint64_t previous = PAGE;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    struct note_mapping mapping;
    read_record(NOTE_TYPE_MAPPING, i, &mapping, sizeof mapping);
    if (mapping.kind == MAPPING_KIND_VSYSCALL) continue;
    if (mapping.kind > MAPPING_KIND_SHARED_ANONYMOUS) die_at(EXIT_UNREADABLE, "the image has a kind of mapping that is not known here", mapping.start, 0);
    if (mapping.start % PAGE != 0 || mapping.end % PAGE != 0 || mapping.start < previous || mapping.end <= mapping.start ||
        mapping.end > ARCH_ADDRESS_END || mapping.page_offset % PAGE != 0)
      die_at(EXIT_UNREADABLE, "the image has an impossible mapping", mapping.start, 0);
    if (mapping.start < RESTORER_END && mapping.end > RESTORER_START)
      die_at(EXIT_HOST, "the image needs the addresses of the restorer", mapping.start, 0);
    if (mapping.content_size != 0 &&
        (mapping.content_size != mapping.end - mapping.start || mapping.content_offset % PAGE != 0 || mapping.content_offset > image.size ||
         mapping.content_size > image.size - mapping.content_offset))
      die_at(EXIT_UNREADABLE, "the bytes of a mapping lie outside of the image", mapping.start, 0);
    previous = mapping.end;
  }
}

static const struct note_mapping *mapping_around(uint64_t start, uint64_t end) {
  static struct note_mapping mapping;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    read_record(NOTE_TYPE_MAPPING, i, &mapping, sizeof mapping);
    if (start >= mapping.start && end <= mapping.end) return &mapping;
  }
  return 0;
}

/* By address, each within one mapping of which the image has the other bytes. */
static void check_moved(void) {
  uint64_t previous = 0;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MOVED); i++) {
    struct note_moved run;
    read_record(NOTE_TYPE_MOVED, i, &run, sizeof run);
    const uint64_t size = run.end - run.start;
    if (run.start % PAGE != 0 || run.end % PAGE != 0 || run.start < previous || run.end <= run.start || run.content_offset > image.size ||
        size > image.size - run.content_offset)
      die_at(EXIT_UNREADABLE, "the image has an impossible run of moved pages", run.start, 0);
    const struct note_mapping *mapping = mapping_around(run.start, run.end);
    if (mapping == 0 || mapping->content_size == 0 || mapping->flags & MAPPING_FLAG_SHARED ||
        (mapping->kind != MAPPING_KIND_ANONYMOUS && mapping->kind != MAPPING_KIND_HEAP))
      die_at(EXIT_UNREADABLE, "moved pages do not lie in private memory", run.start, 0);
    previous = run.end;
  }
}

static bool lies_in_memory(uint64_t address, uint64_t size, uint32_t protection) {
  const struct note_mapping *mapping = address + size < address ? 0 : mapping_around(address, address + size);
  return mapping != 0 && (mapping->protection & protection) == protection && mapping->kind != MAPPING_KIND_VVAR && mapping->kind != MAPPING_KIND_VSYSCALL;
}

/* Within one mapping each: nothing of the restorer's own may be given up. */
static void check_guards(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_GUARD); i++) {
    struct note_guard guard;
    read_record(NOTE_TYPE_GUARD, i, &guard, sizeof guard);
    if (guard.start % PAGE != 0 || guard.end % PAGE != 0 || guard.end <= guard.start || !lies_in_memory(guard.start, guard.end - guard.start, 0))
      die_at(EXIT_UNREADABLE, "the image has an impossible guard page", guard.start, 0);
  }
}

static void check_threads(void) {
  const uint32_t count = record_count(NOTE_TYPE_THREAD);
  if (count == 0 || count > 1000000) unreadable("the image has no thread, or too many");
  for (uint32_t i = 0; i < count; i++) {
    struct note_thread thread;
    read_record(NOTE_TYPE_THREAD, i, &thread, sizeof thread);
    if (!lies_in_memory(thread.frame, sizeof(struct ucontext), PROT_READ | PROT_WRITE))
      die_at(EXIT_UNREADABLE, "the registers of a thread lie outside of its memory", thread.frame, 0);
    if (thread.cached_tid != 0 && !lies_in_memory(thread.cached_tid, 4, PROT_READ | PROT_WRITE))
      die_at(EXIT_UNREADABLE, "the thread id of a thread lies outside of its memory", thread.cached_tid, 0);
  }
  if (image.image.resume_block == 0 || image.image.resume_version != RESUME_VERSION ||
      !lies_in_memory(image.image.resume_block, sizeof(struct resume_block), PROT_READ | PROT_WRITE))
    unreadable("the image holds no libckpt.so of this version to resume it");
}

static void check_files(void) {
  uint32_t next = 0;
  const uint32_t descriptions = record_count(NOTE_TYPE_DESCRIPTION);
  if (descriptions > 1 << 20) unreadable("the image has too many open files");
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTOR); i++) {
    struct note_descriptor descriptor;
    read_record(NOTE_TYPE_DESCRIPTOR, i, &descriptor, sizeof descriptor);
    if (descriptor.fd < next || descriptor.fd > 1 << 28 || descriptor.description == 0 || descriptor.description > descriptions)
      unreadable("the image has an impossible file descriptor");
    next = descriptor.fd + 1;
  }
  for (uint32_t i = 0; i < descriptions; i++) {
    struct note_description description;
    read_record(NOTE_TYPE_DESCRIPTION, i, &description, sizeof description);
    if (description.id != i + 1 || (description.content_size != 0 && (description.content_offset > image.size ||
                                                                    description.content_size > image.size - description.content_offset)))
      unreadable("the content of an open file lies outside of the image");
  }
}

void load_image(const char *path) {
  image.path = path;
  image.fd = call(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (image.fd < 0) die(EXIT_UNREADABLE, "cannot open the image", path, image.fd);
  struct statx stat;
  if (failed(call(statx, image.fd, "", 0x1000, STATX_BASIC_STATS, &stat)) || (stat.stx_mode & 0170000) != 0100000) unreadable("not a regular file");
  image.size = stat.stx_size;
  image.inode = stat.stx_ino;
  image.device = (stat.stx_dev_minor & 0xff) | (stat.stx_dev_major & 0xffful) << 8 | (uint64_t)(stat.stx_dev_minor & ~0xffu) << 12;

  Elf64_Ehdr elf;
  if (image.size < 2 * PAGE) unreadable("not an image: it is too short");
  read_image(&elf, sizeof elf, 0);
  if (*(uint32_t *)&elf == 0xfd2fb528) unreadable("a compressed image: 'imago restore' unpacks it, or 'imago convert --to core'");
  if (*(uint32_t *)&elf == 0) unreadable("the image was never finished: it has no header");
  if (!same_bytes(elf.e_ident, "\177ELF\2\1\1", 7) || elf.e_type != ET_CORE || elf.e_phentsize != sizeof(Elf64_Phdr))
    unreadable("not an ELF core");
  if (elf.e_machine != ARCH_MACHINE) unreadable("the image is of a program for another processor architecture");
  uint64_t count = elf.e_phnum, headers_size = count * sizeof(Elf64_Phdr);
  if (count == 0xffff) {
    Elf64_Shdr section;
    if (elf.e_shnum != 1 || elf.e_shoff > image.size - sizeof section) unreadable("damaged image: the number of segments is missing");
    read_image(&section, sizeof section, elf.e_shoff);
    count = section.sh_info;
    headers_size = count * sizeof(Elf64_Phdr) + sizeof section;
  }
  if (count == 0 || elf.e_phoff > image.size || headers_size > image.size - elf.e_phoff) unreadable("damaged image: the program headers lie outside of it");
  Elf64_Phdr first;
  read_image(&first, sizeof first, elf.e_phoff);
  if (first.p_type != PT_NOTE || first.p_offset > image.size || first.p_filesz > image.size - first.p_offset)
    unreadable("damaged image: the notes lie outside of it");
  image.notes_offset = first.p_offset;
  unsigned char *notes = arena(first.p_filesz);
  read_image(notes, first.p_filesz, first.p_offset);
  const uint64_t before_seal = take_notes(notes, first.p_filesz);
  if (record_count(NOTE_TYPE_IMAGE) != 1) unreadable("an ELF core, but not one that imago made: it has no private notes");
  check_seal(&elf, headers_size, count, notes, first.p_filesz, before_seal);

  read_record(NOTE_TYPE_IMAGE, 0, &image.image, sizeof image.image);
  if (image.image.version != NOTE_LAYOUT_VERSION && image.image.version != NOTE_LAYOUT_VERSION_MOVED) unreadable("the image's notes have a version that is not known here");
  if (record_count(NOTE_TYPE_PROCESS) != 1 || record_count(NOTE_TYPE_CREDENTIAL) != 1) unreadable("the image does not say what process it is");
  read_record(NOTE_TYPE_PROCESS, 0, &image.process, sizeof image.process);
  read_record(NOTE_TYPE_CREDENTIAL, 0, &image.credential, sizeof image.credential);
  check_mappings();
  check_moved();
  check_guards();
  check_threads();
  check_files();
}

enum { CHUNK = 1 << 20 };

static bool is_zero_page(const uint64_t *page) {
  for (unsigned i = 0; i < PAGE / 8; i++)
    if (page[i] != 0) return false;
  return true;
}

/* CRC-32 of the pages at `offset` that are not all zeros. */
static uint32_t checksum_of_pages(uint64_t offset, uint64_t total, unsigned char *chunk) {
  uint32_t checksum = 0;
  for (uint64_t at = 0; at < total;) {
    const long data = call(lseek, image.fd, offset + at, 3 /* SEEK_DATA */);
    if (data == -6 /* ENXIO */ || (data > 0 && (uint64_t)data >= offset + total)) break;
    if (data > 0) at = ((uint64_t)data - offset) / PAGE * PAGE;
    const long hole = call(lseek, image.fd, offset + at, 4 /* SEEK_HOLE */);
    uint64_t size = total - at < CHUNK ? total - at : CHUNK;
    if (hole > 0 && (uint64_t)hole - offset - at < size) size = round_up((uint64_t)hole - offset - at, PAGE);
    read_image(chunk, size, offset + at);
    for (uint64_t k = 0; k < size; k += PAGE)
      if (!is_zero_page((const uint64_t *)(chunk + k))) checksum = crc32(checksum, chunk + k, PAGE);
    at += size;
  }
  return checksum;
}

/* The checksums of all bytes of mappings and files. Those of large images when asked only: laziness is worth more there. */
void verify_content(void) {
  uint64_t pages = 0;
  struct note_mapping mapping;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    read_record(NOTE_TYPE_MAPPING, i, &mapping, sizeof mapping);
    pages += mapping.stored_pages;
  }
  if (settings.verify == VERIFY_NONE || (settings.verify == VERIFY_SMALL && pages > VERIFIED_ALWAYS / PAGE)) return;
  unsigned char *chunk = arena(CHUNK);
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MAPPING); i++) {
    read_record(NOTE_TYPE_MAPPING, i, &mapping, sizeof mapping);
    if (checksum_of_pages(mapping.content_offset, mapping.content_size, chunk) != mapping.checksum)
      die_at(EXIT_UNREADABLE, "damaged image: the checksum differs of the memory at", mapping.start, 0);
  }
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_MOVED); i++) {
    struct note_moved run;
    read_record(NOTE_TYPE_MOVED, i, &run, sizeof run);
    if (checksum_of_pages(run.content_offset, run.end - run.start, chunk) != run.checksum)
      die_at(EXIT_UNREADABLE, "damaged image: the checksum differs of the memory at", run.start, 0);
  }
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
    struct note_description description;
    uint32_t checksum = 0;
    read_record(NOTE_TYPE_DESCRIPTION, i, &description, sizeof description);
    for (uint64_t at = 0; at < description.content_size; at += CHUNK) {
      const uint64_t size = description.content_size - at < CHUNK ? description.content_size - at : CHUNK;
      read_image(chunk, size, description.content_offset + at);
      checksum = crc32(checksum, chunk, size);
    }
    if (checksum != description.checksum) die(EXIT_UNREADABLE, "damaged image: the checksum of a file's content differs", text_of(NOTE_TYPE_DESCRIPTION, description.path), 0);
  }
}
