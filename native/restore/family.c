/*
 * Which process the image becomes: this one, or, to have its old pid, a child of this one that was made with it. Then this one stays
 * as a stand-in: it passes signals on, waits, and ends as the child ended.
 *
 *   auto       a child with the old pid when this user may make one and the pid is free; else this process
 *   same       the same, but refused when it cannot be
 *   new        this process
 *   namespace  stand-in ─► init of a user and pid namespace of its own ─► child with the old pid
 *
 * Session and process group are those of the restorer, so that job control and Ctrl-C work where it is restored; but a program that had
 * none but itself in a session without a terminal (a daemon, setsid) leads one again, and without a terminal here a leader leads its group again.
 */
#include "restore.h"
#include <linux/sched.h>
#include <linux/wait.h>

bool has_same_pid;

static long clone_child(uint64_t flags, const uint32_t *pid) {
  const struct clone_args arguments = {
    .flags = flags, .exit_signal = SIGCHLD, .set_tid = (uint64_t)pid, .set_tid_size = pid == 0 ? 0 : 1,
  };
  return call(clone3, &arguments, sizeof arguments);
}

static bool leads_session(void) {
  if (image.process.session != image.process.pid) return false;
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_DESCRIPTION); i++) {
    struct note_description description;
    read_record(NOTE_TYPE_DESCRIPTION, i, &description, sizeof description);
    if (description.kind == DESCRIPTION_KIND_TERMINAL && description.a == 1) return false;
  }
  return true;
}

static bool has_terminal(void) {
  const long fd = call(openat, AT_FDCWD, "/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
  if (failed(fd)) return false;
  call(close, fd);
  return true;
}

static void lead_again(void) {
  if (leads_session()) {
    if (failed(call(setsid))) remark("it does not lead a session of its own any more (setsid myrestart …)", 0);
  } else if (image.process.process_group == image.process.pid && !has_terminal()) call(setpgid, 0, 0);
}

/* After these the shell waits for this process, its child, to stop, and will continue all of its group. */
static bool is_terminal_stop(long signal) {
  return signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/* Of a process: R, S, T (stopped), Z …; 0 when it is gone. */
static char state_of(long pid) {
  TEXT(path, 32);
  char stat[512];
  char state = 0;
  put(&path, "/proc/"), put_decimal(&path, pid), put(&path, "/stat");
  if (read_text(AT_FDCWD, path.start, stat, sizeof stat) <= 0) return 0;
  for (const char *at = stat; *at != 0; at++)
    if (at[0] == ')' && at[1] == ' ') state = at[2];
  return state;
}

/*
 * Stops this process until it is continued, or the child: who continues that one only (kill -CONT of its pid) means both. A stopped process
 * cannot see that, so another one looks.
 */
static void stop_with(long child) {
  const long self = call(getpid);
  const long watcher = clone_child(0, 0);
  while (watcher == 0 && call(getppid) == self) {
    const struct time_pair pause = {0, NANOSECONDS / 50};
    call(nanosleep, &pause, 0);
    if (state_of(self) == 'T' && state_of(child) != 'T') call(kill, self, SIGCONT);
  }
  if (watcher == 0) call(exit_group, 0);
  call(kill, self, SIGSTOP);
  if (failed(watcher)) return;
  call(kill, watcher, SIGKILL);
  call(wait4, watcher, 0, 0, 0);
}

/* Passes on what is sent to this process, but not what the terminal sends to both; stops and ends as the child does, for who waits for this one. */
enum place { OUTSIDE, BEFORE_NAMESPACE, INIT_OF_NAMESPACE };

static __attribute__((noreturn)) void stand_in(long child, enum place place) {
  const bool alone = leads_session(); /* the terminal sends nothing to the child */
  const uint64_t all = ~0ul;
  const long self = call(getpid);
  int status = 0;
  call(close_range, 3, ~0u, 0);
  for (;;) {
    siginfo_t info = {0};
    const long signal = call(rt_sigtimedwait, &all, &info, 0, 8);
    if (signal == SIGCHLD || failed(signal)) {
      long ended;
      while ((ended = call(wait4, -1, &status, WNOHANG | WUNTRACED, 0)) > 0)
        if (ended == child) break;
      const int stopped_by = (status & 0xff) == 0x7f ? status >> 8 & 0xff : 0;
      if (ended == child && stopped_by == 0) break;
      if (ended == child && is_terminal_stop(stopped_by) && place != INIT_OF_NAMESPACE /* which cannot stop */) stop_with(child);
    } else if (info.si_code <= 0 || alone) call(kill, child, signal);
    else if (place == BEFORE_NAMESPACE && is_terminal_stop(signal)) call(kill, self, SIGSTOP); /* its init cannot stop */
  }
  const int signal = status & 0x7f;
  if (signal == 0) call(exit_group, status >> 8);
  if (place != INIT_OF_NAMESPACE) {
    const struct kernel_action action = {0, 0, 0, 0};
    const uint64_t no_core[2] = {0, 0}, none = 0;
    call(prlimit64, 0, 4 /* RLIMIT_CORE */, no_core, 0);
    call(rt_sigaction, signal, &action, 0, 8);
    call(kill, self, signal);
    call(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
  }
  call(exit_group, 128 + signal);
  __builtin_unreachable();
}

static void write_file(const char *path, const char *value) {
  const long fd = call(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (failed(fd)) return;
  call(write, fd, value, length_of(value));
  call(close, fd);
}

static void map_ids(uint32_t uid, uint32_t gid) {
  TEXT(uids, 64);
  TEXT(gids, 64);
  put_decimal(&uids, uid), put(&uids, " "), put_decimal(&uids, uid), put(&uids, " 1");
  put_decimal(&gids, gid), put(&gids, " "), put_decimal(&gids, gid), put(&gids, " 1");
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", uids.start);
  write_file("/proc/self/gid_map", gids.start);
}

static void become_this_one(void) {
  lead_again();
  report("pid", call(getpid));
}

void become_process(void) {
  const uint64_t all = ~0ul;
  const uint32_t pid = image.process.pid;
  bool inside = false;
  call(rt_sigprocmask, 2 /* SIG_SETMASK */, &all, 0, 8); /* until the program's own mask comes back */
  if (settings.pid == PID_NEW) return become_this_one();
  if (settings.pid == PID_NAMESPACE) {
    const uint32_t uid = call(geteuid), gid = call(getegid);
    const long init = clone_child(CLONE_NEWUSER | CLONE_NEWPID, 0);
    if (failed(init)) die(EXIT_HOST, "cannot make a user and pid namespace (sysctl user.max_user_namespaces)", 0, init);
    if (init != 0) {
      report("namespace", init);
      stand_in(init, BEFORE_NAMESPACE);
    }
    map_ids(uid, gid);
    inside = true;
  }
  const long child = clone_child(0, &pid);
  if (failed(child)) {
    if (settings.pid != PID_AUTO) die(EXIT_HOST, child == -17 ? "its process id is taken" : "its process id cannot be given back to it", 0, child);
    TEXT(text, 64);
    put_decimal(&text, pid), put(&text, child == -17 ? " is taken" : " needs root or --pid namespace"), put(&text, "; it is now "), put_decimal(&text, call(getpid));
    if (pid != (uint32_t)call(getpid)) remark("its process id", text.start);
    return become_this_one();
  }
  if (child != 0) {
    if (!inside) report("pid", child);
    stand_in(child, inside ? INIT_OF_NAMESPACE : OUTSIDE);
  }
  has_same_pid = true;
  lead_again();
}
