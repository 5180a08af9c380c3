/* Made by scripts/generate-note-layout.mjs from src/formats/core/note-layout.ts, which explains it: do not edit. */
#pragma once
#include <stdint.h>

#define NOTE_NAME "IMAGO"
#define NOTE_LAYOUT_VERSION 1
#define NOTE_LAYOUT_VERSION_MOVED 2

struct note_header { uint32_t record_size, record_count, strings_size, reserved; };
struct note_string { uint32_t offset, length; };

/* One record: how and when the image was made. */
#define NOTE_TYPE_IMAGE 0x494d0001u
struct note_image {
  uint32_t version;                        /* 2 where there are `moved` records, else 1 */
  uint32_t machine;                        /* e_machine of the program: 62 x86-64, 183 aarch64 */
  uint32_t page_size;                      /* bytes */
  uint32_t flags;                          /* imageFlags */
  uint64_t capture_time;                   /* CLOCK_REALTIME at the freeze, ns */
  uint64_t monotonic_time;                 /* CLOCK_MONOTONIC at the freeze, ns */
  uint64_t pause;                          /* how long the program stood still, ns */
  uint64_t resume_block;                   /* address of the resume block of the checkpointer in the image (native/common/resume.h); 0: none */
  uint32_t resume_version;                 /* version of the resume block */
  uint32_t generation;                     /* 1 for a program that was never restored, then one more each time */
  struct note_string kernel_release;       /* uname -r */
  struct note_string tool;                 /* name and version of the writer */
};
_Static_assert(sizeof(struct note_image) == 72, "image");

/* One record: what the kernel keeps once a process. */
#define NOTE_TYPE_PROCESS 0x494d0002u
struct note_process {
  uint32_t pid;                            /* as the process saw itself */
  uint32_t parent;
  uint32_t process_group;
  uint32_t session;
  uint32_t umask;
  uint32_t personality;                    /* personality(2) */
  uint32_t dumpable;                       /* PR_GET_DUMPABLE */
  uint32_t flags;                          /* processFlags */
  uint64_t start_code;                     /* prctl_mm_map and /proc/pid/stat, as the eleven after it */
  uint64_t end_code;
  uint64_t start_data;
  uint64_t end_data;
  uint64_t start_brk;
  uint64_t brk;
  uint64_t start_stack;
  uint64_t arg_start;
  uint64_t arg_end;
  uint64_t env_start;
  uint64_t env_end;
  uint64_t vvar_start;                     /* first of the kernel’s own pages before the vDSO; 0: none */
  uint64_t vdso_start;                     /* code of the vDSO; 0: none */
  uint64_t vdso_end;
  uint64_t timer_slack;                    /* PR_GET_TIMERSLACK, ns */
  unsigned char name[16];                  /* comm, NUL-padded */
  struct note_string executable;           /* target of /proc/self/exe */
  struct note_string working_directory;
  struct note_string root_directory;
};
_Static_assert(sizeof(struct note_process) == 192, "process");

/* A record a thread; the first is the thread group leader. */
#define NOTE_TYPE_THREAD 0x494d0003u
struct note_thread {
  uint32_t tid;
  uint32_t flags;                          /* threadFlags */
  uint64_t frame;                          /* address of the ucontext_t of its signal frame: rt_sigreturn with the stack pointer there wakes it up */
  uint64_t tls;                            /* thread pointer: FS base, TPIDR_EL0 */
  uint64_t tls2;                           /* GS base on x86-64, 0 on aarch64 */
  uint64_t clear_tid;                      /* set_tid_address */
  uint64_t cached_tid;                     /* address where the C library keeps the tid; 0: unknown */
  uint64_t robust_head;                    /* set_robust_list */
  uint64_t robust_length;                  /* bytes */
  uint64_t rseq_address;                   /* 0: not registered */
  uint32_t rseq_length;                    /* bytes */
  uint32_t rseq_signature;
  uint64_t signal_mask;                    /* bit n-1 is signal n */
  uint64_t alternate_stack;                /* sigaltstack ss_sp */
  uint64_t alternate_stack_size;           /* bytes */
  uint32_t alternate_stack_flags;          /* SS_* */
  int32_t nice;
  uint32_t scheduler_policy;               /* SCHED_* */
  uint32_t scheduler_priority;
  unsigned char name[16];                  /* comm, NUL-padded */
  uint64_t affinity;                       /* first 64 processors of sched_getaffinity; 0: all that there were, or unknown */
};
_Static_assert(sizeof(struct note_thread) == 144, "thread");

