/*
 * What the user wants: from the environment, for every checkpoint, and from a request of `imago checkpoint`, for one.
 *
 *   IMAGO_OUTPUT=myckpt-%p-%n  IMAGO_SIGNAL=12  IMAGO_OPTIONS=force,blocking,files
 *   /tmp/imago-request-PID-IMAGO: a line an option: output PATH, reply PATH, force, blocking, hold, files
 * A request is read only when the signal says so (sigqueue with a value whose low five bytes are "imago", the others the pid of that imago), and
 * only from a file of the own user or root. Who asked withdraws it by removing the file, and locks the reply
 * as long as he waits for it.
 */
#include "checkpoint.h"
#include <linux/stat.h>

extern char **environ __attribute__((weak, visibility("default")));

static void copy_path(char *to, const char *from) {
  struct text text = {to, to, to + PATH_SIZE - 1};
  put(&text, from);
}

static void take_word(struct options *options, const char *word) {
  if (begins_with(word, "force")) options->force = 1;
  else if (begins_with(word, "blocking")) options->blocking = 1;
  else if (begins_with(word, "hold")) options->hold = options->blocking = 1;
  else if (begins_with(word, "files")) options->files = 1;
  else if (begins_with(word, "stand")) options->stand = 1;
}

void read_environment(struct options *options) {
  copy_path(options->output, "myckpt");
  if (&environ == 0 || environ == 0) return;
  for (char **variable = environ; *variable != 0; variable++) {
    const char *value = *variable;
    if (!begins_with(value, "IMAGO_")) continue;
    if (begins_with(value, "IMAGO_OUTPUT=") && value[13] != 0) copy_path(options->output, value + 13);
    else if (begins_with(value, "IMAGO_SIGNAL=")) {
      value += 13;
      const uint64_t number = take_number(&value, 10);
      if (number >= 1 && number <= 64 && number != 9 && number != 19 && number != STOP_SIGNAL) checkpoint_signal = number;
    } else if (begins_with(value, "IMAGO_OPTIONS=")) {
      for (value += 14; *value != 0; value++)
        if (value[-1] == '=' || value[-1] == ',') take_word(options, value);
    }
  }
}

#define REQUEST_WORD 0x6f67616d69ul /* "imago" */
#define REQUEST_BITS 40

bool is_request(const siginfo_t *info) {
  return info->si_code == -1 /* SI_QUEUE */ && ((uint64_t)info->si_value.sival_ptr & ((1ul << REQUEST_BITS) - 1)) == REQUEST_WORD;
}

/* /tmp/imago-KIND-PID-IMAGO */
static void put_name(struct text *path, const char *kind, int32_t pid, const siginfo_t *info) {
  put(path, "/tmp/imago-"), put(path, kind), put(path, "-"), put_decimal(path, pid);
  put(path, "-"), put_decimal(path, (uint64_t)info->si_value.sival_ptr >> REQUEST_BITS);
}

static bool is_locked(const char *path) {
  const long fd = call(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
  if (failed(fd)) return false;
  const long lock = call(flock, fd, 2 | 4 /* LOCK_EX | LOCK_NB */);
  call(close, fd);
  return lock == ERROR_WOULD_BLOCK;
}

bool request_is_there(const siginfo_t *info) {
  TEXT(request, 64);
  TEXT(reply, 64);
  const int32_t pid = call(getpid);
  put_name(&request, "request", pid, info), put_name(&reply, "reply", pid, info);
  return call(faccessat, AT_FDCWD, request.start, 0) == 0 && is_locked(reply.start);
}

bool reply_is_awaited(const struct options *options) {
  return is_locked(options->reply);
}

/* False when there is none to be trusted. */
bool read_request(struct options *options, char *request, const siginfo_t *info) {
  TEXT(path, 64);
  put_name(&path, "request", call(getpid), info);
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
  if (failed(fd)) return false;
  struct statx stat;
  const bool trusted = !failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_BASIC_STATS, &stat)) &&
                       (stat.stx_mode & 0170000) == 0100000 && (stat.stx_uid == 0 || stat.stx_uid == (uint32_t)call(geteuid));
  const long size = trusted ? call(read, fd, request, REQUEST_SIZE - 1) : 0;
  call(close, fd);
  call(unlinkat, AT_FDCWD, path.start, 0);
  request[size > 0 ? size : 0] = 0;
  for (char *line = request; *line != 0;) {
    char *end = line;
    while (*end != 0 && *end != '\n') end++;
    char *next = *end == 0 ? end : end + 1;
    *end = 0;
    if (begins_with(line, "output ")) copy_path(options->output, line + 7);
    else if (begins_with(line, "reply ")) copy_path(options->reply, line + 6);
    else take_word(options, line);
    line = next;
  }
  return trusted;
}

void ask_again(const struct options *options, int32_t program, const siginfo_t *asked) {
  const char *parts[] = {"stand\n", options->force ? "force\n" : "", options->files ? "files\n" : "", "output ", options->output, "\n",
                         "reply ", options->reply, "\n"};
  const unsigned count = is_request(asked) ? sizeof parts / sizeof *parts : 1; /* else all is as the program has it */
  TEXT(path, 64);
  siginfo_t info = {0};
  info.si_signo = asked->si_signo;
  info.si_code = -1;
  info.si_pid = call(getpid);
  info.si_value.sival_ptr = is_request(asked) ? asked->si_value.sival_ptr : (void *)(REQUEST_WORD | (uint64_t)info.si_pid << REQUEST_BITS);
  put_name(&path, "request", program, &info);
  const long fd = call(openat, AT_FDCWD, path.start, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (failed(fd)) return tell_refusal(options, "error cannot ask for it to stand still");
  for (unsigned i = 0; i < count; i++) call(write, fd, parts[i], length_of(parts[i]));
  call(close, fd);
  if (failed(call(rt_sigqueueinfo, program, info.si_signo, &info))) call(unlinkat, AT_FDCWD, path.start, 0);
}

void reply_line(const struct options *options, const char *line) {
  if (options->reply[0] == 0) return;
  const long fd = call(openat, AT_FDCWD, options->reply, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
  if (failed(fd)) return;
  const struct { const char *start; size_t size; } parts[] = {{line, length_of(line)}, {"\n", 1}};
  call(writev, fd, parts, 2); /* not put together first: this may run on a small alternate stack */
  call(close, fd);
}

/* A pipe that nobody reads shall not stop the program here, where it takes no signals. */
void say(const char *text) {
  struct { int fd; short events, returned; } poll = {2, 4 /* POLLOUT */, 0};
  const struct time_pair now = {0, 0};
  if (call(ppoll, &poll, 1, &now, 0, 8) == 1 && poll.returned & 4) call(write, 2, text, length_of(text));
}

void tell_refusal(const struct options *options, const char *why) {
  if (options->reply[0] != 0) return reply_line(options, why);
  TEXT(text, MESSAGE_SIZE + 64);
  put(&text, "imago: no checkpoint: "), put(&text, begins_with(why, "error ") ? why + 6 : why), put(&text, "\n");
  say(text.start);
}
