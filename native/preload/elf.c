/* What makes the image an ELF core: the kernel's notes, then ours, program headers, the seal, and last the ELF header. */
#include "writer.h"

/* From here on e_phnum cannot hold the number (PN_XNUM). A test builds it with fewer: Linux seldom lets a program have so many mappings. */
#ifndef MANY_HEADERS
#define MANY_HEADERS 0xffff
#endif
#include <linux/elf.h>

struct notes {
  unsigned char *start;
  size_t size, capacity;
};

static void *add_note(struct writer *writer, struct notes *notes, const char *name, uint32_t type, size_t size) {
  const uint32_t name_size = length_of(name) + 1;
  const size_t header = sizeof(struct elf64_note) + round_up(name_size, 4);
  if (notes->size + header + round_up(size, 4) > notes->capacity) fail(writer, "keep so many notes", 0);
  unsigned char *at = notes->start + notes->size;
  *(struct elf64_note *)at = (struct elf64_note){.n_namesz = name_size, .n_descsz = size, .n_type = type};
  for (uint32_t i = 0; i < name_size; i++) at[sizeof(struct elf64_note) + i] = name[i];
  notes->size += header + round_up(size, 4);
  return at + header;
}

/* struct elf_prstatus of 64-bit Linux. */
struct status_note {
  int32_t signal, code, error;
  uint16_t current_signal, padding;
  uint64_t pending, held;
  int32_t pid, parent, group, session;
  int64_t times[8];
  uint64_t registers[ARCH_GENERAL_REGISTERS];
  int32_t float_valid;
};

/* struct elf_prpsinfo of 64-bit Linux. */
struct process_note {
  char state, state_name, zombie, nice;
  uint64_t flags;
  uint32_t uid, gid;
  int32_t pid, parent, group, session;
  char name[16], arguments[80];
};

static void add_process_notes(struct writer *writer, struct notes *notes, const struct thread_slot *slot) {
  const struct note_process *process = writer->process;
  const struct note_credential *credential = record_at(&writer->lists[LIST_CREDENTIAL], 0);
  struct process_note *info = add_note(writer, notes, "CORE", 3 /* NT_PRPSINFO */, sizeof *info);
  info->state_name = 'R';
  info->uid = credential->uid;
  info->gid = credential->gid;
  info->pid = process->pid, info->parent = process->parent, info->group = process->process_group, info->session = process->session;
  for (int i = 0; i < 16; i++) info->name[i] = process->name[i];
  read_text(AT_FDCWD, "/proc/self/cmdline", info->arguments, sizeof info->arguments);
  const uint64_t length = process->arg_end - process->arg_start;
  for (uint64_t i = 0; i + 1 < length && i < sizeof info->arguments - 1; i++)
    if (info->arguments[i] == 0) info->arguments[i] = ' ';
  memcpy(add_note(writer, notes, "CORE", 0x53494749 /* NT_SIGINFO */, 128), (const void *)slot->info, 128);
  char auxv[4096];
  const long size = read_text(AT_FDCWD, "/proc/self/auxv", auxv, sizeof auxv);
  if (size > 0) memcpy(add_note(writer, notes, "CORE", 6 /* NT_AUXV */, size), auxv, size);
}

/* NT_FILE: count, page size, (start, end, offset in pages) each, then the names. */
static void add_file_note(struct writer *writer, struct notes *notes) {
  const struct list *list = &writer->lists[LIST_MAPPING];
  uint64_t count = 0, size = 16;
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_mapping *mapping = record_at(list, i);
    if (mapping->kind == MAPPING_KIND_FILE) count++, size += 24 + mapping->path.length + 1;
  }
  uint64_t *word = add_note(writer, notes, "CORE", 0x46494c45 /* NT_FILE */, size);
  *word++ = count;
  *word++ = PAGE;
  char *name = (char *)(word + 3 * count);
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_mapping *mapping = record_at(list, i);
    if (mapping->kind != MAPPING_KIND_FILE) continue;
    *word++ = mapping->start, *word++ = mapping->end, *word++ = mapping->page_offset / PAGE;
    for (uint32_t k = 0; k < mapping->path.length; k++) *name++ = list->strings[mapping->path.offset + k];
    *name++ = 0;
  }
}

static void add_thread_notes(struct writer *writer, struct notes *notes, const struct thread_slot *slot, bool first) {
  const struct ucontext *context = (const struct ucontext *)slot->context;
  struct status_note *status = add_note(writer, notes, "CORE", 1 /* NT_PRSTATUS */, sizeof *status);
  status->signal = status->current_signal = first ? checkpoint_signal : STOP_SIGNAL;
  status->held = slot->note.signal_mask;
  status->pid = slot->note.tid;
  status->parent = writer->process->parent, status->group = writer->process->process_group, status->session = writer->process->session;
  status->float_valid = arch_float_registers(context) != 0;
  arch_general_registers(context, slot->note.tls, slot->note.tls2, status->registers);
  if (first) {
    add_process_notes(writer, notes, slot);
    add_file_note(writer, notes);
  }
  if (arch_float_registers(context) != 0)
    memcpy(add_note(writer, notes, "CORE", 2 /* NT_FPREGSET */, ARCH_FLOAT_SIZE), arch_float_registers(context), ARCH_FLOAT_SIZE);
#ifdef ARCH_TLS_NOTE
  memcpy(add_note(writer, notes, "LINUX", ARCH_TLS_NOTE, 8), &slot->note.tls, 8);
#endif
  unsigned char vector[ARCH_VECTOR_SIZE];
  const uint32_t size = arch_vector_registers(context, vector);
  if (size > 0) memcpy(add_note(writer, notes, "LINUX", ARCH_VECTOR_NOTE, size), vector, size);
}

