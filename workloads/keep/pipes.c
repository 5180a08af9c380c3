/* Pipes and fifos with what is in them. */
#include "keep.h"
#include <poll.h>
#include <sys/epoll.h>

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  int small[2], large[2], ended[2], broken[2];
  char buffer[200000];
  signal(SIGPIPE, SIG_IGN);
  check(pipe(small) == 0 && pipe2(large, O_NONBLOCK | O_CLOEXEC) == 0 && pipe(ended) == 0 && pipe(broken) == 0, "pipe");
  check(write(small[1], "hello ", 6) == 6 && write(small[1], "world", 5) == 5, "write");
  fcntl(large[1], F_SETPIPE_SZ, 1 << 18);
  for (int i = 0; i < 200000; i++) buffer[i] = (char)(i * 7 + i / 256);
  const ssize_t written = write(large[1], buffer, sizeof buffer);
  check(written == sizeof buffer, "write");
  check(write(ended[1], "last", 4) == 4, "write");
  close(ended[1]);
  close(broken[0]);
  const int twin = dup(small[0]);
  mkfifo("fifo", 0600);
  const int fifo_out = open("fifo", O_RDONLY | O_NONBLOCK), fifo_in = open("fifo", O_WRONLY);
  check(write(fifo_in, "through a fifo", 14) == 14, "fifo");
  const int watcher = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = small[0]};
  epoll_ctl(watcher, EPOLL_CTL_ADD, small[0], &event);

  wait_for_go();

  char found[200001] = {0};
  check(epoll_wait(watcher, &event, 1, 1000) == 1 && event.data.fd == small[0], "epoll over a pipe");
  check(read(small[0], found, 3) == 3 && memcmp(found, "hel", 3) == 0, "pipe");
  check(read(twin, found, 100) == 8 && memcmp(found, "lo world", 8) == 0, "rest of the pipe");
  check(write(small[1], "more", 4) == 4 && read(small[0], found, 100) == 4, "the pipe goes on");
  size_t size = 0;
  for (ssize_t got; size < sizeof buffer && (got = read(large[0], found + size, sizeof buffer - size)) > 0;) size += got;
  check(size == sizeof buffer && memcmp(found, buffer, sizeof buffer) == 0, "large pipe: %zu", size);
  check(read(large[0], found, 1) == -1 && errno == EAGAIN, "nonblocking");
  check(fcntl(large[0], F_GETPIPE_SZ) == 1 << 18, "capacity: %d", fcntl(large[0], F_GETPIPE_SZ));
  check(fcntl(large[0], F_GETFD) == FD_CLOEXEC && fcntl(small[0], F_GETFD) == 0, "close-on-exec");
  check(read(ended[0], found, 100) == 4 && read(ended[0], found, 100) == 0, "end of a pipe whose writer is gone");
  check(write(broken[1], "x", 1) == -1 && errno == EPIPE, "a pipe whose reader is gone");
  check(read(fifo_out, found, 100) == 14 && memcmp(found, "through a fifo", 14) == 0, "fifo");
  check(read(fifo_out, found, 1) == -1 && errno == EAGAIN, "flags of a fifo");
  close(fifo_in);
  check(read(fifo_out, found, 1) == 0, "end of a fifo");
  return verdict();
}
