/*
 * What the user wants: from the environment, for every checkpoint, and from a request of `imago checkpoint`, for one.
 *
 *   IMAGO_OUTPUT=myckpt-%p-%n  IMAGO_SIGNAL=12  IMAGO_OPTIONS=force,blocking,files
 *   /tmp/imago-request-PID: a line an option: output PATH, reply PATH, force, blocking, hold, files
 * A request is read only when the signal says so (sigqueue with the value "imago"), and only from a file of the own user or root. Who asked
 * withdraws it by removing the file.
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

bool is_of_imago(const siginfo_t *info) {
  return info->si_code == -1 /* SI_QUEUE */ && (uint64_t)info->si_value.sival_ptr == 0x6f67616d69ul;
}

#define REQUEST_PATH(path, pid) \
  TEXT(path, 64);               \
  put(&path, "/tmp/imago-request-"), put_decimal(&path, pid)

bool request_is_there(int32_t pid) {
  REQUEST_PATH(path, pid);
  return call(faccessat, AT_FDCWD, path.start, 0) == 0;
}

bool read_request(struct options *options, int32_t pid) {
  static char request[PATH_SIZE * 3];
  REQUEST_PATH(path, pid);
  const long fd = call(openat, AT_FDCWD, path.start, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
  if (failed(fd)) return false;
  struct statx stat;
  const bool trusted = !failed(call(statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_BASIC_STATS, &stat)) &&
                       (stat.stx_mode & 0170000) == 0100000 && (stat.stx_uid == 0 || stat.stx_uid == (uint32_t)call(geteuid));
  const long size = trusted ? call(read, fd, request, sizeof request - 1) : 0;
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
  return true;
}

void reply_line(const struct options *options, const char *line) {
  if (options->reply[0] == 0) return;
  const long fd = call(openat, AT_FDCWD, options->reply, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0);
  if (failed(fd)) return;
  TEXT(text, MESSAGE_SIZE + PATH_SIZE);
  put(&text, line), put(&text, "\n");
  call(write, fd, text.start, text.at - text.start);
  call(close, fd);
}

void tell_refusal(const struct options *options, const char *why) {
  if (options->reply[0] != 0) return reply_line(options, why);
  TEXT(text, MESSAGE_SIZE + 64);
  put(&text, "imago: no checkpoint: "), put(&text, why), put(&text, "\n");
  call(write, 2, text.start, text.at - text.start);
}