/* A record a mapping, by address: what smaps says of it, and where its bytes lie. */
#define NOTE_TYPE_MAPPING 0x494d0004u
struct note_mapping {
  uint64_t start;
  uint64_t end;                            /* first address after it */
  uint64_t page_offset;                    /* offset of `start` in the mapped file or object, bytes */
  uint64_t content_offset;                 /* where its bytes begin in the image; holes are zeros */
  uint64_t content_size;                   /* end - start, or 0 when the image does not hold its bytes */
  uint64_t stored_pages;                   /* pages that are not all zeros */
  uint64_t device;                         /* st_dev of the mapped file or object, as stat(2) gives it */
  uint64_t inode;
  uint64_t file_size;                      /* bytes, when the image was made; for files */
  int64_t file_modified;                   /* st_mtim, ns; for files */
  uint32_t kind;                           /* mappingKinds */
  uint32_t protection;                     /* PROT_* */
  uint32_t flags;                          /* mappingFlags */
  uint32_t advice;                         /* adviceFlags */
  uint32_t checksum;                       /* CRC-32 (IEEE) of the pages at its contentOffset that are not all zeros, in order */
  uint32_t reserved;
  struct note_string path;                 /* as /proc/pid/maps names it, without " (deleted)" */
};
_Static_assert(sizeof(struct note_mapping) == 112, "mapping");

/* Runs of pages of private file mappings that differ from the file. */
#define NOTE_TYPE_MODIFIED 0x494d0005u
struct note_modified {
  uint64_t start;
  uint64_t end;
};
_Static_assert(sizeof(struct note_modified) == 16, "modified");

/* A record an open descriptor. */
#define NOTE_TYPE_DESCRIPTOR 0x494d0006u
struct note_descriptor {
  uint32_t fd;
  uint32_t flags;                          /* 1: close-on-exec */
  uint32_t description;                    /* id of the open file description */
  uint32_t reserved;
};
_Static_assert(sizeof(struct note_descriptor) == 16, "descriptor");

/* A record an open file description: what several descriptors may share. */
#define NOTE_TYPE_DESCRIPTION 0x494d0007u
struct note_description {
  uint32_t id;                             /* from 1 */
  uint32_t kind;                           /* descriptionKinds */
  uint32_t flags;                          /* O_* as F_GETFL gives them, in the numbering of `machine` */
  uint32_t mode;                           /* st_mode */
  uint64_t offset;                         /* bytes */
  uint64_t size;                           /* st_size */
  uint64_t device;                         /* st_dev */
  uint64_t inode;                          /* pipes: the same in both ends */
  int64_t modified;                        /* st_mtim, ns */
  uint64_t special_device;                 /* st_rdev */
  uint64_t content_offset;                 /* where its content lies in the image (file, pipe, memfd, socket) */
  uint64_t content_size;                   /* bytes of content in the image */
  uint32_t checksum;                       /* CRC-32 of that content */
  uint32_t state;                          /* descriptionFlags */
  uint64_t a;                              /* descriptionKinds tells what `a` … `f` are */
  uint64_t b;
  uint64_t c;
  uint64_t d;
  uint64_t e;
  uint64_t f;
  int32_t owner;                           /* F_GETOWN_EX: pid */
  uint32_t owner_type;                     /* F_GETOWN_EX: F_OWNER_* */
  uint32_t owner_signal;                   /* F_GETSIG */
  uint32_t reserved;
  struct note_string path;                 /* target of /proc/self/fd/N, without " (deleted)" */
  struct note_string extra;                /* raw bytes of the kind: termios of a terminal */
};
_Static_assert(sizeof(struct note_description) == 168, "description");

/* File locks held. */
#define NOTE_TYPE_LOCK 0x494d0008u
struct note_lock {
  uint32_t description;                    /* id */
  uint32_t kind;                           /* 1 POSIX (fcntl), 2 flock, 3 open file description */
  uint32_t type;                           /* F_RDLCK 0, F_WRLCK 1 */
  uint32_t reserved;
  uint64_t start;                          /* bytes */
  uint64_t length;                         /* bytes; 0: to the end of the file */
};
_Static_assert(sizeof(struct note_lock) == 32, "lock");

/* What an epoll watches. */
#define NOTE_TYPE_WATCH 0x494d0009u
struct note_watch {
  uint32_t description;                    /* id of the epoll */
  uint32_t fd;                             /* watched descriptor */
  uint32_t events;                         /* EPOLL* */
  uint32_t reserved;
  uint64_t data;                           /* epoll_data */
};
_Static_assert(sizeof(struct note_watch) == 24, "watch");

/* Signal actions that are not the default; never the checkpointer’s own. */
#define NOTE_TYPE_ACTION 0x494d000au
struct note_action {
  uint32_t signal;
  uint32_t reserved;
  uint64_t handler;                        /* 1: SIG_IGN */
  uint64_t flags;                          /* SA_* */
  uint64_t restorer;
  uint64_t mask;
};
_Static_assert(sizeof(struct note_action) == 40, "action");

