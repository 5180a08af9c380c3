/* Open files: offsets, flags, sharing, locks, folders, deleted files and what they hold. */
#include "keep.h"
#include <dirent.h>
#include <sys/file.h>

static int make(const char *name, const char *content, int flags) {
  const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0640);
  check(write(fd, content, strlen(content)) == (ssize_t)strlen(content), "write");
  close(fd);
  return open(name, flags);
}

static bool holds(int fd, const char *expected) {
  char found[256] = {0};
  return pread(fd, found, sizeof found - 1, 0) == (ssize_t)strlen(expected) && strcmp(found, expected) == 0;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  const int plain = make("plain", "0123456789", O_RDWR | O_NONBLOCK);
  lseek(plain, 4, SEEK_SET);
  const int twin = dup(plain), other = open("plain", O_RDONLY | O_CLOEXEC);
  lseek(other, 7, SEEK_SET);
  const int log = make("journal", "one\n", O_WRONLY | O_APPEND);
  const int high = fcntl(log, F_DUPFD, 700);
  const int folder = open(".", O_RDONLY | O_DIRECTORY);
  const int gone = make("gone", "content of a deleted file", O_RDWR);
  lseek(gone, 8, SEEK_SET);
  unlink("gone");
  const int emptied = make("emptied", "something", O_RDWR);
  check(ftruncate(emptied, 4) == 0, "ftruncate");
  unlink("emptied");
  const int replaced = make("replaced", "the old one", O_RDONLY);
  unlink("replaced");
  close(make("replaced", "the new one", O_RDONLY));
  const int odd = make("odd (deleted)", "it is not", O_RDWR);
  const int only_path = open("odd (deleted)", O_PATH);
  const int nothing = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
  const int memory = memfd_create("held", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  check(write(memory, "in memory", 9) == 9, "memfd");
  fcntl(memory, F_ADD_SEALS, F_SEAL_GROW);

  flock(plain, LOCK_EX);
  struct flock range = {.l_type = F_WRLCK, .l_start = 2, .l_len = 5};
  check(fcntl(log, F_SETLK, &range) == 0, "lock");
  const int owned = make("owned", "x", O_RDWR);
  struct flock shared = {.l_type = F_RDLCK, .l_start = 0, .l_len = 0};
  check(fcntl(owned, F_OFD_SETLK, &shared) == 0, "open file description lock");

  mkdir("away", 0755);
  const int away = open("away", O_RDONLY | O_DIRECTORY);
  check(getcwd(home, sizeof home) != 0 && chdir("away") == 0 && rmdir("../away") == 0, "a deleted folder");

  wait_for_go();

  char name[4096] = {0};
  struct stat empty;
  check(getcwd(name, sizeof name) == 0 && errno == ENOENT, "the working directory is deleted");
  check(readlink("/proc/self/cwd", name, sizeof name - 1) > 0 && strstr(name, "/away (deleted)") != 0, "its name: %s", name);
  check(fstat(away, &empty) == 0 && S_ISDIR(empty.st_mode) && empty.st_nlink == 0, "deleted folder");
  check(chdir(home) == 0 && access("away", F_OK) != 0, "a deleted folder came back");
  char byte = 0;
  check(lseek(plain, 0, SEEK_CUR) == 4, "offset: %ld", lseek(plain, 0, SEEK_CUR));
  check(read(twin, &byte, 1) == 1 && byte == '4' && lseek(plain, 0, SEEK_CUR) == 5, "copies of a descriptor share its offset");
  check(read(other, &byte, 1) == 1 && byte == '7', "another open file has its own offset");
  check(fcntl(plain, F_GETFL) & O_NONBLOCK && (fcntl(plain, F_GETFL) & O_ACCMODE) == O_RDWR, "flags");
  check(fcntl(other, F_GETFD) == FD_CLOEXEC && fcntl(plain, F_GETFD) == 0, "close-on-exec");
  check(fcntl(log, F_GETFL) & O_APPEND, "append flag");
  check(write(high, "two\n", 4) == 4, "write to a high descriptor");
  const int look = open("journal", O_RDONLY);
  check(holds(look, "one\ntwo\n"), "appended");
  struct stat here, there;
  fstat(folder, &here);
  stat(".", &there);
  check(here.st_ino == there.st_ino && openat(folder, "journal", O_RDONLY) >= 0, "folder");
  check(lseek(gone, 0, SEEK_CUR) == 8 && holds(gone, "content of a deleted file"), "deleted file");
  check(write(gone, "X", 1) == 1 && holds(gone, "content Xf a deleted file"), "writing to a deleted file");
  check(access("gone", F_OK) != 0, "a deleted file came back");
  check(holds(emptied, "some"), "deleted and truncated file");
  check(holds(replaced, "the old one"), "a file that another took the name of");
  check(write(odd, "IT", 2) == 2 && holds(open("odd (deleted)", O_RDONLY), "IT is not"), "a file that is called as if it were deleted");
  struct stat known;
  check(fcntl(only_path, F_GETFL) & O_PATH && fstat(only_path, &known) == 0 && known.st_size == 9, "a descriptor of a path only");
  check(write(nothing, "x", 1) == 1 && read(zero, &byte, 1) == 1 && byte == 0, "devices");
  check(holds(memory, "in memory") && fcntl(memory, F_GETFD) == FD_CLOEXEC, "memfd");
  check(fcntl(memory, F_GET_SEALS) & F_SEAL_GROW, "seals");
  const int again = open("plain", O_RDONLY);
  check(flock(again, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK, "flock");
  struct flock ask = {.l_type = F_RDLCK, .l_start = 0, .l_len = 0};
  const int asking = open("journal", O_RDWR), asking_owned = open("owned", O_RDWR);
  check(fcntl(asking, F_OFD_GETLK, &ask) == 0 && ask.l_type == F_WRLCK && ask.l_start == 2 && ask.l_len == 5 && ask.l_pid == getpid(),
        "lock: type %d, %ld+%ld", ask.l_type, (long)ask.l_start, (long)ask.l_len);
  ask = (struct flock){.l_type = F_WRLCK};
  check(fcntl(asking_owned, F_OFD_GETLK, &ask) == 0 && ask.l_type == F_RDLCK, "open file description lock");
  check(fcntl(3000, F_GETFD) == -1, "a descriptor too many");
  return verdict();
}
