/*
 * Tries to leave its root folder, and to make the monitor touch what it should not: wild pointers, huge lengths,
 * impossible descriptors. Each line is what it tried and the errno it got. With an argument something less: a number opens what
 * somebody else exchanges with a symlink meanwhile, so often.
 */
#define _GNU_SOURCE
#include "said.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <sys/uio.h>
#include <unistd.h>

/* Other than the call itself: what it is about would not do as a name. */
#define TELL(what, call) said(what, (long)(call))

enum { END = 0x4000000 }; /* of 64 MiB; what lies behind is the monitor's */
static char byte = 'x';
static char *const wild = (char *)0x7fffffffffffffff, *const top = (char *)-8, *const monitor = (char *)END;
static char *const last = (char *)END - 8;

static void paths(void) {
    TRY(open("../outside", O_RDONLY));
    TRY(open("/../../../../../outside", O_RDONLY));
    TRY(open("link", O_RDONLY));
    TRY(open("link", O_PATH | O_NOFOLLOW));
    TRY(open("folder-link/outside", O_RDONLY));
    TRY(open("loop", O_RDONLY));
    TRY(open("/proc/self/exe", O_RDONLY));
    TRY(open("/etc/passwd", O_RDONLY));
    TRY(open("../outside", O_CREAT | O_EXCL | O_WRONLY, 0666) >= 0); /* in the root, where `..` leads nowhere */
    TRY(unlink("outside"));
    TRY(unlink("folder-link/outside"));
    TRY(rename("inside", "folder-link/moved"));
    TRY(rename("../other/outside", "stolen"));
    TRY(syscall(SYS_renameat2, AT_FDCWD, "inside", AT_FDCWD, "link/..", 2 /* exchange */));
    TRY(mkdir("../made", 0777));
    TRY(symlink("/etc/passwd", "made-link"));
    TRY(open("made-link", O_RDONLY));
    TRY(chmod("made-link", 0777));
    TRY(truncate("link", 0));
    TRY(chown("link", 0, 0));
    TRY(access("link", R_OK));
    TRY(syscall(SYS_link, "../outside", "linked"));
    TRY(syscall(SYS_mknod, "device", 0020666, 0x103));
    TRY(open("fifo", O_RDONLY));
    TRY(open("fifo", O_RDWR));
    TRY(open(".", O_TMPFILE | O_RDWR, 0600));
    /* A folder that moves while it is open: `..` of it still ends at the root. */
    int folder = open("made", O_RDONLY | O_DIRECTORY), path = open("made", O_PATH);
    TELL("rename of an open folder", rename("made", "moved"));
    TRY(openat(folder, "../../outside", O_RDONLY));
    TRY(openat(path, "../../../outside", O_RDONLY));
    TRY(openat(path, "/../outside", O_RDONLY));
    TRY(read(path, &byte, 1));
    TRY(syscall(SYS_fchmod, path, 0777));
    TRY(openat(path, "", O_RDONLY));
    TRY(openat(-5, "inside", O_RDONLY));
    TRY(openat(0x7fffffff, "inside", O_RDONLY));
    TRY(openat(1, "inside", O_RDONLY));
    TRY(openat(open("inside", O_RDONLY), "inside", O_RDONLY));
    TRY(syscall(SYS_openat, 0xffffffff00000000 | (unsigned)AT_FDCWD, "inside", O_RDONLY) > 0);
    TRY(chdir("folder-link"));
    TRY(chdir("/.."));
    TRY(fchdir(1));
    struct stat made;
    int file = open("made-program", O_CREAT | O_RDWR, 07777);
    TELL("set-user-ID at open", fstat(file, &made) == 0 && (made.st_mode & 06000));
    TELL("set-user-ID by fchmod", fchmod(file, 06755) == 0 && fstat(file, &made) == 0 && (made.st_mode & 06000));
    TELL("set-user-ID by chmod",
         chmod("made-program", 06755) == 0 && fstat(file, &made) == 0 && (made.st_mode & 06000));
    close(file);
}

static void descriptors(int file) {
    TRY(write(12345, &byte, 1));
    TRY(write(-1, &byte, 1));
    TRY(close(0x7fffffff));
    TRY(dup2(1, 1 << 30));
    TRY(fcntl(1, F_DUPFD, 1 << 30));
    TRY(lseek(file, -5, SEEK_SET));
    TRY(pwrite(file, &byte, 1, -1));
    TRY(ioctl(file, 0x5412 /* TIOCSTI */, &byte));
    int taken = 0, fd;
    while ((fd = dup(1)) >= 0)
        taken = fd;
    TELL("after 1024 descriptors", fd);
    TELL("the last one", taken);
    TELL("a pipe after them", pipe((int[2]){0}));
    TELL("eventfd after them", eventfd(0, 0));
    TELL("a folder after them", mkdir("late", 0777));
    while (taken > file)
        close(taken--);
}

