/* What the kernel keeps once a process: user, limits, signal actions, timers. */
#include "restore.h"
#include <linux/prctl.h>
#include <linux/time.h>

static const char *groups;

/* Root waking up another user's program becomes that user. */
static void become_user(void) {
  const struct note_credential *credential = &image.credential;
  if (call(geteuid) != 0 || (credential->uid == 0 && credential->effective_uid == 0)) return;
  call(setgroups, credential->groups.length / 4, groups);
  long result = call(setresgid, credential->gid, credential->effective_gid, credential->saved_gid);
  if (!failed(result)) result = call(setresuid, credential->uid, credential->effective_uid, credential->saved_uid);
  if (failed(result)) die(EXIT_HOST, "cannot become the user of the program", 0, result);
}

/* No capability that it did not have; those that this user lacks are named. capset(2), version 3: 32 bits at a time. */
static void restore_capabilities(bool tell) {
  const uint64_t had = image.credential.capabilities, permitted = had | image.credential.permitted_capabilities;
  struct { uint32_t version; int32_t pid; } header = {0x20080522, 0};
  struct { uint32_t effective, permitted, inheritable; } set[2];
  if (failed(call(capget, &header, set))) return;
  const uint64_t may = set[0].permitted | (uint64_t)set[1].permitted << 32;
  TEXT(text, 32);
  put_hex(&text, had & ~may);
  if (tell && had & ~may) remark("it has fewer capabilities than it had (root gives them), without", text.start);
  for (int i = 0; i < 2; i++) set[i].permitted = (permitted & may) >> 32 * i, set[i].effective = (had & may) >> 32 * i;
  call(capset, &header, set);
}

/** Each thread for itself, last of all: the kernel keeps credentials a thread, and what went before may need root. */
void restore_credentials(bool first_thread) {
  become_user();
  restore_capabilities(first_thread);
  call(prctl, PR_SET_DUMPABLE, image.process.dumpable == 1 ? 1 : 0, 0, 0, 0);
  if (image.process.flags & PROCESS_FLAG_NO_NEW_PRIVILEGES) call(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void restore_limits(void) {
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_LIMIT); i++) {
    struct note_limit limit;
    read_record(NOTE_TYPE_LIMIT, i, &limit, sizeof limit);
    uint64_t value[2] = {limit.soft, limit.hard}, now[2];
    if (limit.resource > 15 || failed(call(prlimit64, 0, limit.resource, 0, now)) || (now[0] == value[0] && now[1] == value[1])) continue;
    if (!failed(call(prlimit64, 0, limit.resource, value, 0))) continue;
    value[1] = now[1]; /* the hard limit cannot be raised: as near as may be */
    if (value[0] > value[1]) value[0] = value[1];
    call(prlimit64, 0, limit.resource, value, 0);
    remark("a resource limit is lower than it was", 0);
  }
}

static void restore_actions(void) {
  for (uint32_t signal = 1; signal <= 64; signal++) {
    const struct kernel_action standard = {0, 0, 0, 0};
    call(rt_sigaction, signal, &standard, 0, 8);
  }
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_ACTION); i++) {
    struct note_action note;
    read_record(NOTE_TYPE_ACTION, i, &note, sizeof note);
    const struct kernel_action action = {note.handler, note.flags, note.restorer, note.mask};
    call(rt_sigaction, note.signal, &action, 0, 8);
  }
}

/* To the folder that it worked in; of a deleted one /proc has told so behind its name. */
static void enter_folder(void) {
  static const char deleted[] = " (deleted)";
  struct note_string name = image.process.working_directory;
  const char *folder = text_of(NOTE_TYPE_PROCESS, name);
  long result = call(chdir, folder);
  if (result == ERROR_NOT_THERE && name.length >= sizeof deleted && same_text(folder + name.length - (sizeof deleted - 1), deleted)) {
    name.length -= sizeof deleted - 1;
    const long fd = open_nameless_folder(text_of(NOTE_TYPE_PROCESS, name), 0);
    result = failed(fd) ? fd : call(fchdir, fd);
    if (!failed(fd)) call(close, fd);
  }
  if (failed(result)) die(EXIT_FAILED, "cannot go to the program's working directory", folder, result);
}

void restore_process(void) {
  const struct note_process *process = &image.process;
  enter_folder();
  call(umask, process->umask);
  call(personality, process->personality);
  call(prctl, PR_SET_TIMERSLACK, process->timer_slack, 0, 0, 0);
  call(prctl, PR_SET_CHILD_SUBREAPER, process->flags & PROCESS_FLAG_CHILD_SUBREAPER ? 1 : 0, 0, 0, 0);
  call(prctl, PR_SET_THP_DISABLE, process->flags & PROCESS_FLAG_HUGE_PAGES_DISABLED ? 1 : 0, 0, 0, 0);
  groups = text_of(NOTE_TYPE_CREDENTIAL, image.credential.groups);
  restore_limits();
  restore_actions();
}

/* The kernel numbers timers by itself: those in between are made and deleted. */
static void make_timer(const struct note_posix_timer *note) {
  struct { uint64_t value; int32_t signal, notify, tid, padding[11]; } event = {
    .value = note->value, .signal = note->signal, .notify = note->notify, .tid = note->notify & 4 ? new_tid(note->tid) : 0};
  for (uint32_t tries = 0; tries < 1u << 20; tries++) {
    int32_t id = -1;
    const long result = call(timer_create, note->clock, &event, &id);
    if (failed(result)) die(EXIT_HOST, "cannot make a timer", 0, result);
    if ((uint32_t)id == note->id) {
      const struct time_pair value[2] = {pair_of(note->interval), pair_of(note->remaining)};
      if (note->remaining != 0) call(timer_settime, id, 0, value, 0);
      return;
    }
    call(timer_delete, id);
    if ((uint32_t)id > note->id) break;
  }
  die(EXIT_HOST, "the kernel did not give a timer its old number", 0, 0);
}

/* By number, as the kernel counts up. */
static void restore_posix_timers(void) {
  for (int64_t last = -1;;) {
    struct note_posix_timer note, next = {.id = ~0u};
    bool found = false;
    for (uint32_t i = 0; i < record_count(NOTE_TYPE_POSIX_TIMER); i++) {
      read_record(NOTE_TYPE_POSIX_TIMER, i, &note, sizeof note);
      if (note.id > last && note.id <= next.id) next = note, found = true;
    }
    if (!found) return;
    make_timer(&next);
    last = next.id;
  }
}

void restore_timers(void) {
  restore_posix_timers();
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_INTERVAL_TIMER); i++) {
    struct note_interval_timer note;
    read_record(NOTE_TYPE_INTERVAL_TIMER, i, &note, sizeof note);
    const int64_t value[4] = {note.interval / NANOSECONDS, note.interval % NANOSECONDS / 1000, note.remaining / NANOSECONDS,
                              note.remaining % NANOSECONDS / 1000};
    call(setitimer, note.which, value, 0);
  }
}

/* Sends again what was pending; all signals are blocked here. */
void restore_pending(uint32_t old_tid, uint32_t tid) {
  const long pid = call(getpid);
  for (uint32_t i = 0; i < record_count(NOTE_TYPE_PENDING); i++) {
    struct note_pending note;
    read_record(NOTE_TYPE_PENDING, i, &note, sizeof note);
    if (note.tid != old_tid) continue;
    if (old_tid == 0) call(rt_sigqueueinfo, pid, note.signal, note.info);
    else call(rt_tgsigqueueinfo, pid, tid, note.signal, note.info);
  }
}
