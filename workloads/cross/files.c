/*
 * Files and pipes that stay open over a move: a stdio file half written, the same file read at another offset, a
 * descriptor opened with O_DIRECTORY, a pipe with bytes in it, a duplicated descriptor with its shared offset,
 * O_APPEND. Usage: files FOLDER [ROUNDS]. It writes FOLDER/log and FOLDER/numbers and checks what comes back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int right = 1;

static void check(int condition, const char *what) {
  if (!condition) {
    printf("wrong: %s (errno %d)\n", what, errno);
    right = 0;
  }
}

static uint32_t mix(uint32_t h, uint32_t value) {
  for (int i = 0; i < 200; i++) h = (h ^ (value + (uint32_t)i)) * 16777619u;
  return h;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s FOLDER [ROUNDS]\n", argv[0]);
    return 2;
  }
  int rounds = argc > 2 ? atoi(argv[2]) : 2000;
  int folder = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return perror(argv[1]), 1;
  int log_fd = openat(folder, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW, 0644);
  int numbers_fd = openat(folder, "numbers", O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (log_fd < 0 || numbers_fd < 0) return perror(argv[1]), 1;
  int same = dup(numbers_fd);
  FILE *log = fdopen(log_fd, "w");
  int pipe_ends[2];
  if (log == NULL || same < 0 || pipe(pipe_ends) != 0) return perror("pipe"), 1;

  uint32_t hash = 2166136261u, in_pipe = 0;
  off_t written = 0;
  for (int round = 0; round < rounds; round++) {
    hash = mix(hash, (uint32_t)round);
    fprintf(log, "round %d hash %08x\n", round, hash);
    check(write(round % 2 ? same : numbers_fd, &hash, sizeof hash) == sizeof hash, "write");
    written += (off_t)sizeof hash;
    check(lseek(numbers_fd, 0, SEEK_CUR) == written, "the duplicate shares the offset");

    uint32_t back = 0;
    off_t at = (off_t)(hash % (uint32_t)(round + 1)) * (off_t)sizeof hash;
    check(pread(numbers_fd, &back, sizeof back, at) == sizeof back && (back != 0 || at != 0), "pread");

    check(write(pipe_ends[1], &hash, sizeof hash) == sizeof hash, "write to the pipe");
    if (++in_pipe > 64) {
      uint32_t oldest[32], expected;
      check(read(pipe_ends[0], oldest, sizeof oldest) == sizeof oldest, "read from the pipe");
      off_t place = (off_t)(round + 1 - (int)in_pipe) * (off_t)sizeof hash;
      check(pread(numbers_fd, &expected, sizeof expected, place) == sizeof expected && oldest[0] == expected,
            "the pipe kept its bytes in order");
      in_pipe -= 32;
    }
    if (round % (rounds / 4 + 1) == 0) printf("round %d: %08x, %ld bytes\n", round, hash, (long)written);
  }
  check(fclose(log) == 0, "close the log");
  struct stat status;
  check(fstat(folder, &status) == 0 && S_ISDIR(status.st_mode), "the folder is open");
  check(fstat(numbers_fd, &status) == 0 && status.st_size == written, "the size of the numbers");
  check((fcntl(folder, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec");

  FILE *again = fdopen(openat(folder, "log", O_RDONLY), "r");
  check(again != NULL, "open the log again");
  int lines = 0;
  uint32_t last = 0;
  char line[80];
  while (again != NULL && fgets(line, sizeof line, again) != NULL) {
    int number = -1;
    unsigned value = 0;
    check(sscanf(line, "round %d hash %x", &number, &value) == 2 && number == lines, "a line of the log");
    last = value;
    lines++;
  }
  check(lines == rounds && last == hash, "the log is whole");
  if (again != NULL) fclose(again);
  printf("%d rounds, %d lines, %u left in the pipe, hash %08x\n", rounds, lines, in_pipe, hash);
  printf("files: %s\n", right ? "RIGHT" : "WRONG");
  return right ? 0 : 1;
}
