/* Pairs of sockets (socketpair(2)) of which it has both ends, with what is under way in them. */
#include "keep.h"
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { MUCH = 100000 };

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGPIPE, SIG_IGN);
  int both[2], full[2], shut[2];
  static char buffer[MUCH], found[MUCH + 1];
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, both) == 0, "socketpair");
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, full) == 0, "socketpair");
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, shut) == 0, "socketpair");
  check(write(both[0], "to ", 3) == 3 && write(both[0], "one", 3) == 3 && write(both[1], "and back", 8) == 8, "write");
  for (int i = 0; i < MUCH; i++) buffer[i] = (char)(i * 7 + i / 256);
  for (int i = 0; i < MUCH; i += 5000) check(write(full[0], buffer + i, 5000) == 5000, "write");
  check(write(shut[0], "last", 4) == 4 && shutdown(shut[0], SHUT_WR) == 0, "shutdown");
  const int room = 150000, one = 1;
  int half;
  socklen_t size = sizeof half;
  check(setsockopt(both[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0 && setsockopt(both[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0, "setsockopt");
  const struct timeval limit = {0, 50000};
  check(setsockopt(both[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "a limit");
  const int twin = dup(both[0]), watcher = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = both[1]};
  epoll_ctl(watcher, EPOLL_CTL_ADD, both[1], &event);

  wait_for_go();

  check(epoll_wait(watcher, &event, 1, 1000) == 1 && event.data.fd == both[1], "epoll over a socket");
  check(read(both[1], found, 2) == 2 && memcmp(found, "to", 2) == 0, "what was sent");
  check(read(both[1], found, 100) == 4 && memcmp(found, " one", 4) == 0, "rest of what was sent");
  check(read(twin, found, 100) == 8 && memcmp(found, "and back", 8) == 0, "what was sent back");
  check(write(both[1], "more", 4) == 4 && read(both[0], found, 100) == 4, "the pair goes on");
  check(read(both[0], found, 1) == -1 && errno == EAGAIN, "time limit");
  check(getsockopt(both[0], SOL_SOCKET, SO_SNDBUF, &half, &size) == 0 && half == 2 * room, "room: %d", half);
  check(getsockopt(both[1], SOL_SOCKET, SO_PASSCRED, &half, &size) == 0 && half == 1, "credentials");
  size_t got = 0;
  for (ssize_t more; got < MUCH && (more = read(full[1], found + got, MUCH - got)) > 0;) got += more;
  check(got == MUCH && memcmp(found, buffer, MUCH) == 0, "much: %zu", got);
  check(read(full[1], found, 1) == -1 && errno == EAGAIN, "nonblocking");
  check(fcntl(full[0], F_GETFD) == FD_CLOEXEC && fcntl(both[0], F_GETFD) == 0, "close-on-exec");
  check(read(shut[1], found, 100) == 4 && read(shut[1], found, 100) == 0, "end of one that was shut");
  check(write(shut[0], "x", 1) == -1 && errno == EPIPE, "one that was shut");
  check(write(shut[1], "y", 1) == 1 && read(shut[0], found, 100) == 1, "its other direction");
  close(both[0]), close(twin);
  check(read(both[1], found, 100) == 0, "end of the pair");
  return verdict();
}
