/*
 * How a program freezes itself.
 *
 *   program's threads                                    writer (a copy-on-write copy of the program)
 *   ─────────────────                                    ───────────────────────────────────────────
 *   T1 takes the checkpoint signal
 *   T1 stops T2 … Tn by signal 33: each notes its own state in a slot and sleeps
 *   T1 notes timers, pending signals, what only it can tell
 *   T1 looks whether a copy would share anything with it that changes (shared.c)
 *   when nothing is shared:
 *   T1 starts a thread that waits for the copy (fork.c)
 *   T1 forks ──────────────────────────────────────────► begins
 *   T1 … Tn run on                                       describes mappings and open files
 *   else:
 *   T1 forks, waits for `go` ──────────────────────────► describes them; refuses, or copies what is shared (memory, pipes, deleted files),
 *   T1 … Tn run on  ◄─────────────────────────────────── then says `go`
 *                                                        writes memory, notes, headers; syncs, seals, renames; ends
 *
 * Both sides share one `struct scratch`, never part of the image. A program that went on at once keeps it for its next checkpoint: to map it takes
 * longer than all that is noted there. No C library is used: what runs here may have interrupted one anywhere, and one binary serves glibc, musl
 * and static programs.
 */
#pragma once
#include "../common/base.h"
#include "../common/note-layout.h"
#include "../common/resume.h"

#define STOP_SIGNAL 33 /* glibc's SIGSETXID, musl's SIGCANCEL: no program of theirs can block it */
#define MAX_THREADS 32768
#define MAX_PENDING 4096
#define PATH_SIZE 4096
#define MESSAGE_SIZE 512

struct options {
  uint32_t force, blocking, hold, files;
  uint32_t stand; /* asked for by a writer that found what only a program that stands lets it copy */
  char reply[PATH_SIZE];  /* where progress and outcome go; empty: nowhere */
  char output[PATH_SIZE]; /* template: %p the pid, %n the number of the checkpoint */
};
#define REQUEST_SIZE (3 * PATH_SIZE)

/* What a thread notes of itself when it stops. */
struct thread_slot {
  struct note_thread note;
  uint64_t context, info; /* addresses of ucontext and siginfo in its signal frame */
};

enum { GO_WAIT, GO_RUN, GO_REFUSED };

/* Address ranges of the program that a copy of it lacks (MADV_DONTFORK). */
struct hole {
  uint64_t start, end;
};
#define MAX_HOLES 256

/* Bytes that the program copied to `noted` of the scratch, so that they may change at once; end: 0 when it did not. */
struct noted_bytes {
  uint32_t start, end;
};
#define NOTED_ROOM (1ul << 20)
#define SMALL_FILE (1ul << 20) /* up to here the content of every file open for writing is kept */

/* An open file of which the program may change all this as soon as it goes on. */
struct noted_file {
  int32_t fd;
  uint32_t flags;
  uint64_t offset, inode, device, size;
  int64_t modified;
  struct noted_bytes content, fdinfo; /* fdinfo: the file of that folder of /proc */
  bool is_kept; /* its content is, because nothing else keeps it */
};
#define MAX_NOTED_FILES 64

/* A shared mapping. */
struct noted_memory {
  uint64_t start, end;
  struct noted_bytes content;
};
#define MAX_NOTED_MEMORY 16

