/* Stops all other threads, each noting its own state, and lets them go again. */
#include "checkpoint.h"
#include <linux/prctl.h>
#include <linux/sched.h>

#define STOP_LIMIT (10 * NANOSECONDS)
#define STOP_COOKIE 0x706f7473ul

/* A thread that takes the stop signal too late finds no scratch any more, or another round's; one that has just found it is counted, and waited for. */
static struct scratch *current;
static uint32_t inside, stopped, released, round;
static struct kernel_action usual; /* what the program has for the stop signal */

ARCH_DEFINE_RESTORER(return_from_stop);

/* glibc: how far behind the thread pointer its rseq area lies, and whether it registered one. */
extern const ptrdiff_t __rseq_offset __attribute__((weak, visibility("default")));
extern const unsigned int __rseq_size __attribute__((weak, visibility("default")));

void note_own_thread(struct scratch *scratch, struct thread_slot *slot, void *info, void *context) {
  struct note_thread *note = &slot->note;
  *slot = (struct thread_slot){0};
  slot->context = (uint64_t)context;
  slot->info = (uint64_t)info;
  note->tid = call(gettid);
  note->frame = (uint64_t)context;
  note->tls = arch_tls();
  note->tls2 = arch_tls2();
  call(prctl, PR_GET_TID_ADDRESS, &note->clear_tid, 0, 0, 0);
  if (note->clear_tid == 0) note->clear_tid = usual_clear_tid();
  call(get_robust_list, 0, &note->robust_head, &note->robust_length);
  if (&__rseq_size != 0 && __rseq_size != 0) {
    note->rseq_address = note->tls + __rseq_offset;
    note->rseq_length = 32;
    note->rseq_signature = ARCH_RSEQ_SIGNATURE;
  }
  /* glibc keeps the tid where the kernel clears it, musl in the thread's descriptor. */
  if (note->clear_tid != 0 && *(uint32_t *)note->clear_tid == note->tid) note->cached_tid = note->clear_tid;
  else if (note->tls != 0 && *(uint32_t *)(note->tls + ARCH_MUSL_TID) == note->tid) note->cached_tid = note->tls + ARCH_MUSL_TID;
  note->signal_mask = arch_signal_mask(context);
  const struct ucontext *frame = context;
  note->alternate_stack = (uint64_t)frame->uc_stack.ss_sp;
  note->alternate_stack_size = frame->uc_stack.ss_size;
  note->alternate_stack_flags = frame->uc_stack.ss_flags;
  struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t more[4]; } scheduling = {0};
  call(sched_getattr, 0, &scheduling, sizeof scheduling, 0);
  note->nice = scheduling.nice;
  note->scheduler_policy = scheduling.policy | (scheduling.flags & 1 ? 0x40000000 : 0) /* SCHED_RESET_ON_FORK */;
  note->scheduler_priority = scheduling.priority;
  note_pending(scratch, note->tid);
}

void note_what_copies_have(struct note_thread *note) {
  uint64_t processors[64];
  call(prctl, PR_GET_NAME, note->name, 0, 0, 0);
  if (call(sched_getaffinity, 0, sizeof processors, processors) > 0) note->affinity = processors[0];
}

static struct scratch *enter(void) {
  __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
  return __atomic_load_n(&current, __ATOMIC_SEQ_CST);
}

static void leave(void) {
  __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
  futex_wake(&inside, false);
}

static void stand_still(struct scratch *scratch, siginfo_t *info, void *context) {
  const uint32_t index = __atomic_fetch_add(&scratch->thread_count, 1, __ATOMIC_ACQ_REL);
  if (index < MAX_THREADS) {
    note_own_thread(scratch, &scratch->threads[index], info, context);
    note_what_copies_have(&scratch->threads[index].note);
  }
  __atomic_add_fetch(&stopped, 1, __ATOMIC_ACQ_REL);
  futex_wake(&stopped, false);
  while (__atomic_load_n(&released, __ATOMIC_ACQUIRE) == 0) futex_wait(&released, 0, false, NANOSECONDS);
}

