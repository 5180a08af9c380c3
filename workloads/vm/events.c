/* eventfd, timerfd, epoll and statx: each line says what Linux does, too. No line depends on how fast the machine is. With
 * an argument it asks to be saved (system call 400) in the middle, with events on their way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static void watch(int epoll, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
    printf("not watched: %s\n", strerror(errno));
}

static void report(int epoll, int timeout) {
  struct epoll_event events[8];
  int count = epoll_wait(epoll, events, 8, timeout);
  printf("%d ready:", count);
  for (uint64_t data = 0; data < 100; data++)
    for (int i = 0; i < count; i++)
      if (events[i].data.u64 == data)
        printf(" %d (%#x)", (int)data, events[i].events);
  printf("\n");
}

static long long number(int fd) {
  uint64_t value;
  return read(fd, &value, sizeof value) == sizeof value ? (long long)value : -errno;
}

/* musl has had statx only since 1.2.5: the fields are those of statx(2). */
static const char *how_statx(int folder, const char *path, int flags) {
  static char words[64];
  unsigned char status[256];
  uint64_t size;
  uint16_t mode;
  if (syscall(SYS_statx, folder, path, flags, 0x7ff /* basic */, status) != 0) {
    snprintf(words, sizeof words, "%s\n", strerror(errno));
    return words;
  }
  memcpy(&mode, status + 28, sizeof mode);
  memcpy(&size, status + 40, sizeof size);
  snprintf(words, sizeof words, "%o, %d bytes\n", mode, (int)size);
  return words;
}

int main(int argc, char **argv) {
  (void)argv;
  setbuf(stdout, 0);
  umask(022);
  int epoll = epoll_create1(EPOLL_CLOEXEC), ends[2];
  int event = eventfd(3, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
  int once = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), often = timerfd_create(CLOCK_REALTIME, 0);
  if (pipe(ends) != 0)
    return 1;
  watch(epoll, ends[0], EPOLLIN, 1);
  watch(epoll, event, EPOLLIN, 2);
  watch(epoll, once, EPOLLIN, 3);
  watch(epoll, often, EPOLLIN | EPOLLONESHOT, 4);
  watch(epoll, ends[1], EPOLLOUT | EPOLLET, 5);
  report(epoll, -1);
  report(epoll, -1); /* the edge of 5 has been told */
  printf("count %lld, then %lld\n", number(event), number(event));
  printf("semaphore %lld %lld %lld\n", number(semaphore), number(semaphore), number(semaphore));
  report(epoll, 20);
  struct epoll_event wrong = {0};
  printf("twice: %s\n", epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wrong) == 0 ? "done" : strerror(errno));
  printf("of itself: %s\n", epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &wrong) == 0 ? "done" : strerror(errno));
  printf("no timer: %lld\n", number(once));

  struct itimerspec soon = {.it_value = {.tv_nsec = 30000000}}, left, again = {{0, 10000000}, {0, 10000000}};
  uint64_t five = 5;
  write(event, &five, sizeof five);
  write(ends[1], "abc", 3);
  timerfd_settime(once, 0, &soon, 0);
  timerfd_settime(often, 0, &again, 0);
  struct itimerspec late = {.it_value = {.tv_sec = 100000}};
  int later = timerfd_create(CLOCK_BOOTTIME, 0);
  timerfd_settime(later, 0, &late, 0);
  struct epoll_event oneshot = {.events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 5};
  epoll_ctl(epoll, EPOLL_CTL_MOD, ends[1], &oneshot);
  if (argc > 1)
    syscall(400);
  char bytes[4] = {0};
  struct timespec pause = {0, 60000000};
  nanosleep(&pause, 0); /* all timers have run out */
  report(epoll, -1);
  report(epoll, 0); /* 4 and 5 were told once */
  printf("count %lld, pipe %d %s, once %lld, often %s\n", number(event), (int)read(ends[0], bytes, 3), bytes,
         number(once), number(often) > 0 ? "expired" : "not");
  printf("read waits: %s\n", number(often) > 0 ? "expired" : "not");
  timerfd_gettime(often, &left);
  printf("interval %ld\n", left.it_interval.tv_nsec);
  timerfd_gettime(later, &left);
  printf("later: %s\n", left.it_value.tv_sec > 99000 && left.it_value.tv_sec < 100000 ? "runs" : "wrong");
  again = (struct itimerspec){0};
  timerfd_settime(often, 0, &again, &left);
  printf("off\n");
  report(epoll, 5);
  close(ends[0]);
  report(epoll, 5);
  printf("no epoll: %s\n", epoll_wait(event, &wrong, 1, 0) < 0 ? strerror(errno) : "done");

  int fd = open("statx.txt", O_CREAT | O_RDWR | O_TRUNC, 0640);
  write(fd, "twelve bytes", 12);
  printf("statx: %s", how_statx(AT_FDCWD, "statx.txt", AT_SYMLINK_NOFOLLOW));
  printf("statx of a descriptor: %s", how_statx(fd, "", AT_EMPTY_PATH));
  printf("statx of nothing: %s", how_statx(AT_FDCWD, "nothing", 0));
  return 0;
}
