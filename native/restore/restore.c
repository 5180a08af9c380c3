/* The entry: options, and the order of things. See restore.h. */
#include "restore.h"

struct settings settings = {.report = -1};
static unsigned char stack[256 * 1024] __attribute__((aligned(64)));

static const char usage[] =
  "usage: myrestart [options] IMAGE\n"
  "  --eager                read all memory now, instead of when it is touched\n"
  "  --verify, --no-verify  check all checksums of memory first, or none (default: of images that hold up to 64 MiB)\n"
  "  --check                only check the image, all of it\n"
  "  --files POLICY         files that changed since: keep (default), truncate, restore\n"
  "  --pid POLICY           auto (default: the same when this user may), same, new, namespace\n";

static __attribute__((noreturn)) void wrong(void) {
  call(write, 2, usage, sizeof usage - 1);
  call(exit_group, EXIT_USAGE);
  __builtin_unreachable();
}

static int choice(const char *value, const char *const *words) {
  for (int i = 0; words[i] != 0; i++)
    if (value != 0 && same_text(value, words[i])) return i;
  wrong();
}

static const char *take_options(char **arguments) {
  static const char *const files[] = {"keep", "truncate", "restore", 0}, *const pids[] = {"auto", "same", "new", "namespace", 0};
  const char *path = 0;
  for (char **at = arguments + 1; *at != 0; at++) {
    if (same_text(*at, "--eager")) settings.eager = true;
    else if (same_text(*at, "--verify")) settings.verify = VERIFY_ALL;
    else if (same_text(*at, "--no-verify")) settings.verify = VERIFY_NONE;
    else if (same_text(*at, "--check")) settings.check_only = true, settings.verify = VERIFY_ALL;
    else if (same_text(*at, "--foreign-vdso")) settings.foreign_vdso = true; /* for tests: as if the kernel's were another one */
    else if (same_text(*at, "--files")) settings.files = choice(*++at, files);
    else if (same_text(*at, "--pid")) settings.pid = choice(*++at, pids);
    else if (same_text(*at, "--report") && at[1] != 0) {
      const char *number = *++at;
      settings.report = take_number(&number, 10);
    } else if (**at == '-' || path != 0) wrong();
    else path = *at;
  }
  if (path == 0) wrong();
  return path;
}

static void restore(uint64_t arguments, uint64_t unused) {
  (void)unused;
  const char *given = take_options((char **)arguments);
  char *path = arena(length_of(given));
  memcpy(path, given, length_of(given));
  load_image(path);
  verify_content();
  if (settings.check_only) call(exit_group, 0);
  become_process();
  restore_files();
  examine_vdso();
  anonymise_self();
  restore_memory();
  restore_layout();
  restore_process();
  restore_threads();
}

/* The initial stack may lie where the image has something: it is left at once, for one in .bss. */
__attribute__((used, noreturn)) void start_on_stack(uint64_t *initial) {
  arch_call_on_stack((uint64_t)stack + sizeof stack, (uint64_t)restore, (uint64_t)(initial + 1), 0);
}

ARCH_DEFINE_START(start_on_stack);
