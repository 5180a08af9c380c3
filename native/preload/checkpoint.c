/* The program's side: the constructor, the checkpoint signal, the fork of the writer, and how a restored thread goes on. */
#include "checkpoint.h"
#include <linux/prctl.h>
#include <linux/stat.h>
#include <linux/wait.h>

#define USUAL_SIGNAL 12 /* SIGUSR2 */

int checkpoint_signal = USUAL_SIGNAL;
uint64_t own_signals;
static struct options defaults;
static uint32_t busy; /* the id of the thread that takes a checkpoint, or ends a restore; 0: none does */
static uint32_t has_led; /* that thread: it has only to return */
static uint32_t checkpoints_taken;
static struct scratch *kept; /* for the next checkpoint of the process `keeper`; one that was forked since makes its own */
static int32_t keeper;

ARCH_DEFINE_RESTORER(return_from_signal);

static void enter_resumed(uint64_t frame, uint64_t leader);
static void on_checkpoint_signal(int signal, siginfo_t *info, void *context);
struct resume_block imago_resume_block = {.magic = RESUME_MAGIC, .version = RESUME_VERSION, .entry = (uint64_t)enter_resumed};

void become_writer(struct scratch *scratch) {
  busy = 0; /* in the copy only: as the image shall have it */
  kept = 0;
  forget_threads();
  forget_request();
  write_image(scratch, checkpoints_taken);
}

static void refuse(struct scratch *scratch, const char *why, long error) {
  struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
  put(&message, "error "), put(&message, why);
  if (error != 0) put(&message, ": error "), put_decimal(&message, -error);
  scratch->go = GO_REFUSED;
}

