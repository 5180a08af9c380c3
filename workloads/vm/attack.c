/*
 * Tries to leave its root folder, and to make the monitor touch what it should not: wild pointers, huge lengths,
 * impossible descriptors. Each line is what it tried and the errno it got.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <sys/uio.h>
#include <unistd.h>

static void said(const char *what, long result) {
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: %ld\n", what, result);
}

#define TRY(call) said(#call, (long)(call))

int main(void) {
    char byte = 'x', *const wild = (char *)0x7fffffffffffffff;
    char *const monitor = (char *)0x4000000; /* right behind 64 MiB */
    TRY(open("../outside", O_RDONLY));
    TRY(open("/../../../../../outside", O_RDONLY));
    TRY(open("link", O_RDONLY));
    TRY(open("folder-link/outside", O_RDONLY));
    TRY(open("/proc/self/exe", O_RDONLY));
    TRY(open("/etc/passwd", O_RDONLY));
    TRY(unlink("folder-link/outside"));
    TRY(rename("inside", "folder-link/moved"));
    TRY(mkdir("../made", 0777));
    TRY(symlink("/etc/passwd", "made-link"));
    TRY(open("made-link", O_RDONLY));
    TRY(open("fifo", O_RDONLY));
    TRY(write(1, wild, 1));
    TRY(write(1, monitor, 16));
    TRY(write(1, (void *)0, 1));
    int file = open("inside", O_RDWR);
    TRY(read(file, (void *)main, 1));
    TRY(read(file, monitor, 4096));
    TRY(read(file, wild, SIZE_MAX));
    TRY(write(file, &byte, SIZE_MAX) > 0);
    TRY(open(wild, O_RDONLY));
    TRY(write(12345, &byte, 1));
    TRY(write(-1, &byte, 1));
    TRY(close(0x7fffffff));
    TRY(dup2(1, 1 << 30));
    struct iovec vectors[] = {{&byte, 1}, {wild, 1}};
    TRY(writev(file, vectors, 2));
    TRY(writev(file, vectors, -1));
    TRY(writev(file, (void *)8, 1));
    TRY(syscall(SYS_mmap, monitor, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    TRY(syscall(SYS_mmap, 0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    TRY(syscall(SYS_mmap, 0, (size_t)1 << 50, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(syscall(SYS_mmap, 0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(mprotect(monitor, 4096, PROT_READ | PROT_WRITE));
    TRY(munmap(monitor, 4096));
    TRY(syscall(SYS_arch_prctl, 0x1002, (uint64_t)1 << 63));
    TRY(syscall(SYS_getdents64, file, wild, 4096));
    TRY(syscall(SYS_clock_gettime, 0, wild));
    TRY(syscall(SYS_rt_sigaction, 11, wild, 0, 8));
    TRY(syscall(SYS_ptrace, 0, 0, 0, 0));
    TRY(syscall(SYS_fork));
    TRY(syscall(99999));
    TRY(lseek(file, -5, SEEK_SET));
    TRY(pwrite(file, &byte, 1, -1));
    char status[256];
    int epoll = epoll_create1(0), event = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event want = {.events = EPOLLIN};
    TRY(syscall(SYS_statx, AT_FDCWD, "../outside", 0, 0x7ff, status));
    TRY(syscall(SYS_statx, AT_FDCWD, "link", 0, 0x7ff, status));
    TRY(syscall(SYS_statx, AT_FDCWD, "inside", 0, 0x7ff, wild));
    TRY(syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, event, wild));
    TRY(epoll_ctl(epoll, EPOLL_CTL_ADD, 12345, &want));
    TRY(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &want));
    TRY(epoll_ctl(event, EPOLL_CTL_ADD, epoll, &want));
    TRY(syscall(SYS_epoll_wait, epoll, monitor, 1, 0));
    TRY(syscall(SYS_epoll_wait, epoll, status, 0, 0));
    TRY(syscall(SYS_timerfd_settime, timer, 0, wild, 0));
    TRY(syscall(SYS_timerfd_settime, event, 0, status, 0));
    TRY(eventfd(0, 0x40));
    TRY(timerfd_create(CLOCK_MONOTONIC, 0x40));
    return 0;
}