/* What is always used comes first: each page of it that is touched takes time. */
struct scratch {
  uint32_t go;    /* futex between writer and program */
  uint32_t is_being_written; /* until the writer has done, or was killed */
  uint32_t thread_count, pending_count;
  uint32_t timer_count, interval_timer_count;
  uint64_t size, start_time, capture_time, pause;
  int32_t process_fd; /* /proc/self of a program that stands, else -1 */
  int32_t maps_fd;    /* its /proc/self/maps: opened by the whole name, which an emulator knows */
  int32_t writer;     /* its pid */
  int32_t copy;       /* the process between program and writer, see fork.c */
  uint32_t reaper;    /* the id of the thread that waits for the copy; the kernel makes it 0 when that has ended */
  int32_t pid, parent, process_group, session, leader_tid;
  struct kernel_action stop_action; /* what the program has for STOP_SIGNAL */
  uint64_t pages; /* of all mappings of the program; its copy has fewer when some are forbidden to be copied; 0: not asked, as it is settled */
  uint64_t waiting_before; /* signals, before the fork */
  uint32_t is_emulated;    /* by qemu-user */
  uint32_t goes_on_at_once, child_subreaper, has_children;
  uint32_t noted_file_count, noted_memory_count, noted_size; /* see shared.c */
  uint32_t hole_count;
  char message[MESSAGE_SIZE]; /* why not, with GO_REFUSED */
  struct options options; /* from here on nothing is cleared before a scratch is used again */
  /* What was so at the last checkpoint, so that less is looked up; 0: not known. */
  uint64_t copied_pages;
  uint32_t is_settled; /* it had as many pages the time before, and never more in its life */
  uint32_t shares_no_memory;
  uint32_t descriptor_count;
  int32_t descriptors[MAX_NOTED_FILES]; /* in order */
  int32_t timer_due;       /* the number of the next POSIX timer, when there is none */
  uint8_t reaper_stack[1024] __attribute__((aligned(16)));
  struct noted_file noted_files[MAX_NOTED_FILES];
  struct noted_memory noted_memory[MAX_NOTED_MEMORY];
  char text[4096]; /* of a file of /proc: not on the stack, which may be a small alternate one */
  struct hole holes[MAX_HOLES];
  struct note_interval_timer interval_timers[3];
  struct note_posix_timer timers[1024];
  struct note_pending pending[MAX_PENDING];
  struct thread_slot threads[MAX_THREADS];
  char request[REQUEST_SIZE];
  uint8_t signalled[4 * 1024 * 1024 / 8] __attribute__((aligned(PAGE))); /* a bit a tid */
  uint8_t noted[NOTED_ROOM] __attribute__((aligned(PAGE)));
};

extern struct resume_block imago_resume_block __attribute__((visibility("hidden")));
/* Pipes and sockets above the standard streams that the program was started with: not of its own making, often not even known to it. */
struct inherited_file {
  int32_t fd;
  uint64_t inode;
};
#define MAX_INHERITED 64
extern struct inherited_file inherited_files[MAX_INHERITED] __attribute__((visibility("hidden")));
/* Root folder and namespaces that the program was started in: restored, it lives in those of its restorer. */
#define MAX_PLACES 9
#define PLACE_PID_FOR_CHILDREN 8
extern const char *const place_paths[MAX_PLACES] __attribute__((visibility("hidden")));
extern uint64_t inherited_places[MAX_PLACES] __attribute__((visibility("hidden")));
uint64_t place_identity(int process, uint32_t place) __attribute__((visibility("hidden")));
void note_what_is_inherited(void) __attribute__((visibility("hidden")));
void refresh_what_is_inherited(void) __attribute__((visibility("hidden")));

extern int checkpoint_signal __attribute__((visibility("hidden"))); /* by which the user asks */
extern const int request_signal __attribute__((visibility("hidden"))); /* by which imago asks where the user chose none; 0: by the same */
extern uint64_t own_signals __attribute__((visibility("hidden")));  /* of both, those that the program has not taken for itself */
static inline uint64_t signal_mask(int signal) {
  return 1ul << (signal - 1);
}

/*
 * Where the checkpointer lives decides how threads come to stand still: anywhere (library.c, in libckpt.so) or at migration points
 * (program.c, linked into programs of imago cc).
 */