static void pointers(int file) {
    TRY(write(1, wild, 1));
    TRY(write(1, top, 16));
    TRY(write(1, monitor, 16));
    TRY(write(1, (void *)0, 1));
    TRY(read(file, (void *)paths, 1));
    TRY(read(file, monitor, 4096));
    TRY(read(file, wild, SIZE_MAX));
    TRY(pread(file, last, 16, 0) <= 8); /* up to the end of memory, no further */
    TRY(write(file, &byte, SIZE_MAX) > 0);
    TRY(open(wild, O_RDONLY));
    TRY(open(top, O_RDONLY));
    memset(last, 'x', 8);
    TRY(open(last, O_RDONLY)); /* no NUL before the end */
    TRY(syscall(SYS_fstat, file, last));
    TRY(syscall(SYS_fstat, file, top));
    TRY(syscall(SYS_stat, "inside", monitor));
    TRY(syscall(SYS_nanosleep, last + 1, 0));
    TRY(syscall(SYS_nanosleep, top, 0));
    TRY(syscall(SYS_futex, top, 0, 0, 0));
    TRY(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, last + 4));
    TRY(syscall(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, (uint64_t)1 << 63));
    TRY(syscall(SYS_getdents64, file, wild, 4096));
    TRY(syscall(SYS_clock_gettime, 0, wild));
    TRY(syscall(SYS_rt_sigaction, 11, wild, 0, 8));
    TRY(syscall(SYS_rt_sigprocmask, 0, top, 0, 8));
    TRY(syscall(SYS_getcwd, monitor, 4096));
    TRY(syscall(SYS_readlink, "link", monitor, 4096));
    TRY(syscall(SYS_getrandom, monitor, SIZE_MAX, 0));
    TRY(syscall(SYS_uname, last));
    TRY(syscall(SYS_fcntl, file, F_SETLK, top));
    TRY(syscall(SYS_ioctl, 0, 0x5401 /* TCGETS */, monitor));
    TRY(syscall(SYS_pipe, last + 4));
}

static void vectors(int file) {
    struct iovec partly[] = {{&byte, 1}, {wild, 1}}, huge[] = {{&byte, SIZE_MAX}, {&byte, 1}};
    TRY(writev(file, partly, 2));
    TRY(writev(file, huge, 2));
    TRY(writev(file, partly, -1));
    TRY(syscall(SYS_writev, file, partly, 1025));
    TRY(syscall(SYS_writev, file, partly, 1ul << 31));
    TRY(syscall(SYS_readv, file, partly, UINT64_MAX));
    TRY(writev(file, (void *)8, 1));
    TRY(writev(file, (void *)top, 1));
    TRY(writev(file, (void *)(last - 8), 2));
    TRY(preadv(file, partly, 1, -1));
    /* What the first piece reads lies over the second one's place: it was taken before. */
    uint64_t from[2] = {(uint64_t)monitor, 4096}, kept[2] = {0, 0};
    struct iovec over[] = {{0, 16}, {kept, 16}};
    over[0].iov_base = &over[1];
    pwrite(file, from, 16, 0), pwrite(file, from, 16, 16);
    TELL("a vector that is read over itself", preadv(file, over, 2, 0));
    TELL("its second piece", kept[0] == from[0] && kept[1] == from[1]);
}

