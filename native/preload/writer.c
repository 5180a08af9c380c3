/* The writer: what it does, in order. See checkpoint.h. */
#include "writer.h"
#include <linux/prctl.h>

#define WRITER_STACK (512 * 1024ul)
#define WRITER_SIZE (round_up(sizeof(struct writer), PAGE) + WRITER_STACK)

static void say_go(struct scratch *scratch, uint32_t what) {
  __atomic_store_n(&scratch->go, what, __ATOMIC_RELEASE);
  futex_wake(&scratch->go, true);
}

/* Ends without an image. The reason is for the program to tell, once it goes on; if it does already, it is told here. */
static __attribute__((noreturn)) void give_up(struct writer *writer, const char *why) {
  struct scratch *scratch = writer->scratch;
  if (writer->temporary[0] != 0) call(unlinkat, AT_FDCWD, writer->temporary, 0);
  call(prctl, PR_SET_NAME, "imago-done", 0, 0, 0);
  if (scratch->go == GO_WAIT) {
    struct text message = {scratch->message, scratch->message, scratch->message + MESSAGE_SIZE - 1};
    put(&message, why);
    say_go(scratch, GO_REFUSED);
  } else tell_refusal(&scratch->options, why);
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

/* Where something would be lost that nobody has agreed to lose: names every loss, one line each, and ends. */
static void refuse_losses(struct writer *writer) {
  struct scratch *scratch = writer->scratch;
  const struct list *list = &writer->lists[LIST_LOSS];
  if (list->count == 0 || scratch->options.force) return;
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_loss *loss = record_at(list, i);
    TEXT(line, MESSAGE_SIZE);
    put(&line, scratch->options.reply[0] != 0 ? "loss " : "imago: cannot keep ");
    put_bytes(&line, list->strings + loss->what.offset, loss->what.length);
    if (scratch->options.reply[0] != 0) reply_line(&scratch->options, line.start);
    else put(&line, "\n"), say(line.start);
  }
  give_up(writer, "refused");
}

/* Keeps the program standing until imago has verified the image and ended it, or waits no more: it lets it go, or has gone away itself. */
static void hold(struct writer *writer) {
  const struct scratch *scratch = writer->scratch;
  while (reply_is_awaited(&scratch->options) && call(kill, scratch->pid, 0) != ERROR_NO_SUCH_PROCESS) {
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
  if (scratch->has_locked_memory) describe_advice(writer, scratch->process_fd);
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
  call(prctl, PR_SET_NAME, "imago-writer", 0, 0, 0);
  call(setsid); /* while it ends, it shall not keep the program's session, and so its pid, taken */
  make_lists(writer, (unsigned char *)writer + WRITER_SIZE);
  describe_first(writer);
  if (!scratch->options.blocking && scratch->go == GO_WAIT) say_go(scratch, GO_RUN);
  TEXT(line, 64);
  put(&line, "writer "), put_decimal(&line, call(getpid));
  reply_line(&scratch->options, line.start);
  describe_process(writer);
  settle_mappings(writer);
  find_what_is_outside(writer, writer->self_fd);
  if (!scratch->has_locked_memory) describe_advice(writer, writer->self_fd);
  refuse_losses(writer);
  write_what_was_early(writer);
  remove_stale_files(writer);
  write_mappings(writer, false);
  writer->image->pause = pause_of(scratch);
  write_headers(writer);
  put_in_place(writer);
  call(prctl, PR_SET_NAME, "imago-done", 0, 0, 0); /* from here on another checkpoint may begin */
  TEXT(done, PATH_SIZE + 64);
  put(&done, "done "), put_decimal(&done, writer->image->pause), put(&done, " "), put(&done, writer->path);
  reply_line(&scratch->options, done.start);
  if (scratch->options.hold) hold(writer);
  if (scratch->options.blocking) say_go(scratch, GO_RUN);
  call(exit_group, 0);
}

/* Begins on the stack it was made with. Maps nothing before it may, which would show as a difference to the program. */
void write_image(struct scratch *scratch, uint32_t number) {
  const long self = call(openat, AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  while (__atomic_load_n(&scratch->measured, __ATOMIC_ACQUIRE) == 0)
    if (futex_wait(&scratch->measured, 0, true, NANOSECONDS / 1000) == ERROR_TIMED_OUT && has_ended(scratch->pid, 0)) call(exit_group, 1);
  const bool few_holes = scratch->pages == scratch->copied_pages || find_holes(scratch, self);
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
  writer->self_fd = self;
  writer->number = number;
  writer->out = -1;
  writer->program_stands = scratch->go == GO_WAIT;
  arch_call_on_stack((uint64_t)writer + WRITER_SIZE, (uint64_t)write_on_own_stack, (uint64_t)writer, 0);
}
