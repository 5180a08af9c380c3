/* Takes locks on the file of its argument (two of fcntl, one of flock), asks to be saved (system call 400) unless there is another
 * argument, says that it goes on, and ends when its standard input does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  int fd = open(argv[1], O_RDWR);
  struct flock shared = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  struct flock rest = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100};
  if (fcntl(fd, F_SETLK, &shared) != 0 || fcntl(fd, F_SETLK, &rest) != 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
    return 3;
  printf("locked\n");
  fflush(stdout);
  if (argc == 2)
    syscall(400);
  printf("goes on\n");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0)
    ;
  return 0;
}
