/* Records of the process, its threads, signals, limits and credentials, and what it has that an image does not keep. */
#include "writer.h"
#include <linux/prctl.h>
#include <linux/time.h>
#include <linux/utsname.h>

static void describe_image(struct writer *writer) {
  struct note_image *image = writer->image;
  const struct scratch *scratch = writer->scratch;
  struct new_utsname name;
  image->version = NOTE_LAYOUT_VERSION;
  image->machine = ARCH_MACHINE;
  image->page_size = PAGE;
  image->flags = (writer->options.force ? IMAGE_FLAG_FORCED : 0) | (writer->options.blocking ? IMAGE_FLAG_BLOCKING : 0) |
                 (writer->options.files ? IMAGE_FLAG_FILES_INCLUDED : 0);
  image->capture_time = scratch->capture_time;
  image->monotonic_time = scratch->start_time;
  image->resume_block = (uint64_t)&imago_resume_block;
  image->resume_version = RESUME_VERSION;
  image->generation = imago_resume_block.generation + 1;
  if (!failed(call(uname, &name))) image->kernel_release = add_string(writer, LIST_IMAGE, name.release, length_of(name.release));
  image->tool = add_string(writer, LIST_IMAGE, "imago libckpt", 13);
}

/* /proc/self/stat of the copy: fields counted from 1; the second is the name in parentheses, which may hold anything. */
static void describe_layout(struct writer *writer) {
  struct note_process *process = writer->process;
  char text[2048];
  uint64_t field[53] = {0};
  if (read_text(AT_FDCWD, "/proc/self/stat", text, sizeof text) <= 0) fail(writer, "read /proc/self/stat", 0);
  const char *at = text;
  for (const char *c = text; *c != 0; c++)
    if (*c == ')') at = c + 1;
  for (int i = 3; i < 53 && *at != 0; i++) {
    skip_spaces(&at);
    if (i == 3 || *at == '-') at++;
    field[i] = take_number(&at, 10);
  }
  process->start_code = field[26];
  process->end_code = field[27];
  process->start_stack = field[28];
  process->start_data = field[45];
  process->end_data = field[46];
  process->start_brk = field[47];
  process->arg_start = field[48];
  process->arg_end = field[49];
  process->env_start = field[50];
  process->env_end = field[51];
  process->brk = call(brk, 0);
}

static struct note_string link_target(struct writer *writer, const char *name) {
  char path[PATH_SIZE];
  const long length = call(readlinkat, AT_FDCWD, name, path, sizeof path);
  return add_string(writer, LIST_PROCESS, path, failed(length) ? 0 : length);
}

static void describe_status(struct writer *writer) {
  LINES(lines, 4096);
  struct note_process *process = writer->process;
  struct note_credential *credential = add_record(writer, LIST_CREDENTIAL);
  if (!open_lines(&lines, writer->self_fd, "status")) return;
  for (char *line; (line = next_line(&lines)) != 0;) {
    const char *at = line;
    while (*at != 0 && *at != ':') at++;
    at += *at == ':';
    skip_spaces(&at);
    if (begins_with(line, "Umask:")) process->umask = take_number(&at, 8);
    else if (begins_with(line, "Uid:") || begins_with(line, "Gid:")) {
      uint32_t *ids = line[0] == 'U' ? &credential->uid : &credential->gid;
      for (int i = 0; i < 4; i++, skip_spaces(&at)) ids[i] = take_number(&at, 10);
    } else if (begins_with(line, "Groups:")) {
      credential->groups.offset = writer->lists[LIST_CREDENTIAL].strings_size;
      while (*at >= '0' && *at <= '9') {
        const uint32_t group = take_number(&at, 10);
        add_string(writer, LIST_CREDENTIAL, (const char *)&group, 4);
        credential->groups.length += 4;
        skip_spaces(&at);
      }
    } else if (begins_with(line, "CapEff:")) credential->capabilities = take_number(&at, 16);
    else if (begins_with(line, "CapPrm:")) credential->permitted_capabilities = take_number(&at, 16);
    else if (begins_with(line, "RssAnon:") || begins_with(line, "RssShmem:") || begins_with(line, "VmSwap:"))
      writer->expected += take_number(&at, 10) * 1024;
    else if (begins_with(line, "NoNewPrivs:") && *at == '1') process->flags |= PROCESS_FLAG_NO_NEW_PRIVILEGES;
    else if (begins_with(line, "Seccomp:") && *at != '0') add_loss(writer, "seccomp filter", "system calls of the program are restricted");
  }
}