/* imago asks for one while another is being taken: it shall not wait for an answer. */
static void turn_away(const siginfo_t *info) {
  struct answer {
    struct options options;
    char request[REQUEST_SIZE];
  } *answer = (struct answer *)call(mmap, 0, round_up(sizeof *answer, PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (failed((long)answer)) return;
  if (read_request(&answer->options, answer->request, info))
    reply_line(&answer->options, "error another checkpoint of it is just being taken");
  call(munmap, answer, round_up(sizeof *answer, PAGE));
}

static void take_defaults(struct options *options) {
  size_t i = 0;
  do options->output[i] = defaults.output[i];
  while (defaults.output[i++] != 0);
  options->reply[0] = 0;
  options->force = defaults.force, options->blocking = defaults.blocking, options->hold = defaults.hold, options->files = defaults.files;
  options->stand = 0;
}

/* That of the last checkpoint, unless its writer may still need it. */
static struct scratch *take_kept(int32_t pid, bool at_work) {
  struct scratch *scratch = kept;
  if (scratch == 0 || (at_work && keeper == pid)) return 0;
  kept = 0;
  if (keeper == pid && (!__atomic_load_n(&scratch->is_being_written, __ATOMIC_ACQUIRE) || has_ended(scratch->writer, 0))) {
    if (scratch->thread_count > 1) call(madvise, scratch->signalled, sizeof scratch->signalled, 9 /* MADV_REMOVE */);
    memset(scratch, 0, offsetof(struct scratch, options));
    return scratch;
  }
  call(munmap, scratch, round_up(sizeof *scratch, PAGE));
  return 0;
}

static struct scratch *make_scratch(bool at_work) {
  const int32_t pid = call(getpid);
  struct scratch *scratch = take_kept(pid, at_work);
  if (scratch == 0)
    scratch = (struct scratch *)call(mmap, 0, round_up(sizeof *scratch, PAGE), PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (failed((long)scratch)) {
    say("imago: no checkpoint: no address space left\n");
    return 0;
  }
  scratch->size = round_up(sizeof *scratch, PAGE);
  scratch->process_fd = scratch->maps_fd = -1;
  scratch->pid = pid;
  scratch->parent = call(getppid);
  scratch->leader_tid = call(gettid);
  take_defaults(&scratch->options);
  return scratch;
}

/* A namespace that nobody lives in yet is there without an identity. */
static bool children_live_elsewhere(int process) {
  const char *const path = place_paths[PLACE_PID_FOR_CHILDREN];
  const uint64_t place = place_identity(process, PLACE_PID_FOR_CHILDREN);
  struct statx stat;
  if (place != inherited_places[PLACE_PID_FOR_CHILDREN]) return true;
  return place == 0 && !failed(call(statx, process, path, 0x100 /* AT_SYMLINK_NOFOLLOW */, STATX_TYPE, &stat));
}

/* By pid: /proc/self takes longer. The writer knows whether it is the same. */
static uint64_t pages_of(int32_t pid) {
  TEXT(statm, 32);
  put(&statm, "/proc/"), put_decimal(&statm, pid), put(&statm, "/statm");
  return total_pages(AT_FDCWD, statm.start);
}

/* What the copy needs of a program that stands. False, with the reason, where there is none, or the copy would be in another pid namespace. */
static bool prepare_to_stand(struct scratch *scratch) {
  scratch->process_fd = call(openat, AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  scratch->maps_fd = call(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (scratch->process_fd < 0 || scratch->maps_fd < 0) refuse(scratch, "/proc is not there", scratch->process_fd);
  else if (children_live_elsewhere(scratch->process_fd))
    refuse(scratch, "it has left its pid namespace for its children: the writer would be one of them", 0);
  if (scratch->pages == 0) scratch->pages = pages_of(scratch->pid);
  return scratch->go != GO_REFUSED;
}

/* All threads stand still. */
static void note_and_fork(struct scratch *scratch, siginfo_t *info, void *context) {
  scratch->capture_time = clock_nanoseconds(0);
  scratch->has_children = call(waitid, 0 /* P_ALL */, 0, 0, WEXITED | WNOHANG | WNOWAIT | __WALL, 0) != ERROR_NO_CHILD;
  note_own_thread(scratch, &scratch->threads[__atomic_fetch_add(&scratch->thread_count, 1, __ATOMIC_ACQ_REL)], info, context);
  note_pending(scratch, 0);
  note_timers(scratch);
  call(prctl, PR_GET_CHILD_SUBREAPER, &scratch->child_subreaper, 0, 0, 0);
  if (!scratch->is_settled) scratch->pages = pages_of(scratch->pid);
  if (shares_nothing(scratch) && start_reaper(scratch)) scratch->go = GO_RUN, scratch->goes_on_at_once = 1;
  else if (!prepare_to_stand(scratch)) return;
  if (!scratch->options.stand) checkpoints_taken++; /* else it is counted already */
  const long copy = fork_writer(scratch);
  if (failed(copy)) refuse(scratch, "fork", copy), scratch->goes_on_at_once = 0;
  else if (!scratch->goes_on_at_once) wait_for_copy(scratch), wait_for_writer(scratch);
  if (scratch->go == GO_REFUSED) checkpoints_taken--;
}

/*
 * A signal for the process wakes one thread that does not block it; but any such thread may take it that looks first. So a thread that waits can be
 * woken for nothing by another that unblocks the signal a moment later: its epoll_wait ends with EINTR, and no handler of ours has run there to set
 * it back. Therefore the thread that leads admits the signal again before any other goes on, and blocks it only while it returns itself.
 */
void admit_signal_before_others_go_on(void) {
  __atomic_store_n(&has_led, 1, __ATOMIC_RELEASE);
  call(rt_sigprocmask, 1 /* SIG_UNBLOCK */, &own_signals, 0, 8);
}

/* Those that the program has taken for itself are its own. */
static void give_away_signals(void) {
  struct kernel_action action;
  for (int signal = 1; signal <= 64; signal++)
    if (own_signals & signal_mask(signal) && !failed(call(rt_sigaction, signal, 0, &action, 8)) && action.handler != (uint64_t)on_checkpoint_signal)
      own_signals &= ~signal_mask(signal);
}

static void checkpoint(siginfo_t *info, void *context) {
  const uint64_t start = clock_nanoseconds(1);
  give_away_signals();
  const bool at_work = writer_at_work(keeper == (int32_t)call(getpid) ? kept : 0);
  struct scratch *scratch = make_scratch(at_work);
  if (scratch == 0) return forget_request();
  scratch->start_time = start;
  if (is_request(info) && !read_request(&scratch->options, scratch->request, info)) { /* imago has gone, or wants nothing any more */
    forget_request();
    call(munmap, scratch, scratch->size);
    return;
  }
  if (at_work) refuse(scratch, "the last one is still being written", 0);
  else if (stop_threads(scratch)) note_and_fork(scratch, info, context);
  forget_request(); /* before threads look at it again */
  release_threads(scratch);
  if (scratch->process_fd >= 0) call(close, scratch->process_fd);
  if (scratch->maps_fd >= 0) call(close, scratch->maps_fd);
  if (scratch->go == GO_REFUSED) tell_refusal(&scratch->options, scratch->message);
  const bool is_kept = scratch->goes_on_at_once;
  if (is_kept) keeper = scratch->pid, kept = scratch;
  __atomic_store_n(&scratch->pause, clock_nanoseconds(1) - start, __ATOMIC_RELEASE);
  if (!is_kept) call(munmap, scratch, scratch->size);
}

/* What has come while this thread blocked it has woken another one, if that may take it; so that one is given a moment to. */
static void leave_signal_to_others(void) {
  const struct time_pair moment = {0, NANOSECONDS / 5000};
  uint64_t waiting = 0;
  for (int i = 0; i < 50; i++) {
    call(rt_sigpending, &waiting, 8);
    if (!(waiting & own_signals) || is_only_thread()) return;
    call(nanosleep, &moment, 0);
  }
}

/* Came while this thread leads, and only waits for others: to be sent again. */
static siginfo_t put_off;

static void return_from_leading(void) {
  const long process = call(getpid);
  __atomic_store_n(&has_led, 1, __ATOMIC_RELEASE);
  call(rt_sigprocmask, 0 /* SIG_BLOCK */, &own_signals, 0, 8);
  leave_signal_to_others();
  if (put_off.si_signo != 0) call(rt_tgsigqueueinfo, process, busy, put_off.si_signo, &put_off);
  put_off.si_signo = 0;
  __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

/*
 * False when another thread is at work, or this one has been interrupted while it led; `leader` tells which. One that has only to return is waited
 * for; one that has stayed behind when this process was forked leads nothing here.
 */
static bool begins_to_lead(uint32_t self, uint32_t *leader) {
  const struct time_pair moment = {0, NANOSECONDS / 10000};
  const long process = call(getpid);
  for (;;) {
    *leader = 0;
    if (__atomic_compare_exchange_n(&busy, leader, self, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return true;
    if (call(tgkill, process, *leader, 0) == ERROR_NO_SUCH_PROCESS) __atomic_compare_exchange_n(&busy, leader, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    else if (*leader == self || !__atomic_load_n(&has_led, __ATOMIC_ACQUIRE)) return false;
    else call(nanosleep, &moment, 0);
  }
}

static void on_checkpoint_signal(int signal, siginfo_t *info, void *context) {
  const uint32_t self = call(gettid);
  uint32_t leader;
  (void)signal;
  if (begins_to_lead(self, &leader)) {
    has_led = 0;
    if (may_begin(info)) checkpoint(info, context);
    set_back_interrupted_call(context);
    return_from_leading();
    return;
  }
  if (leader == self && put_off.si_signo == 0) put_off = *info;
  else if (is_request(info)) turn_away(info);
  set_back_interrupted_call(context);
}

static void install(void) {
  const struct kernel_action action = {
    .handler = (uint64_t)on_checkpoint_signal,
    .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | ARCH_ACTION_FLAGS,
    .restorer = (uint64_t)return_from_signal,
    .mask = ~0ul,
  };
  for (int signal = 1; signal <= 64; signal++)
    if (own_signals & signal_mask(signal)) call(rt_sigaction, signal, &action, 0, 8);
}

static void wait_for_threads(uint32_t *still_to_come, uint32_t enough) {
  for (uint32_t left; (left = __atomic_load_n(still_to_come, __ATOMIC_ACQUIRE)) > enough;) futex_wait(still_to_come, left, false, NANOSECONDS);
}

/* Where a restored thread comes in: on its own stack, below its signal frame, with all signals blocked. The leader comes last. */
static void go_on(uint64_t frame, uint64_t leader) {
  struct resume_block *block = &imago_resume_block;
  struct ucontext *context = (struct ucontext *)frame;
  if (leader) {
    install();
    forget_request(); /* of who froze it from outside, when criu did */
    refresh_what_is_inherited();
    wait_for_threads(&block->threads_to_come, 1);
    call(munmap, block->restorer_start, block->restorer_size);
    busy = call(gettid);
    has_led = 1;
    if (!(arch_signal_mask(context) & own_signals)) admit_signal_before_others_go_on();
  }
  __atomic_sub_fetch(&block->threads_to_come, 1, __ATOMIC_ACQ_REL);
  futex_wake(&block->threads_to_come, false);
  wait_for_threads(&block->threads_to_come, 0);
  set_back_interrupted_call(context);
  if (leader) return_from_leading();
  arch_return_to_frame(frame);
}

static void enter_resumed(uint64_t frame, uint64_t leader) {
  arch_call_on_stack(frame - 512, (uint64_t)go_on, frame, leader);
}

__attribute__((constructor)) static void start(void) {
  read_environment(&defaults);
  own_signals = signal_mask(checkpoint_signal);
  if (checkpoint_signal == USUAL_SIGNAL && request_signal != 0) own_signals |= signal_mask(request_signal);
  note_what_is_inherited();
  crc32(0, 0, 0); /* makes its tables, which takes as long as a small file takes to copy */
  install();
}