bool may_begin(siginfo_t *info);              /* by this signal; it may become the one that asked first. False: not now */
/* Makes threads take the stop signal that have not yet, and counts them; returns how many others there are, stopped or not. */
uint32_t stop_others(struct scratch *scratch, uint32_t *signalled_now);
bool is_only_thread(void);                    /* true only when that is certain */
void forget_request(void);                    /* nobody wants anything any more */
uint64_t usual_clear_tid(void);               /* what every thread has for set_tid_address, where the kernel does not tell; 0: unknown */
uint32_t own_protection(uint64_t start, uint64_t end); /* what a mapping of a file has besides, as the program itself knows */
/* checkpoint.c */
void admit_signal_before_others_go_on(void);
__attribute__((noreturn)) void become_writer(struct scratch *scratch);
/* fork.c */
bool writer_at_work(struct scratch *kept);                /* that of the last checkpoint; `kept`: its scratch, when it is still there */
bool start_reaper(struct scratch *scratch);               /* so that the program can go on at once */
long fork_writer(struct scratch *scratch);                /* returns the pid of a copy, which becomes the writer, or -errno */
void wait_for_copy(const struct scratch *scratch);        /* when nobody else does */
void wait_for_writer(struct scratch *scratch);            /* until it lets the program go on, or has ended */
bool has_ended(int32_t pid, const char *name);            /* with `name`: or is another one by now */
/* shared.c */
bool shares_nothing(struct scratch *scratch); /* after what it shares was noted */
bool is_orphan(int fd);
static inline const struct noted_file *noted_file(const struct scratch *scratch, int fd) {
  for (uint32_t i = 0; i < scratch->noted_file_count; i++)
    if (scratch->noted_files[i].fd == fd) return &scratch->noted_files[i];
  return 0;
}
/* threads.c */
bool send_stop(uint32_t tid);
void stop_here(void); /* the calling thread takes the stop signal */
bool stop_threads(struct scratch *scratch);
void release_threads(struct scratch *scratch);
void forget_threads(void); /* in a copy, where nobody stands still */
void note_own_thread(struct scratch *scratch, struct thread_slot *slot, void *info, void *context);
void note_what_copies_have(struct note_thread *note); /* by the thread itself, or by a copy that it made */
/* interrupted.c */
void set_back_interrupted_call(struct ucontext *context);
/* process.c */
bool may_make_any_call(void); /* no filter of system calls would end who makes one that the program never does */
uint64_t total_pages(int directory, const char *statm); /* as that file of /proc says; 0: the process has ended, or is about to */
void note_pending(struct scratch *scratch, uint32_t tid);
void note_timers(struct scratch *scratch);
/* options.c */
void read_environment(struct options *options);
bool is_request(const siginfo_t *info);       /* a signal that tells of one, and so the pid of who asks */
bool request_is_there(const siginfo_t *info); /* not withdrawn, and somebody waits for it */
bool read_request(struct options *options, char *text, const siginfo_t *info); /* `text`: room for REQUEST_SIZE bytes */
void ask_again(const struct options *options, int32_t program, const siginfo_t *info); /* by a writer, for a program that stands then */
bool reply_is_awaited(const struct options *options);
void reply_line(const struct options *options, const char *line);
void tell_refusal(const struct options *options, const char *why);
void say(const char *text); /* on standard error, if that takes it at once */
/* writer.c: runs in the copy; never returns. */
__attribute__((noreturn)) void write_image(struct scratch *scratch, uint32_t number);

static inline long futex_wait(uint32_t *word, uint32_t value, bool shared, uint64_t nanoseconds) {
  const struct time_pair limit = pair_of(nanoseconds);
  return call(futex, word, shared ? 0 : 128, value, &limit, 0, 0);
}

static inline uint64_t device_number(uint64_t major, uint64_t minor) {
  return (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xfful) << 12 | (major & ~0xffful) << 32;
}

static inline void futex_wake(uint32_t *word, bool shared) {
  call(futex, word, shared ? 1 : 129, 0x7fffffff, 0, 0, 0);
}

#pragma GCC visibility push(hidden)
