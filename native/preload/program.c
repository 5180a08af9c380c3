/*
 * How threads come to stand still when the checkpointer is linked into a program of `imago cc`: at migration points. The counterpart of
 * library.c. A thread with complete shadow frames comes here from its poll (native/runtime/park.c).
 *
 *   __imago_request   0           nobody wants anything: threads do not come here, and those that are here leave
 *                     PARK        threads wait, for somebody who freezes the program from outside
 *                     CHECKPOINT  threads wait until all of them, and no dying one, are here; then one claims the checkpoint
 *                     CLAIMED     that one raises the checkpoint signal for itself
 *                     STOPPING    every other one raises the stop signal for itself, and notes its state there
 *
 * kill -12 PID asks for a checkpoint; with a file /tmp/imago-park-PID of the own user or root, only for threads that wait.
 * A thread may never come here: those that wait for it look whether the checkpoint is still wanted, and go on when it is not.
 */
#include "checkpoint.h"
#include <linux/elf.h>
#include <linux/stat.h>

enum request { NONE, PARK, CHECKPOINT, CLAIMED, STOPPING };
#define CLAIM_COOKIE 0x6d69616c63ul
#define PATIENCE (30 * NANOSECONDS) /* with a checkpoint that nobody waits for; imago has one of its own */

#define OF_THE_RUNTIME __attribute__((visibility("default")))
extern volatile unsigned long __imago_request OF_THE_RUNTIME, __imago_parked OF_THE_RUNTIME, __imago_threads OF_THE_RUNTIME;
/* musl: how many threads there are besides the first, and a lock that the kernel opens when a thread is gone. */
extern volatile int __thread_list_lock OF_THE_RUNTIME;
int __imago_other_threads(void) OF_THE_RUNTIME;
void __imago_stand_still(void) OF_THE_RUNTIME;

static siginfo_t asked; /* by the signal that began it */
static uint64_t asked_at;
static volatile bool others_asked;
static uint32_t others;

static bool change(enum request from, enum request to) {
  unsigned long expected = from;
  return __atomic_compare_exchange_n(&__imago_request, &expected, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Low half of the word: both ISAs are little-endian. */
static uint32_t *request_futex(void) {
  return (uint32_t *)&__imago_request;
}

static bool only_park(void) {
  TEXT(path, 64);
  struct statx stat;
  put(&path, "/tmp/imago-park-"), put_decimal(&path, call(getpid));
  if (failed(call(statx, AT_FDCWD, path.start, 0x100 /* AT_SYMLINK_NOFOLLOW */, STATX_BASIC_STATS, &stat))) return false;
  if (stat.stx_uid != 0 && stat.stx_uid != (uint32_t)call(geteuid)) return false;
  call(unlinkat, AT_FDCWD, path.start, 0);
  return true;
}

const int request_signal = 0; /* an emulator does not hand on all of them */

bool may_begin(siginfo_t *info) {
  if (__imago_request == CLAIMED && info->si_code == -1 && (uint64_t)info->si_value.sival_ptr == CLAIM_COOKIE) {
    *info = asked;
    return true;
  }
  if (__imago_request != NONE) return false;
  asked = *info;
  asked_at = clock_nanoseconds(1);
  others_asked = false;
  change(NONE, only_park() ? PARK : CHECKPOINT);
  return false;
}

static bool all_are_here(void) {
  return __imago_parked == __imago_threads && (unsigned long)__imago_other_threads() + 1 == __imago_threads && __thread_list_lock == 0;
}

static bool still_wanted(void) {
  if (is_request(&asked)) return request_is_there(&asked);
  return clock_nanoseconds(1) - asked_at < PATIENCE;
}

static void give_up(void) {
  if (!change(CHECKPOINT, NONE)) return;
  if (!is_request(&asked)) say("imago: no checkpoint: a thread did not come to a migration point within 30 s\n");
  futex_wake(request_futex(), false);
}

void __imago_stand_still(void) {
  const uint32_t request = __imago_request;
  if (request == CHECKPOINT && all_are_here() && change(CHECKPOINT, CLAIMED)) {
    siginfo_t info = {0};
    info.si_signo = checkpoint_signal;
    info.si_code = -1;
    info.si_pid = call(getpid);
    info.si_value.sival_ptr = (void *)CLAIM_COOKIE;
    const long self = call(gettid);
    call(rt_tgsigqueueinfo, info.si_pid, self, checkpoint_signal, &info);
  } else if (request == STOPPING) stop_here();
  else if (request == CHECKPOINT && !still_wanted()) give_up();
  else if (request != NONE) futex_wait(request_futex(), request, false, NANOSECONDS / 100);
}

/* All at once: they stand still already. */
uint32_t stop_others(struct scratch *scratch, uint32_t *signalled_now) {
  (void)scratch;
  if (others_asked) return others;
  others_asked = true;
  *signalled_now = others = __imago_parked - 1;
  change(CLAIMED, STOPPING);
  futex_wake(request_futex(), false);
  return others;
}

bool is_only_thread(void) {
  return false;
}

void forget_request(void) {
  __imago_request = NONE;
  futex_wake(request_futex(), false);
}

/* musl opens its list of threads so when one has gone; an emulator forgets it after a restore, and the next exit would wait for ever. */
uint64_t usual_clear_tid(void) {
  return (uint64_t)&__thread_list_lock;
}

/* Under an emulator neighbours with code and without are one mapping, shown as the first of them: the program's own headers tell. */
extern const unsigned char __ehdr_start[] OF_THE_RUNTIME;

uint32_t own_protection(uint64_t start, uint64_t end) {
  const Elf64_Ehdr *elf = (const Elf64_Ehdr *)__ehdr_start;
  const Elf64_Phdr *headers = (const Elf64_Phdr *)(__ehdr_start + elf->e_phoff);
  for (int i = 0; i < elf->e_phnum; i++) {
    const uint64_t from = headers[i].p_vaddr / PAGE * PAGE, to = round_up(headers[i].p_vaddr + headers[i].p_filesz, PAGE);
    if (headers[i].p_type == PT_LOAD && headers[i].p_flags & PF_X && from < end && to > start) return PROT_EXEC;
  }
  return 0;
}
