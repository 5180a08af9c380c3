/* The writer: what it does, in order. See checkpoint.h. */
#include "writer.h"
#include <linux/prctl.h>

#define WRITER_STACK (512 * 1024ul)
#define NOTED_AND_KEPT (64 * 1024ul) /* what the program has noted may keep so much memory until the next checkpoint */
#define WRITER_SIZE (round_up(sizeof(struct writer), PAGE) + WRITER_STACK)

static void say_go(struct scratch *scratch, uint32_t what) {
  __atomic_store_n(&scratch->go, what, __ATOMIC_RELEASE);
  futex_wake(&scratch->go, true);
}

/* From here on another checkpoint may begin, and take the scratch for itself, unless the program still stands. */
static void admit_another(struct writer *writer) {
  struct scratch *scratch = writer->scratch;
  if (scratch->noted_size > NOTED_AND_KEPT) call(madvise, scratch->noted, NOTED_ROOM, 9 /* MADV_REMOVE: for both sides */);
  call(prctl, PR_SET_NAME, "imago-done", 0, 0, 0);
  __atomic_store_n(&scratch->is_being_written, 0, __ATOMIC_RELEASE);
}

/* Ends without an image. The reason is for the program to tell, once it goes on; if it does already, it is told here. */
static __attribute__((noreturn)) void give_up(struct writer *writer, const char *why) {
  struct scratch *scratch = writer->scratch;
  if (writer->temporary[0] != 0) call(unlinkat, AT_FDCWD, writer->temporary, 0);
  admit_another(writer);
  if (writer->program_stands && scratch->go == GO_WAIT) {
    struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
    put(&message, why);
    say_go(scratch, GO_REFUSED);
  } else tell_refusal(&writer->options, why);
  call(exit_group, 1);
  __builtin_unreachable();
}

void fail(struct writer *writer, const char *what, long error) {
  TEXT(text, MESSAGE_SIZE);
  put(&text, "error cannot "), put(&text, what);
  if (error == -28) put(&text, ": no space left on the device");
  else if (error != 0) put(&text, ": error "), put_decimal(&text, -error);
  give_up(writer, text.start);
}

void *allocate(struct writer *writer, size_t size) {
  if (size == 0) return 0;
  void *memory = (void *)call(mmap, 0, round_up(size, PAGE), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (failed((long)memory)) fail(writer, "get memory", (long)memory);
  return memory;
}

/* That the program took the checkpoint signal in, and forked. */
static struct thread_slot *asked_thread(struct scratch *scratch) {
  return &scratch->threads[scratch->thread_count - 1]; /* it notes itself last */
}

/* Ends, too, and the program is asked once more. */
static __attribute__((noreturn)) void stand_for_another(struct scratch *scratch) {
  ask_again(&scratch->options, scratch->pid, (const siginfo_t *)asked_thread(scratch)->info);
  call(exit_group, 0);
  __builtin_unreachable();
}

void ask_for_standing(struct writer *writer) {
  call(prctl, PR_SET_NAME, "imago-done", 0, 0, 0);
  stand_for_another(writer->scratch);
}

/* Where something would be lost that nobody has agreed to lose: names every loss, one line each, and ends. */
static void refuse_losses(struct writer *writer) {
  const struct list *list = &writer->lists[LIST_LOSS];
  if (list->count == 0 || writer->options.force) return;
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_loss *loss = record_at(list, i);
    TEXT(line, MESSAGE_SIZE);
    put(&line, writer->options.reply[0] != 0 ? "loss " : "imago: cannot keep ");
    put_bytes(&line, list->strings + loss->what.offset, loss->what.length);
    if (writer->options.reply[0] != 0) reply_line(&writer->options, line.start);
    else put(&line, "\n"), say(line.start);
  }
  give_up(writer, "refused");
}

/* Keeps the program standing until imago has verified the image and ended it, or waits no more: it lets it go, or has gone away itself. */
static void hold(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  while (reply_is_awaited(&writer->options) && call(kill, scratch->pid, 0) != ERROR_NO_SUCH_PROCESS) {
    const struct time_pair pause = {0, 5000000};
    call(nanosleep, &pause, 0);
  }
}

/* So that a pipe ends when the program closes it. Standard error stays, for an error still to come. */
static void close_the_programs_files(const struct writer *writer) {
  const uint32_t kept[] = {2, writer->out, writer->memory, writer->pagemap, writer->self_fd};
  for (uint32_t from = 0;;) {
    uint32_t next = ~0u; /* the lowest kept one from here on */
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
      if (kept[i] >= from && kept[i] < next) next = kept[i];
    if (next > from) call(close_range, from, next == ~0u ? ~0u : next - 1, 0);
    if (next == ~0u) return;
    from = next + 1;
  }
}