/* Pending signals, in order. */
#define NOTE_TYPE_PENDING 0x494d000bu
struct note_pending {
  uint32_t tid;                            /* 0: of the whole process */
  uint32_t signal;
  unsigned char info[128];                 /* siginfo_t */
};
_Static_assert(sizeof(struct note_pending) == 136, "pending");

/* Running setitimer(2) timers. */
#define NOTE_TYPE_INTERVAL_TIMER 0x494d000cu
struct note_interval_timer {
  uint32_t which;                          /* 0 real, 1 virtual, 2 profiling */
  uint32_t reserved;
  uint64_t remaining;                      /* ns */
  uint64_t interval;                       /* ns */
};
_Static_assert(sizeof(struct note_interval_timer) == 24, "intervalTimer");

/* timer_create(2) timers. */
#define NOTE_TYPE_POSIX_TIMER 0x494d000du
struct note_posix_timer {
  uint32_t id;                             /* the kernel’s */
  int32_t clock;                           /* CLOCK_* */
  uint32_t signal;
  uint32_t notify;                         /* SIGEV_*: 0 signal, 1 none, 4 thread id */
  uint32_t tid;                            /* whom SIGEV_THREAD_ID notifies */
  uint32_t overrun;                        /* timer_getoverrun */
  uint64_t value;                          /* sigev_value */
  uint64_t remaining;                      /* ns; 0: disarmed */
  uint64_t interval;                       /* ns */
};
_Static_assert(sizeof(struct note_posix_timer) == 48, "posixTimer");

/* Resource limits. */
#define NOTE_TYPE_LIMIT 0x494d000eu
struct note_limit {
  uint32_t resource;                       /* RLIMIT_* */
  uint32_t reserved;
  uint64_t soft;                           /* 2^64-1: unlimited */
  uint64_t hard;
};
_Static_assert(sizeof(struct note_limit) == 24, "limit");

/* One record: user and groups. */
#define NOTE_TYPE_CREDENTIAL 0x494d000fu
struct note_credential {
  uint32_t uid;
  uint32_t effective_uid;
  uint32_t saved_uid;
  uint32_t file_system_uid;
  uint32_t gid;
  uint32_t effective_gid;
  uint32_t saved_gid;
  uint32_t file_system_gid;
  uint64_t capabilities;                   /* effective */
  uint64_t permitted_capabilities;
  struct note_string groups;               /* supplementary groups, u32 each */
};
_Static_assert(sizeof(struct note_credential) == 56, "credential");

/* With --force: what was there and is not in the image. */
#define NOTE_TYPE_LOSS 0x494d0010u
struct note_loss {
  struct note_string what;                 /* one line, as the refusal would have said */
};
_Static_assert(sizeof(struct note_loss) == 8, "loss");

/* One record, last in the last note: the image is whole when all of it fits. */
#define NOTE_TYPE_SEAL 0x494d0011u
struct note_seal {
  uint64_t file_size;                      /* bytes of the whole image */
  uint64_t notes_offset;                   /* p_offset of PT_NOTE */
  uint64_t notes_size;                     /* p_filesz of PT_NOTE, this note included */
  uint64_t headers_offset;                 /* e_phoff */
  uint64_t headers_count;                  /* number of program headers */
  uint32_t notes_checksum;                 /* CRC-32 of the notes before this one */
  uint32_t headers_checksum;               /* CRC-32 of the program headers, and of the section header after them where there is one */
  uint32_t elf_checksum;                   /* CRC-32 of the 64 bytes of the ELF header */
  uint32_t seal_checksum;                  /* CRC-32 of the bytes of this record before this field */
};
_Static_assert(sizeof(struct note_seal) == 56, "seal");

/* Runs of pages marked MADV_GUARD_INSTALL: touching them ends the program, though its mapping allows it. */
#define NOTE_TYPE_GUARD 0x494d0012u
struct note_guard {
  uint64_t start;
  uint64_t end;
};
_Static_assert(sizeof(struct note_guard) == 16, "guard");

/* Runs of pages, by address, whose bytes lie elsewhere than their mapping’s: they changed when the image was rewritten in place. */
#define NOTE_TYPE_MOVED 0x494d0013u
struct note_moved {
  uint64_t start;
  uint64_t end;                            /* in the same mapping: private, anonymous or of the heap */
  uint64_t content_offset;                 /* where their bytes begin in the image; holes are zeros */
  uint64_t stored_pages;                   /* pages that are not all zeros */
  uint32_t checksum;                       /* CRC-32 (IEEE) of its pages that are not all zeros, in order */
  uint32_t reserved;
};
_Static_assert(sizeof(struct note_moved) == 40, "moved");