static void add_list(struct writer *writer, struct notes *notes, const struct list *list) {
  const size_t records = (size_t)list->count * list->record_size;
  unsigned char *at = add_note(writer, notes, NOTE_NAME, list->type, sizeof(struct note_header) + records + list->strings_size);
  *(struct note_header *)at = (struct note_header){list->record_size, list->count, list->strings_size, 0};
  memcpy(at + sizeof(struct note_header), list->records, records);
  memcpy(at + sizeof(struct note_header) + records, list->strings, list->strings_size);
}

/* All notes but the seal. */
static void gather_notes(struct writer *writer, struct notes *notes) {
  const struct scratch *scratch = writer->scratch;
  notes->capacity = 1 << 16;
  notes->capacity += (size_t)scratch->thread_count * 4096;
  for (int i = 0; i < LISTS; i++)
    notes->capacity += 2 * writer->lists[i].strings_size + (size_t)writer->lists[i].count * (writer->lists[i].record_size + 32) + 64;
  notes->start = allocate(writer, notes->capacity);
  for (int pass = 0; pass < 2; pass++)
    for (uint32_t i = 0; i < scratch->thread_count; i++)
      if ((scratch->threads[i].note.tid == (uint32_t)scratch->leader_tid) == (pass == 0))
        add_thread_notes(writer, notes, &scratch->threads[i], pass == 0);
  for (int i = 0; i < LIST_SEAL; i++)
    if (writer->lists[i].count > 0) add_list(writer, notes, &writer->lists[i]);
}

void write_headers(struct writer *writer) {
  const struct list *mappings = &writer->lists[LIST_MAPPING];
  struct notes notes = {0, 0, 0};
  struct note_seal *seal = add_record(writer, LIST_SEAL);
  gather_notes(writer, &notes);

  Elf64_Phdr *headers = allocate(writer, ((size_t)mappings->count + 1) * sizeof *headers + sizeof(Elf64_Shdr));
  uint32_t count = 1;
  for (uint32_t i = 0; i < mappings->count; i++) {
    const struct note_mapping *mapping = record_at(mappings, i);
    if (mapping->kind == MAPPING_KIND_VVAR || mapping->kind == MAPPING_KIND_VSYSCALL) continue;
    headers[count++] = (Elf64_Phdr){
      .p_type = PT_LOAD,
      .p_flags = (mapping->protection & PROT_READ ? PF_R : 0) | (mapping->protection & PROT_WRITE ? PF_W : 0) |
                 (mapping->protection & PROT_EXEC ? PF_X : 0),
      .p_offset = mapping->content_offset,
      .p_vaddr = mapping->start,
      .p_filesz = mapping->content_size,
      .p_memsz = mapping->end - mapping->start,
      .p_align = PAGE,
    };
  }
  const bool many = count >= MANY_HEADERS;
  const size_t headers_size = count * sizeof *headers + (many ? sizeof(Elf64_Shdr) : 0);
  if (many) *(Elf64_Shdr *)(headers + count) = (Elf64_Shdr){.sh_info = count};
  const size_t seal_size = sizeof(struct elf64_note) + 8 + sizeof(struct note_header) + sizeof *seal;
  seal->notes_offset = writer->end;
  seal->notes_size = notes.size + seal_size;
  seal->headers_offset = round_up(seal->notes_offset + seal->notes_size, 8);
  seal->headers_count = count;
  seal->file_size = seal->headers_offset + headers_size;
  headers[0] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = seal->notes_offset, .p_filesz = seal->notes_size, .p_align = 4};

  Elf64_Ehdr header = {
    .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
    .e_type = ET_CORE, .e_machine = ARCH_MACHINE, .e_version = EV_CURRENT, .e_phoff = seal->headers_offset,
    .e_ehsize = sizeof header, .e_phentsize = sizeof *headers, .e_phnum = many ? 0xffff : count,
  };
  if (many) header.e_shoff = seal->headers_offset + count * sizeof *headers, header.e_shentsize = sizeof(Elf64_Shdr), header.e_shnum = 1;
  seal->notes_checksum = crc32(0, notes.start, notes.size);
  seal->headers_checksum = crc32(0, headers, headers_size);
  seal->elf_checksum = crc32(0, &header, sizeof header);
  seal->seal_checksum = crc32(0, seal, offsetof(struct note_seal, seal_checksum));
  add_list(writer, &notes, &writer->lists[LIST_SEAL]);

  write_at(writer, notes.start, notes.size, seal->notes_offset);
  write_at(writer, headers, headers_size, seal->headers_offset);
  const long result = call(fdatasync, writer->out);
  if (failed(result)) fail(writer, "sync the image", result);
  write_at(writer, &header, sizeof header, 0);
}