static void describe_actions(struct writer *writer) {
  for (uint32_t signal = 1; signal <= 64; signal++) {
    struct kernel_action action = {0, 0, 0, 0};
    if (own_signals & signal_mask(signal)) continue;
    if (signal == STOP_SIGNAL && writer->scratch->thread_count > 1) action = writer->scratch->stop_action;
    else if (failed(call(rt_sigaction, signal, 0, &action, 8))) continue;
    if (action.handler == 0 && action.flags == 0 && action.mask == 0) continue;
    struct note_action *note = add_record(writer, LIST_ACTION);
    *note = (struct note_action){signal, 0, action.handler, action.flags, action.restorer, action.mask};
  }
}

static void describe_limits(struct writer *writer) {
  for (uint32_t resource = 0; resource < 16; resource++) {
    uint64_t limit[2];
    if (failed(call(prlimit64, 0, resource, 0, limit))) continue;
    struct note_limit *note = add_record(writer, LIST_LIMIT);
    *note = (struct note_limit){resource, 0, limit[0], limit[1]};
  }
}

/* The first 64 processors that are there: a thread that may run on all of them is not bound to any. */
static uint64_t all_processors(void) {
  char text[256]; /* such as "0-3,6" */
  uint64_t all = 0;
  if (read_text(AT_FDCWD, "/sys/devices/system/cpu/online", text, sizeof text) <= 0) return ~0ul;
  for (const char *at = text; *at >= '0' && *at <= '9';) {
    const uint64_t first = take_number(&at, 10);
    at += *at == '-';
    const uint64_t last = at[-1] == '-' ? take_number(&at, 10) : first;
    for (uint64_t i = first; i <= last && i < 64; i++) all |= 1ul << i;
    at += *at == ',';
  }
  return all;
}

/* Copies what the threads noted; the thread group leader goes first. */
static void describe_threads(struct writer *writer) {
  struct scratch *scratch = writer->scratch;
  const uint64_t all = all_processors();
  for (int pass = 0; pass < 2; pass++)
    for (uint32_t i = 0; i < scratch->thread_count; i++) {
      const struct note_thread *note = &scratch->threads[i].note;
      if ((note->tid == (uint32_t)scratch->pid) != (pass == 0)) continue;
      struct note_thread *copy = add_record(writer, LIST_THREAD);
      *copy = *note;
      if ((copy->affinity & all) == all) copy->affinity = 0;
      if (note->tid == (uint32_t)scratch->leader_tid) copy->flags |= THREAD_FLAG_REQUESTED;
    }
  const struct note_thread *first = record_at(&writer->lists[LIST_THREAD], 0);
  if (first->tid != (uint32_t)scratch->pid) fail(writer, "keep a process whose first thread has ended", 0);
  for (int i = 0; i < 16; i++) writer->process->name[i] = first->name[i];
}

static void describe_signals_and_timers(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  for (uint32_t i = 0; i < scratch->pending_count && i < MAX_PENDING; i++)
    if (scratch->pending[i].signal != 0) *(struct note_pending *)add_record(writer, LIST_PENDING) = scratch->pending[i];
  for (uint32_t i = 0; i < scratch->interval_timer_count; i++)
    *(struct note_interval_timer *)add_record(writer, LIST_INTERVAL_TIMER) = scratch->interval_timers[i];
  for (uint32_t i = 0; i < scratch->timer_count; i++)
    *(struct note_posix_timer *)add_record(writer, LIST_POSIX_TIMER) = scratch->timers[i];
}