#define IMAGE_FLAG_FORCED 1u                     /* made with --force: see the loss records */
#define IMAGE_FLAG_BLOCKING 2u                   /* the program stood still until the image was written */
#define IMAGE_FLAG_FILES_INCLUDED 4u             /* holds the content of files open for writing */

#define PROCESS_FLAG_NO_NEW_PRIVILEGES 1u
#define PROCESS_FLAG_CHILD_SUBREAPER 2u
#define PROCESS_FLAG_HUGE_PAGES_DISABLED 4u      /* PR_SET_THP_DISABLE */

#define THREAD_FLAG_REQUESTED 1u                 /* the thread that took the checkpoint signal */

#define MAPPING_KIND_ANONYMOUS 0u
#define MAPPING_KIND_FILE 1u
#define MAPPING_KIND_HEAP 2u                     /* the brk area */
#define MAPPING_KIND_STACK 3u                    /* of the first thread */
#define MAPPING_KIND_VDSO 4u                     /* never mapped from the image: the kernel brings its own */
#define MAPPING_KIND_VVAR 5u                     /* pages of the kernel before the vDSO: no content */
#define MAPPING_KIND_VSYSCALL 6u                 /* no content */
#define MAPPING_KIND_MEMFD 7u                    /* memfd_create */
#define MAPPING_KIND_SHARED_ANONYMOUS 8u         /* MAP_SHARED|MAP_ANONYMOUS; the same inode is the same memory */

#define MAPPING_FLAG_SHARED 1u                   /* MAP_SHARED */
#define MAPPING_FLAG_GROWS_DOWN 2u               /* MAP_GROWSDOWN */
#define MAPPING_FLAG_NO_RESERVE 4u               /* MAP_NORESERVE */
#define MAPPING_FLAG_DELETED 8u                  /* the file was unlinked */
#define MAPPING_FLAG_MAY_BE_REPLACED 16u         /* mapped again from its own file when that is unchanged */
#define MAPPING_FLAG_LOCKED 32u                  /* mlock */

#define ADVICE_FLAG_SEQUENTIAL 1u                /* MADV_SEQUENTIAL */
#define ADVICE_FLAG_RANDOM 2u                    /* MADV_RANDOM */
#define ADVICE_FLAG_DO_NOT_FORK 4u               /* MADV_DONTFORK */
#define ADVICE_FLAG_DO_NOT_DUMP 8u               /* MADV_DONTDUMP */
#define ADVICE_FLAG_HUGE_PAGE 16u                /* MADV_HUGEPAGE */
#define ADVICE_FLAG_NO_HUGE_PAGE 32u             /* MADV_NOHUGEPAGE */
#define ADVICE_FLAG_MERGEABLE 64u                /* MADV_MERGEABLE */
#define ADVICE_FLAG_WIPE_ON_FORK 128u            /* MADV_WIPEONFORK: not kept, as a fork would not */

#define DESCRIPTION_KIND_REGULAR 1u
#define DESCRIPTION_KIND_DIRECTORY 2u
#define DESCRIPTION_KIND_PIPE 3u                 /* a: capacity in bytes */
#define DESCRIPTION_KIND_FIFO 4u                 /* a: capacity in bytes */
#define DESCRIPTION_KIND_TERMINAL 5u             /* a: 1 when it is the controlling terminal; extra: termios */
#define DESCRIPTION_KIND_DEVICE 6u               /* a character device without state: null, zero, full, random, urandom, tty */
#define DESCRIPTION_KIND_EVENTFD 7u              /* a: counter; b: 1 semaphore */
#define DESCRIPTION_KIND_TIMERFD 8u              /* a: clock; b: settime flags; c: remaining ns; d: interval ns; e: unread expirations */
#define DESCRIPTION_KIND_SIGNALFD 9u             /* a: mask */
#define DESCRIPTION_KIND_EPOLL 10u               /* see watch */
#define DESCRIPTION_KIND_MEMFD 11u               /* a: seals */
#define DESCRIPTION_KIND_OTHER 12u               /* kept by --force only, as /dev/null */
#define DESCRIPTION_KIND_SOCKET_PAIR 13u         /* a stream of which both ends are here. a: inode of the other end; b: 1 shut for reading, 2 for writing; c: SO_SNDBUF; d: SO_RCVTIMEO ns; e: SO_SNDTIMEO ns; f: SO_PASSCRED */

#define DESCRIPTION_FLAG_DELETED 1u              /* no name leads to it any more */
#define DESCRIPTION_FLAG_INHERITED 2u            /* taken from the restorer’s own descriptor of the same number: terminals of 0–2, pipes and sockets it was started with */
#define DESCRIPTION_FLAG_CONTENT_KEPT 4u         /* contentOffset and contentSize are valid */
