/* The program's side: the constructor, the checkpoint signal, the fork of the writer, and how a restored thread goes on. */
#include "checkpoint.h"
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>

int checkpoint_signal = 12; /* SIGUSR2 */
static struct options defaults;
static uint32_t busy, checkpoints_taken;
static int32_t last_writer;

ARCH_DEFINE_RESTORER(return_from_signal);

static void enter_resumed(uint64_t frame, uint64_t leader);
struct resume_block imago_resume_block = {.magic = RESUME_MAGIC, .version = RESUME_VERSION, .entry = (uint64_t)enter_resumed};

/* True when there is no such process, or only what nobody has waited for yet; or, with `name`, when it is another one by now. */
static bool has_ended(int32_t pid, const char *name) {
  TEXT(path, 64);
  char stat[64]; /* "4711 (name) S …" */
  if (pid <= 0 || call(kill, pid, 0) == ERROR_NO_SUCH_PROCESS) return true;
  put(&path, "/proc/"), put_decimal(&path, pid), put(&path, "/stat");
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_CLOEXEC, 0);
  if (failed(fd)) return false;
  const long size = call(read, fd, stat, sizeof stat - 1);
  call(close, fd);
  stat[size > 0 ? size : 0] = 0;
  char *end = 0;
  for (char *at = stat; *at != 0; at++)
    if (*at == ')') end = at;
  if (end == 0) return true;
  *end = 0;
  const char *begin = find_text(stat, "(");
  return end[2] == 'Z' || end[2] == 'X' || (name != 0 && !same_text(begin + 1, name));
}

static bool writer_at_work(void) {
  return !has_ended(last_writer, "imago-writer");
}

/*
 * Starts the writer as a grandchild, so that the program never has a child to wait for: a child that shares the memory forks and
 * ends. Its exit signal is 0: no SIGCHLD, and wait(2) without __WALL or __WCLONE does not see it. An emulator (qemu-user) knows neither
 * shared memory nor another exit signal: there it is an ordinary child, whose signal is taken away.
 */
__attribute__((noinline)) static long fork_writer(struct scratch *scratch) {
  const uint64_t child_signal = 1ul << (SIGCHLD - 1);
  uint64_t waiting = 0;
  uint32_t exit_signal = 0;
  scratch->writer = -1;
  long child = call(clone, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS, 0, 0, 0, 0);
  if (child == ERROR_INVALID) child = call(clone, exit_signal = SIGCHLD, 0, 0, 0, 0);
  if (child == 0) {
    scratch->helper = call(getpid);
    const long grandchild = call(clone, exit_signal, 0, 0, 0, 0);
    if (grandchild == 0) {
      busy = 0; /* in the copy only: as the image shall have it */
      forget_request();
      write_image(scratch, checkpoints_taken);
    }
    scratch->writer = grandchild;
    call(exit, 0);
  }
  if (failed(child)) return child;
  if (exit_signal != 0) call(rt_sigpending, &waiting, 8);
  while (call(wait4, child, 0, exit_signal == 0 ? __WCLONE : 0, 0) == ERROR_INTERRUPTED) {}
  if (exit_signal != 0 && !(waiting & child_signal)) {
    const struct time_pair now = {0, 0};
    call(rt_sigtimedwait, &child_signal, 0, &now, 8);
  }
  return scratch->writer;
}

/* Waits until the writer lets the program go on. */
static void wait_for_writer(struct scratch *scratch, long writer) {
  while (__atomic_load_n(&scratch->go, __ATOMIC_ACQUIRE) == GO_WAIT) {
    futex_wait(&scratch->go, GO_WAIT, true, NANOSECONDS);
    if (has_ended(writer, 0) && scratch->go == GO_WAIT) {
      struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
      put(&message, "the process that writes the image was killed");
      scratch->go = GO_REFUSED;
    }
  }
}

static void refuse(struct scratch *scratch, const char *why, long error) {
  struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
  put(&message, "error "), put(&message, why);
  if (error != 0) put(&message, ": error "), put_decimal(&message, -error);
  scratch->go = GO_REFUSED;
}

