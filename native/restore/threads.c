/*
 * Threads. The first is this one; the others are cloned with their old ids where that is allowed, else with new ones that are put where the C
 * library remembers them. Each gives the kernel back its own things and goes to the resume block's entry.
 */
#include "restore.h"
#include <linux/prctl.h>
#include <linux/sched.h>

#define THREAD_STACK 16384ul

struct seed {
  struct note_thread note;
  uint32_t tid; /* futex: 0 until the thread has one */
};

static struct seed *seeds;
static struct resume_block *block;

uint32_t new_tid(uint32_t old) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_THREAD); i++)
    if (seeds[i].note.tid == old) return seeds[i].tid;
  return old;
}

/* Robust mutexes that the thread holds name it by its id, which is another one now. Source: futex.rst, struct robust_list_head. */
static void rename_owner(const struct note_thread *note, uint32_t tid) {
  const uint64_t *head = (const uint64_t *)note->robust_head; /* next, offset of the futex word, pending */
  if (head == 0 || tid == note->tid) return;
  uint64_t entry = head[0] & ~1ul;
  for (uint32_t i = 0; i < 1u << 20 && entry != 0 && entry != (uint64_t)head; i++) {
    uint32_t *word = (uint32_t *)(entry + head[1]);
    if ((word[0] & 0x3fffffff) == note->tid) word[0] = (word[0] & ~0x3fffffffu) | tid;
    if (word[2] == note->tid) word[2] = tid; /* __owner of glibc's mutex */
    entry = *(const uint64_t *)entry & ~1ul;
  }
}

/* Runs in the thread itself. */
static void give_back(struct seed *seed) {
  const struct note_thread *note = &seed->note;
  const uint32_t tid = call(gettid);
  arch_set_tls(note->tls, note->tls2);
  if (note->cached_tid != 0 && *(uint32_t *)note->cached_tid == note->tid) *(uint32_t *)note->cached_tid = tid;
  rename_owner(note, tid);
  call(set_tid_address, note->clear_tid);
  call(set_robust_list, note->robust_head, note->robust_length);
  if (note->rseq_address != 0 && failed(call(rseq, note->rseq_address, note->rseq_length, 0, note->rseq_signature)))
    remark("restartable sequences are not registered", 0);
  call(prctl, PR_SET_NAME, note->name, 0, 0, 0);
  if (note->scheduler_policy != 0) call(sched_setscheduler, 0, note->scheduler_policy, &note->scheduler_priority);
  call(setpriority, 0, 0, note->nice);
  if (note->affinity != 0 && failed(call(sched_setaffinity, 0, sizeof note->affinity, &note->affinity)))
    remark("a thread is not bound to its processors any more: this machine has none of them", 0);
  restore_pending(note->tid, tid);
  restore_credentials(seed == seeds);
}

static void enter(uint64_t frame, bool leader) {
  ((void (*)(uint64_t, uint64_t))block->entry)(frame, leader);
}

static void run_thread(void *argument) {
  struct seed *seed = argument;
  give_back(seed);
  enter(seed->note.frame, false);
}

static void make_thread(struct seed *seed) {
  const struct clone_args standard = {
    .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
    .stack = (uint64_t)arena(THREAD_STACK), .stack_size = THREAD_STACK,
  };
  struct clone_args arguments = standard;
  if (has_same_pid) arguments.set_tid = (uint64_t)&seed->note.tid, arguments.set_tid_size = 1;
  long tid = arch_clone(&arguments, sizeof arguments, run_thread, seed);
  if (failed(tid) && has_same_pid) {
    remark("a thread's id is taken; it has another one now", 0);
    tid = arch_clone(&standard, sizeof standard, run_thread, seed);
  }
  if (failed(tid)) die(EXIT_HOST, "cannot make a thread", 0, tid);
  seed->tid = tid;
}

void restore_threads(void) {
  const uint32_t count = record_count(NOTE_TYPE_THREAD);
  block = (struct resume_block *)image.image.resume_block;
  if (block->magic != RESUME_MAGIC || block->version != RESUME_VERSION) die(EXIT_UNREADABLE, "the image's resume block is damaged", image.path, 0);
  seeds = arena(count * sizeof *seeds);
  block->generation = image.image.generation;
  block->image_device = image.device;
  block->image_inode = image.inode;
  block->restorer_start = RESTORER_START;
  block->threads_to_come = count;
  for (uint32_t i = 0; i < count; i++) read_record(NOTE_TYPE_THREAD, i, &seeds[i].note, sizeof seeds[i].note);
  seeds[0].tid = call(gettid);
  for (uint32_t i = 1; i < count; i++) make_thread(&seeds[i]);
  restore_timers();
  restore_pending(0, 0);
  give_back(&seeds[0]);
  finish_files();
  block->restorer_size = arena_end() - RESTORER_START; /* no more: an emulator keeps a record of every page */
  enter(seeds[0].note.frame, true);
  __builtin_unreachable();
}
