/* The writer's side: records gathered in lists, and the file they go to. */
#pragma once
#include "checkpoint.h"
#include <linux/stat.h>

/* Records of one kind and the strings they point to, as one private note will hold them. */
struct list {
  uint32_t type, record_size, count, strings_size;
  uint32_t capacity, strings_capacity;
  unsigned char *records;
  char *strings;
};

enum list_name {
  LIST_IMAGE, LIST_PROCESS, LIST_THREAD, LIST_MAPPING, LIST_MODIFIED, LIST_DESCRIPTOR, LIST_DESCRIPTION, LIST_LOCK, LIST_WATCH,
  LIST_ACTION, LIST_PENDING, LIST_INTERVAL_TIMER, LIST_POSIX_TIMER, LIST_LIMIT, LIST_CREDENTIAL, LIST_LOSS,
  LIST_GUARD, LIST_SEAL, LISTS,
};

struct writer {
  struct scratch *scratch;
  struct options options; /* of the scratch, which the next checkpoint may take while this one still tells that it is done */
  struct list lists[LISTS];
  struct note_image *image;
  struct note_process *process;
  uint32_t number;
  bool has_locked_memory;                            /* mlock, which a copy does not inherit */
  bool program_stands;                               /* from the beginning on, and so is described as it is; else as noted in the scratch */
  int self_fd, out, memory, program_memory, pagemap; /* files: /proc/self, the image, /proc/self/mem, /proc/PROGRAM/mem, /proc/self/pagemap */
  uint64_t pages;                           /* of all mappings of the copy */
  uint64_t end;                             /* of what is written so far */
  uint64_t written, told, expected;         /* bytes: written, of those told to who asked, about how many it will be */
  unsigned char *bounce;                    /* BOUNCE_SIZE bytes */
  unsigned char *early;                     /* what waits to be written; 0: nothing does */
  uint64_t early_size;                      /* bytes of it */
  char path[PATH_SIZE], temporary[PATH_SIZE];
};
#define BOUNCE_SIZE (256 * 1024ul)

/* In note_mapping.reserved until its bytes are written: pages that are not there lie in the image it was restored from. */
#define LAZILY_RESTORED 1u

/* Bytes between two words of progress: many enough to be cheap, few enough for a bar that moves. */
#define PROGRESS_STEP (32ul << 20)

/* writer.c */
__attribute__((noreturn)) void fail(struct writer *writer, const char *what, long error);
void *allocate(struct writer *writer, size_t size);
__attribute__((noreturn)) void ask_for_standing(struct writer *writer); /* what is to be kept was not noted, and can only be had then */
/* output.c */
void begin_early_writes(struct writer *writer);   /* from here on nothing is written … */
void write_what_was_early(struct writer *writer); /* … until here */
void write_at(struct writer *writer, const void *bytes, size_t size, uint64_t offset);
void put_in_place(struct writer *writer);
/* lists.c */
size_t lists_size(void);
void make_lists(struct writer *writer, unsigned char *at); /* `at`: room for lists_size bytes */
void *add_record(struct writer *writer, enum list_name list);
struct note_string add_string(struct writer *writer, enum list_name list, const char *bytes, size_t size);
void add_loss(struct writer *writer, const char *what, const char *detail);
static inline void *record_at(const struct list *list, uint32_t index) {
  return list->records + (size_t)index * list->record_size;
}
/* describe.c: threads, signals, limits, credentials, and what the kernel keeps of the process */
void describe_what_changes(struct writer *writer);
void describe_process(struct writer *writer);
/* mappings.c */
bool find_holes(struct scratch *scratch, int self);
void describe_mappings(struct writer *writer);
void settle_mappings(struct writer *writer);
void describe_advice(struct writer *writer, int process);
/* outside.c: what the program has in the kernel outside of itself, which no image keeps */
void find_what_is_outside(struct writer *writer, int self);
bool is_message_queue(int fd);
/* files.c */
void describe_files(struct writer *writer);
int descriptor_of(const struct writer *writer, uint32_t description); /* any of them */
/* sockets.c */
struct received {
  const uint8_t *bytes;
  uint64_t size;
};
bool describe_pair_end(int fd, struct note_description *description);
bool may_keep_pair(struct writer *writer, const struct note_description *one); /* its other end is the program's, too, and only bytes are under way */
struct received received_by(struct writer *writer, int fd);                    /* yet to be: it stays there */
/* content.c */
void write_kept_content(struct writer *writer);
/* memory.c */
void write_mappings(struct writer *writer, bool before_go);
/* sweep.c */
void hold_lock(struct writer *writer);
void remove_stale_files(struct writer *writer);
/* elf.c */
void write_headers(struct writer *writer);