static void on_stop_signal(int signal, siginfo_t *info, void *context) {
  const uint64_t value = (uint64_t)info->si_value.sival_ptr;
  if (info->si_code != -1 || (uint32_t)value != STOP_COOKIE) { /* the C library's own use of this signal */
    if (usual.handler > 1) ((void (*)(int, siginfo_t *, void *))usual.handler)(signal, info, context);
    return;
  }
  struct scratch *scratch = enter();
  if (scratch != 0 && value >> 32 == round) stand_still(scratch, info, context);
  leave();
  set_back_interrupted_call(context);
}

bool send_stop(uint32_t tid) {
  siginfo_t info = {0};
  info.si_signo = STOP_SIGNAL;
  info.si_code = -1;
  info.si_pid = call(getpid);
  info.si_value.sival_ptr = (void *)(STOP_COOKIE | (uint64_t)round << 32);
  return !failed(call(rt_tgsigqueueinfo, info.si_pid, tid, STOP_SIGNAL, &info));
}

void stop_here(void) {
  if (enter() != 0) send_stop(call(gettid));
  leave();
}

/* What still waits for a thread would end the program once nobody handles it any more. To ignore a signal throws away all that wait. */
static void take_back_stops(void) {
  const struct kernel_action ignore = {.handler = 1 /* SIG_IGN */};
  call(rt_sigaction, STOP_SIGNAL, &ignore, 0, 8);
}

bool stop_threads(struct scratch *scratch) {
  const struct kernel_action action = {
    .handler = (uint64_t)on_stop_signal,
    .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | ARCH_ACTION_FLAGS,
    .restorer = (uint64_t)return_from_stop,
    .mask = ~0ul,
  };
  if (is_only_thread()) return true;
  stopped = released = 0;
  round++;
  __atomic_store_n(&current, scratch, __ATOMIC_SEQ_CST);
  call(rt_sigaction, STOP_SIGNAL, 0, &usual, 8);
  call(rt_sigaction, STOP_SIGNAL, &action, 0, 8);
  scratch->stop_action = usual;
  const uint64_t limit = clock_nanoseconds(1) + STOP_LIMIT;
  for (;;) {
    const uint32_t seen = __atomic_load_n(&stopped, __ATOMIC_ACQUIRE);
    uint32_t signalled_now = 0;
    const uint32_t others = stop_others(scratch, &signalled_now);
    if (signalled_now == 0 && others <= seen) break; /* who stood still then has made no thread since */
    /* One that was ending never stops; then the wait is short, and it is looked again who is there. */
    for (uint32_t now; (now = __atomic_load_n(&stopped, __ATOMIC_ACQUIRE)) < others;)
      if (futex_wait(&stopped, now, false, NANOSECONDS / 200) == ERROR_TIMED_OUT) break;
    if (clock_nanoseconds(1) < limit) continue;
    struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
    put(&message, "error ");
    put_decimal(&message, others - stopped);
    put(&message, " of its threads did not stop within 10 s: they block signal 33, sleep in the kernel, or have ended while "
                  "their process goes on");
    scratch->go = GO_REFUSED;
    take_back_stops();
    return false;
  }
  if (scratch->thread_count < MAX_THREADS - 1) return true;
  struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
  put(&message, "error it has too many threads");
  scratch->go = GO_REFUSED;
  return false;
}

void release_threads(struct scratch *scratch) {
  if (current == 0) return;
  admit_signal_before_others_go_on();
  __atomic_store_n(&current, 0, __ATOMIC_SEQ_CST);
  __atomic_store_n(&released, 1, __ATOMIC_RELEASE);
  futex_wake(&released, false);
  for (uint32_t still; (still = __atomic_load_n(&inside, __ATOMIC_SEQ_CST)) != 0;) futex_wait(&inside, still, false, NANOSECONDS / 10);
  call(rt_sigaction, STOP_SIGNAL, &scratch->stop_action, 0, 8);
}

void forget_threads(void) {
  current = 0;
  inside = 0;
}