/* imago asks for one while another is being taken: it shall not wait for an answer. */
static void turn_away(const siginfo_t *info) {
  struct options *options = (struct options *)call(mmap, 0, round_up(sizeof *options, PAGE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (failed((long)options)) return;
  if (read_request(options, info)) reply_line(options, "error another checkpoint of it is just being taken");
  call(munmap, options, round_up(sizeof *options, PAGE));
}

static void checkpoint(siginfo_t *info, void *context) {
  const uint64_t start = clock_nanoseconds(1);
  struct scratch *scratch = (struct scratch *)call(mmap, 0, round_up(sizeof *scratch, PAGE), PROT_READ | PROT_WRITE,
                                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (failed((long)scratch)) {
    say("imago: no checkpoint: no address space left\n");
    forget_request();
    return;
  }
  scratch->size = round_up(sizeof *scratch, PAGE);
  scratch->start_time = start;
  scratch->pid = call(getpid);
  scratch->parent = call(getppid);
  scratch->process_group = call(getpgid, 0);
  scratch->session = call(getsid, 0);
  scratch->leader_tid = call(gettid);
  scratch->options = defaults;
  if (is_request(info) && !read_request(&scratch->options, info)) { /* imago has gone, or wants nothing any more */
    forget_request();
    call(munmap, scratch, scratch->size);
    return;
  }
  scratch->process_fd = call(openat, AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  scratch->maps_fd = call(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (writer_at_work()) refuse(scratch, "the last one is still being written", 0);
  else if (scratch->process_fd < 0 || scratch->maps_fd < 0) refuse(scratch, "/proc is not there", scratch->process_fd);
  else if (place_identity(scratch->process_fd, PLACE_PID_FOR_CHILDREN) != inherited_places[PLACE_PID_FOR_CHILDREN])
    refuse(scratch, "keep a program that has left its pid namespace for its children: the writer would be one of them", 0);
  else if (stop_threads(scratch)) {
    scratch->capture_time = clock_nanoseconds(0);
    note_own_thread(scratch, &scratch->threads[__atomic_fetch_add(&scratch->thread_count, 1, __ATOMIC_ACQ_REL)], info, context);
    note_pending(scratch, 0);
    note_timers(scratch);
    scratch->has_children = call(waitid, 0 /* P_ALL */, 0, 0, WEXITED | WNOHANG | WNOWAIT | __WALL, 0) != ERROR_NO_CHILD;
    call(prctl, PR_GET_CHILD_SUBREAPER, &scratch->child_subreaper, 0, 0, 0);
    checkpoints_taken++;
    const long writer = fork_writer(scratch);
    if (failed(writer)) refuse(scratch, "fork", writer);
    else {
      last_writer = writer;
      wait_for_writer(scratch, writer);
    }
  }
  forget_request(); /* before threads look at it again */
  release_threads(scratch);
  if (scratch->process_fd >= 0) call(close, scratch->process_fd);
  if (scratch->maps_fd >= 0) call(close, scratch->maps_fd);
  if (scratch->go == GO_REFUSED) {
    checkpoints_taken -= checkpoints_taken > 0;
    tell_refusal(&scratch->options, scratch->message);
  }
  call(munmap, scratch, scratch->size);
}

static void on_checkpoint_signal(int signal, siginfo_t *info, void *context) {
  (void)signal;
  uint32_t idle = 0;
  if (!__atomic_compare_exchange_n(&busy, &idle, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    if (is_request(info)) turn_away(info);
    set_back_interrupted_call(context);
    return;
  }
  if (may_begin(info)) checkpoint(info, context);
  set_back_interrupted_call(context);
  __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

static void install(void) {
  const struct kernel_action action = {
    .handler = (uint64_t)on_checkpoint_signal,
    .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | ARCH_ACTION_FLAGS,
    .restorer = (uint64_t)return_from_signal,
    .mask = ~0ul,
  };
  call(rt_sigaction, checkpoint_signal, &action, 0, 8);
}

/* Where a restored thread comes in: on its own stack, below its signal frame, with all signals blocked. */
static void go_on(uint64_t frame, uint64_t leader) {
  struct resume_block *block = &imago_resume_block;
  if (leader) { /* before any thread takes signals again */
    install();
    forget_request(); /* of who froze it from outside, when criu did */
    refresh_what_is_inherited();
  }
  if (__atomic_sub_fetch(&block->threads_to_come, 1, __ATOMIC_ACQ_REL) == 0) futex_wake(&block->threads_to_come, false);
  for (uint32_t left; (left = __atomic_load_n(&block->threads_to_come, __ATOMIC_ACQUIRE)) != 0;)
    futex_wait(&block->threads_to_come, left, false, NANOSECONDS);
  if (leader) call(munmap, block->restorer_start, block->restorer_size);
  set_back_interrupted_call((struct ucontext *)frame);
  arch_return_to_frame(frame);
}

static void enter_resumed(uint64_t frame, uint64_t leader) {
  arch_call_on_stack(frame - 512, (uint64_t)go_on, frame, leader);
}

__attribute__((constructor)) static void start(void) {
  read_environment(&defaults);
  note_what_is_inherited();
  crc32(0, 0, 0); /* makes its tables, which takes as long as a small file takes to copy */
  install();
}