/* While the program may stand: what it shares, and what would be lost. */
static void describe_first(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  describe_what_changes(writer);
  describe_mappings(writer);
  writer->bounce = allocate(writer, BOUNCE_SIZE);
  begin_early_writes(writer);
  writer->end = PAGE; /* the first page is for the ELF header, written last */
  describe_files(writer);
  refuse_losses(writer);
  write_kept_content(writer);
  write_mappings(writer, true);
  if (writer->has_locked_memory) describe_advice(writer, scratch->process_fd);
  /* Of a program that is killed /proc shows less and less. */
  if (writer->program_stands && total_pages(scratch->process_fd, "statm") == 0) fail(writer, "describe a program that has been killed", 0);
  close_the_programs_files(writer);
}

/* How long the program stood still: it says so when it goes on. */
static uint64_t pause_of(const struct scratch *scratch) {
  const uint64_t said = __atomic_load_n(&scratch->pause, __ATOMIC_ACQUIRE);
  return said != 0 ? said : clock_nanoseconds(1) - scratch->start_time;
}

static void write_on_own_stack(uint64_t address, uint64_t unused) {
  struct writer *writer = (struct writer *)address;
  struct scratch *scratch = writer->scratch;
  (void)unused;
  note_what_copies_have(&asked_thread(scratch)->note);
  call(prctl, PR_SET_NAME, "imago-writer", 0, 0, 0);
  scratch->process_group = call(getpgid, 0), scratch->session = call(getsid, 0); /* the program's */
  call(setsid); /* while it ends, it shall not keep the program's session, and so its pid, taken */
  make_lists(writer, (unsigned char *)writer + WRITER_SIZE);
  describe_first(writer);
  if (!writer->options.blocking && writer->program_stands) say_go(scratch, GO_RUN);
  TEXT(line, 64);
  put(&line, "writer "), put_decimal(&line, call(getpid));
  reply_line(&writer->options, line.start);
  describe_process(writer);
  settle_mappings(writer);
  find_what_is_outside(writer, writer->self_fd);
  if (!writer->has_locked_memory) describe_advice(writer, writer->self_fd);
  refuse_losses(writer);
  write_what_was_early(writer);
  remove_stale_files(writer);
  write_mappings(writer, false);
  writer->image->pause = pause_of(scratch);
  write_headers(writer);
  put_in_place(writer);
  admit_another(writer);
  TEXT(done, PATH_SIZE + 64);
  put(&done, "done "), put_decimal(&done, writer->image->pause), put(&done, " "), put(&done, writer->path);
  reply_line(&writer->options, done.start);
  if (writer->options.hold) hold(writer);
  if (writer->options.blocking) say_go(scratch, GO_RUN);
  call(exit_group, 0);
}

/* /proc may be that of another pid namespace, and not know the program by its pid. */
static bool proc_is_own(void) {
  char pid[32] = {0};
  const char *at = pid;
  return !failed(call(readlinkat, AT_FDCWD, "/proc/self", pid, sizeof pid - 1)) && take_number(&at, 10) == (uint64_t)call(getpid);
}

/* Begins on the stack it was made with. Maps nothing before it may, which would show as a difference to the program. */
void write_image(struct scratch *scratch, uint32_t number) {
  const long self = call(openat, AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  const uint64_t pages = total_pages(self, "statm");
  const bool was_asked = scratch->pages != 0 || !scratch->goes_on_at_once; /* else see compare_with_peak */
  const bool is_whole = pages == scratch->pages || !was_asked; /* no memory is missing (MADV_DONTFORK) */
  if (scratch->goes_on_at_once && !(is_whole && proc_is_own())) stand_for_another(scratch);
  const bool few_holes = is_whole || find_holes(scratch, self);
  struct writer *writer = (struct writer *)call(mmap, 0, WRITER_SIZE + lists_size(), PROT_READ | PROT_WRITE,
                                                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); /* shared: one mapping, whatever its neighbours are */
  if (!few_holes || failed((long)writer)) {
    const char *why = "error no memory for the writer, or too many mappings with MADV_DONTFORK";
    struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
    put(&message, why);
    if (scratch->go == GO_WAIT) say_go(scratch, GO_REFUSED);
    else tell_refusal(&scratch->options, why);
    call(exit_group, 1);
  }
  writer->scratch = scratch;
  writer->options = scratch->options;
  writer->self_fd = self;
  writer->pages = pages;
  writer->number = number;
  writer->out = -1;
  writer->program_stands = scratch->go == GO_WAIT;
  arch_call_on_stack((uint64_t)writer + WRITER_SIZE, (uint64_t)write_on_own_stack, (uint64_t)writer, 0);
}
