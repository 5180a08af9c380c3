/*
 * What the program has in the kernel outside of itself. /proc/sysvipc names System V objects of the whole IPC namespace; whose they are the
 * kernel only tells by the last process that used them:
 *
 *   msg:  key msqid perms cbytes qnum lspid lrpid …         (last to send, last to receive)
 *   sem:  key semid perms nsems …                           (semctl GETPID: last to change each)
 *   shm:  key shmid perms size cpid lpid nattch …           (its creator)
 */
#include "writer.h"

#define MESSAGE_QUEUE_MAGIC 0x19800202
#define GET_PID 11 /* semctl(2) */
#define MAX_SEMAPHORES 4096 /* of a set that are looked at */
#define WORDS 16

bool is_message_queue(int fd) {
  uint64_t statistics[16] = {0}; /* struct statfs: f_type comes first */
  return !failed(call(fstatfs, fd, statistics)) && statistics[0] == MESSAGE_QUEUE_MAGIC;
}

static void add_object(struct writer *writer, const char *what, uint64_t id) {
  TEXT(text, 32);
  put(&text, "id "), put_decimal(&text, id);
  add_loss(writer, what, text.start);
}

static bool last_changed(int set, uint64_t count, int pid) {
  for (uint64_t i = 0; i < count && i < MAX_SEMAPHORES; i++)
    if (call(semctl, set, i, GET_PID, 0) == pid) return true;
  return false;
}

/* The numbers of a line; false for the heading. */
static bool take_words(const char *line, uint64_t *word) {
  for (int i = 0; i < WORDS; i++) word[i] = 0;
  for (int i = 0; i < WORDS; i++) {
    skip_spaces(&line);
    line += *line == '-'; /* a key may be negative */
    if (*line == 0) return true;
    if (*line < '0' || *line > '9') return false;
    word[i] = take_number(&line, 10);
  }
  return true;
}

/* How many sets, queues and segments there are: asked before the lists are read, which takes longer. */
static uint32_t semaphore_sets(void) {
  uint32_t info[10] = {0}; /* struct seminfo: semusz is the eighth */
  return failed(call(semctl, 0, 0, 19 /* SEM_INFO */, info)) ? 0 : info[7];
}

static uint32_t message_queues(void) {
  uint32_t info[8] = {0}; /* struct msginfo: msgpool is the first */
  return failed(call(msgctl, 0, 12 /* MSG_INFO */, info)) ? 0 : info[0];
}

static uint32_t shared_segments(void) {
  uint64_t info[6] = {0}; /* struct shm_info: used_ids is the first, an int */
  return failed(call(shmctl, 0, 14 /* SHM_INFO */, info)) ? 0 : (uint32_t)info[0];
}

static void find_ipc(struct writer *writer) {
  LINES(lines, 1024);
  uint64_t word[WORDS];
  const uint64_t pid = writer->scratch->pid;
  if (message_queues() > 0 && open_lines(&lines, AT_FDCWD, "/proc/sysvipc/msg"))
    for (char *line; (line = next_line(&lines)) != 0;)
      if (take_words(line, word) && (word[5] == pid || word[6] == pid)) add_object(writer, "a System V message queue", word[1]);
  if (semaphore_sets() > 0 && open_lines(&lines, AT_FDCWD, "/proc/sysvipc/sem"))
    for (char *line; (line = next_line(&lines)) != 0;)
      if (take_words(line, word) && last_changed(word[1], word[3], pid)) add_object(writer, "System V semaphores", word[1]);
  if (shared_segments() > 0 && open_lines(&lines, AT_FDCWD, "/proc/sysvipc/shm"))
    for (char *line; (line = next_line(&lines)) != 0;)
      if (take_words(line, word) && word[4] == pid && word[6] == 0 /* attached ones are named as mappings */)
        add_object(writer, "System V shared memory of its making", word[1]);
}

/* A place of its own that it went to after its start: restored, it would find itself in another. */
static void find_places(struct writer *writer, int self) {
  for (uint32_t i = 0; i < MAX_PLACES; i++) {
    const uint64_t now = place_identity(self, i);
    if (now == 0 || inherited_places[i] == 0 || now == inherited_places[i]) continue;
    add_loss(writer, i == 0 ? "a root folder of its own" : "a namespace of its own", i == 0 ? "chroot" : place_paths[i] + 3);
  }
}

/** Looked for in the copy, `self` its folder of /proc: it lives where the program does. */
void find_what_is_outside(struct writer *writer, int self) {
  find_ipc(writer);
  find_places(writer, self);
}