static void find_children(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  for (uint32_t i = 0; i < scratch->thread_count; i++) {
    TEXT(path, 64);
    char children[256];
    put(&path, "task/"), put_decimal(&path, scratch->threads[i].note.tid), put(&path, "/children");
    if (read_text(scratch->process_fd, path.start, children, sizeof children) <= 0) continue;
    TEXT(others, 256);
    for (const char *at = children; *at != 0;) {
      const uint32_t pid = take_number(&at, 10);
      skip_spaces(&at);
      if (pid == 0) break;
      if (pid != (uint32_t)scratch->copy && pid != (uint32_t)call(getpid)) put_decimal(&others, pid), put(&others, " ");
    }
    if (others.at != others.start) add_loss(writer, "child processes", others.start);
  }
}

static uint64_t number_after(const char *text, const char *name) {
  const char *at = find_text(text, name);
  if (at == 0) return 0;
  at += length_of(name);
  skip_spaces(&at);
  return take_number(&at, 10);
}

/*
 * To ask a program that stands for its size takes long, beside all else that is asked; and most have as much memory as they ever had. Such a one is
 * asked when it has gone on, how much that was: no more than its copy has, so nothing of it was forbidden to be copied (MADV_DONTFORK).
 */
static void compare_with_peak(struct writer *writer, uint64_t most_pages) {
  struct scratch *scratch = writer->scratch;
  const bool is_at_peak = most_pages == writer->pages;
  scratch->is_settled = is_at_peak && scratch->copied_pages == writer->pages;
  scratch->copied_pages = writer->pages;
  if (scratch->pages != 0 || is_at_peak) return;
  if (most_pages == 0) fail(writer, "describe a program that has ended", 0);
  ask_for_standing(writer);
}

/* Once the program has gone on it is asked as it is then: a debugger comes and goes by itself, and who unlocks memory just now does not miss it. */
static void describe_what_is_not_inherited(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  char status[2048];
  TEXT(path, 64);
  TEXT(tracer, 32);
  if (!writer->program_stands) put(&path, "/proc/"), put_decimal(&path, scratch->pid), put(&path, "/");
  put(&path, "status");
  if (read_text(writer->program_stands ? scratch->process_fd : AT_FDCWD, path.start, status, sizeof status) <= 0) status[0] = 0;
  compare_with_peak(writer, number_after(status, "\nVmPeak:") * 1024 / PAGE);
  writer->has_locked_memory = number_after(status, "\nVmLck:") > 0;
  if (writer->has_locked_memory && !writer->program_stands) ask_for_standing(writer);
  put_decimal(&tracer, number_after(status, "\nTracerPid:"));
  if (!same_text(tracer.start, "0")) add_loss(writer, "a debugger attached to it", tracer.start);
}

/** What only the program has, not its copy: while it stands still, or as it was noted. */
void describe_what_changes(struct writer *writer) {
  writer->image = add_record(writer, LIST_IMAGE);
  writer->process = add_record(writer, LIST_PROCESS);
  describe_what_is_not_inherited(writer);
  if (writer->scratch->has_children) find_children(writer);
}

/** What its copy has, too. Whole names of /proc/self, which an emulator knows. */
void describe_process(struct writer *writer) {
  struct note_process *process = writer->process;
  describe_image(writer);
  describe_status(writer);
  describe_threads(writer);
  describe_layout(writer);
  describe_actions(writer);
  describe_signals_and_timers(writer);
  describe_limits(writer);
  process->pid = writer->scratch->pid;
  process->parent = writer->scratch->parent;
  process->process_group = writer->scratch->process_group;
  process->session = writer->scratch->session;
  process->personality = call(personality, 0xffffffff);
  process->dumpable = call(prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
  process->timer_slack = call(prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
  if (writer->scratch->child_subreaper) process->flags |= PROCESS_FLAG_CHILD_SUBREAPER;
  if (call(prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) process->flags |= PROCESS_FLAG_HUGE_PAGES_DISABLED;
  process->executable = link_target(writer, "/proc/self/exe");
  process->working_directory = link_target(writer, "/proc/self/cwd");
  process->root_directory = link_target(writer, "/proc/self/root");
}
