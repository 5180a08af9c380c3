/*
 * myrestart: becomes the process that an image holds. Static, without a C library, at an address where programs have nothing.
 *
 *   0x6a0000000000  this program: text, data, stack in .bss
 *   0x6a0008000000  the vDSO for a while, where the kernel cannot map it anew
 *   0x6a0010000000  the arena: the image's notes and tables made of them
 *   0x6b0000000000  end of what the restored process unmaps when it runs
 *
 *   read and check the image (image.c) ─► take its pid, if it may (family.c) ─► open files (files.c) ─► unmap all else, map memory
 *   (memory.c, vdso.c) ─► signals, timers, limits (process.c) ─► threads (threads.c) ─► each returns from its signal frame
 *
 * Everything that can be refused is refused before anything is unmapped.
 */
#pragma once
#include "../common/base.h"
#include "../common/note-layout.h"
#include "../common/resume.h"
#include <linux/stat.h>

#define RESTORER_START 0x6a0000000000ul
#define RESTORER_END 0x6b0000000000ul
#define VDSO_PARK 0x6a0008000000ul
#define ARENA_START 0x6a0010000000ul

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREADABLE = 3, EXIT_LOSS = 4, EXIT_HOST = 5 };
/* Checksums of memory and kept files: of images that hold up to VERIFIED_ALWAYS bytes, or of all, or of none. Those of the description always. */
enum verify_policy { VERIFY_SMALL, VERIFY_ALL, VERIFY_NONE };
#define VERIFIED_ALWAYS (64ul << 20)
enum file_policy { FILES_KEEP, FILES_TRUNCATE, FILES_RESTORE };
enum pid_policy { PID_AUTO, PID_SAME, PID_NEW, PID_NAMESPACE };

struct table {
  const unsigned char *records;
  const char *strings;
  uint32_t record_size, count, strings_size;
};
#define TABLES 19

struct image {
  const char *path;
  int fd;
  uint64_t size, notes_offset;
  struct table tables[TABLES]; /* by note type - NOTE_TYPE_IMAGE */
  struct note_image image;
  struct note_process process;
  struct note_credential credential;
  const void *auxv;
  uint32_t auxv_size;
  uint64_t device, inode;
};

struct settings {
  bool eager, foreign_vdso, check_only;
  enum verify_policy verify;
  enum file_policy files;
  enum pid_policy pid;
  int report; /* descriptor for imago, or -1 */
};

extern struct image image __attribute__((visibility("hidden")));
extern struct settings settings __attribute__((visibility("hidden")));
#pragma GCC visibility push(hidden)

/* messages.c */
__attribute__((noreturn)) void die(int code, const char *what, const char *subject, long error);
__attribute__((noreturn)) void die_at(int code, const char *what, uint64_t address, long error);
void remark(const char *what, const char *subject);
void report(const char *word, long number);
void *arena(size_t size);
uint64_t arena_end(void); /* of what was given out so far */
const char *text_of(uint32_t type, struct note_string string);
/* image.c */
void load_image(const char *path);
void verify_content(void);
void read_record(uint32_t type, uint32_t index, void *into, size_t size);
uint32_t record_count(uint32_t type);
void read_image(void *into, uint64_t size, uint64_t offset);
/* family.c */
void become_process(void);
extern bool has_same_pid;
/* files.c */
void restore_files(void);
long open_nameless_folder(const char *path, uint32_t flags);
int descriptor_for_inode(uint64_t inode);
void finish_files(void);
/* memory.c, vdso.c */
void anonymise_self(void);
void restore_memory(void);
void restore_layout(void);
void examine_vdso(void);
void park_vdso(void);
void map_vdso_first(void);
void map_vdso_last(void);
/* process.c */
void restore_process(void);
void restore_credentials(bool first_thread);
void restore_timers(void);
void restore_pending(uint32_t old_tid, uint32_t tid);
/* threads.c */
__attribute__((noreturn)) void restore_threads(void);
uint32_t new_tid(uint32_t old);
