/* Waits for what never comes: `pipe` writes into a pipe that nobody reads, `lock FILE` and `flock FILE` want a lock that
 * somebody else has. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const char *how = argc > 1 ? argv[1] : "pipe";
  printf("waiting\n");
  fflush(stdout);
  if (strcmp(how, "pipe") == 0) {
    static char bytes[100000];
    int ends[2];
    if (pipe(ends) != 0)
      return 1;
    while (write(ends[1], bytes, sizeof bytes) > 0)
      ;
    return 2;
  }
  int fd = open(argv[2], O_RDWR);
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int result = strcmp(how, "lock") == 0 ? fcntl(fd, F_SETLKW, &whole) : flock(fd, LOCK_EX);
  return result == 0 ? 5 : 3;
}