static void memory(void) {
    TRY(syscall(SYS_mmap, monitor, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    TRY(syscall(SYS_mmap, top - 4088, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    TRY(syscall(SYS_mmap, 0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    TRY(syscall(SYS_mmap, 0, (size_t)1 << 50, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(syscall(SYS_mmap, 0, SIZE_MAX, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(syscall(SYS_mmap, 0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(mprotect(monitor, 4096, PROT_READ | PROT_WRITE));
    TRY(mprotect(monitor - 4096, 8192, PROT_READ | PROT_WRITE));
    TRY(mprotect((char *)((uintptr_t)paths & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    TRY(munmap(monitor, 4096));
    TRY(munmap(top - 4088, 8192));
    TRY(syscall(SYS_mremap, monitor, 4096, 8192, 1, 0));
    TRY(syscall(SYS_mremap, last - 4088, 4096, SIZE_MAX, 1, 0));
    TRY(syscall(SYS_brk, UINT64_MAX) < END);
    TRY(syscall(SYS_madvise, monitor, 4096, 4));
}

static void waits(int file) {
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
    TRY(syscall(SYS_epoll_wait, epoll, status, INT32_MAX, 0));
    TRY(syscall(SYS_poll, status, UINT64_MAX, 0));
    TRY(syscall(SYS_poll, top, 1, 0));
    TRY(syscall(SYS_select, INT32_MAX, status, 0, 0, 0));
    TRY(syscall(SYS_select, 64, last + 4, 0, 0, 0));
    TRY(syscall(SYS_timerfd_settime, timer, 0, wild, 0));
    TRY(syscall(SYS_timerfd_settime, event, 0, status, 0));
    TRY(eventfd(0, 0x40));
    TRY(timerfd_create(CLOCK_MONOTONIC, 0x40));
    TRY(syscall(SYS_timer_create, CLOCK_MONOTONIC, wild, status));
    TRY(syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, top));
    TRY(syscall(SYS_timer_settime, 99, 0, status, 0));
    TRY(syscall(SYS_timer_gettime, -1, status));
    TRY(syscall(SYS_signalfd4, -1, wild, 8, 0));
    TRY(syscall(SYS_signalfd4, file, status, 8, 0));
    TRY(syscall(SYS_rt_sigqueueinfo, 1, 34, wild));
    int timers = 0;
    while (syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, status) == 0)
        timers++;
    TELL("timers", timers);
}

static void processes(void) {
    TRY(syscall(SYS_ptrace, 0, 0, 0, 0));
    TRY(syscall(SYS_fork));
    TRY(syscall(SYS_execve, "/bin/sh", 0, 0));
    TRY(syscall(SYS_socket, 1, 1, 0));
    TRY(kill(2, SIGKILL));
    TRY(syscall(99999));
    TRY(syscall(UINT64_MAX));
}

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }

/* Jumps and instructions that would leave ring 3: each ends in a signal. */
#define CAUGHT(what, code)                                                                                             \
    do {                                                                                                               \
        int number = sigsetjmp(back, 1);                                                                               \
        if (number == 0)                                                                                               \
            code;                                                                                                      \
        printf("%s: %s\n", what, number ? "a signal" : "done");                                                 \
    } while (0)

static void instructions(void) {
    static char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
    for (const int *number = (int[]){SIGSEGV, SIGILL, SIGBUS, SIGTRAP, 0}; *number; number++)
        sigaction(*number, &action, 0);
    CAUGHT("a load behind memory", (void)*(volatile char *)monitor);
    CAUGHT("a store into the page tables", *(volatile char *)(monitor + 0x8000) = 0);
    CAUGHT("a store into the system call stub", *(volatile char *)(monitor + 0x6000) = 0);
    CAUGHT("a jump to the fault stubs", ((void (*)(void))(uintptr_t)(monitor + 0x5000))());
    CAUGHT("hlt", __asm__ volatile("hlt"));
    CAUGHT("cli", __asm__ volatile("cli"));
    CAUGHT("in", __asm__ volatile("in $0x60, %%al" ::: "rax"));
    CAUGHT("out to the port of faults", __asm__ volatile("out %al, $0x11"));
    CAUGHT("a write of CR3", __asm__ volatile("mov %0, %%cr3" : : "r"(0ul)));
    CAUGHT("wrmsr", __asm__ volatile("wrmsr" : : "a"(0), "c"(0xc0000082), "d"(0)));
    CAUGHT("int 0x80", __asm__ volatile("int $0x80" : : "a"(1ul)));
    CAUGHT("sysretq", __asm__ volatile("sysretq" : : : "rcx", "r11"));
    CAUGHT("a stack nowhere", __asm__ volatile("mov %0, %%rsp; push %%rax" : : "r"(top)));
}

/* For the root `/`: the host's /proc shows the monitor. */
static void proc(void) {
    TRY(open("/proc/self/mem", O_RDWR));
    TRY(open("/proc/self/maps", O_RDONLY));
    TRY(open("/proc/self/environ", O_RDONLY));
    TRY(open("/proc/self/root/etc/passwd", O_RDONLY));
    TRY(open("/proc/self/cwd/inside", O_RDONLY));
    TRY(open("/proc/self/fd/0", O_RDONLY));
    TRY(open("/proc/self/exe", O_RDONLY));
    TRY(open("/dev/null", O_RDWR));
}

/* Its memory is mapped from the file a.vm, which also has the name a-link. */
static void own_image(void) {
    syscall(400);
    TRY(open("a.vm", O_RDONLY) > 0);
    TRY(open("a.vm", O_WRONLY | O_TRUNC));
    TRY(open("a-link", O_RDWR));
    TRY(truncate("a.vm", 0));
    TRY(unlink("a.vm"));
}

static int races(int count) {
    int secrets = 0;
    for (int i = 0; i < count; i++) {
        char read_here[8] = {0};
        int fd = open("swap/outside", O_RDONLY);
        if (fd >= 0 && read(fd, read_here, 7) > 0 && strcmp(read_here, "in\n") != 0)
            secrets++;
        close(fd);
    }
    return secrets;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        if (strcmp(argv[1], "proc") == 0)
            proc();
        else if (strcmp(argv[1], "image") == 0)
            own_image();
        else
            printf("%d secrets\n", races(atoi(argv[1])));
        return 0;
    }
    paths();
    int file = open("inside", O_RDWR);
    descriptors(file);
    pointers(file);
    vectors(file);
    memory();
    waits(file);
    processes();
    instructions();
    return 0;
}
