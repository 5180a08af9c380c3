/* Makes `before` and `folder` with the umask it was started with, which it prints, and `after` with none. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int main(void) {
  open("before", O_CREAT | O_WRONLY, 0666);
  mkdir("folder", 0777);
  printf("umask %o\n", umask(0));
  open("after", O_CREAT | O_WRONLY, 0666);
  return 0;
}
