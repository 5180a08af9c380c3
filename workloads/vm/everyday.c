/*
 * The system calls that everyday programs make, each done so that its effect is seen. Each line is a call, or several, and
 * what came of it; all of it is the same on any Linux. With the argument "save" the guest asks to be saved half-way.
 */
#define _GNU_SOURCE
#include "said.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, FUTEX_WAIT = 0, FUTEX_WAKE = 1 };
static char text[64];
static struct stat status;
static int file, copy, folder, ends[2];

/* What lies in the file from `offset` on. */
static void content(off_t offset) {
    ssize_t count = pread(file, text, sizeof text - 1, offset);
    text[count < 0 ? 0 : count] = 0;
    printf("from %ld: '%s'\n", (long)offset, text);
}

static void names(void) {
    TRY(mkdir("room", 0755));
    TRY(mkdir("room", 0755));
    TRY(chdir("room"));
    TRY((file = open("a", O_RDWR | O_CREAT | O_EXCL, 0640)) > 2);
    TRY(open("missing", O_RDONLY));
    TRY(access("a", R_OK | W_OK));
    TRY(access("missing", F_OK));
    TRY(symlink("a", "link"));
    TRY(readlink("link", text, sizeof text));
    TRY(stat("link", &status) == 0 && S_ISREG(status.st_mode));
    TRY(lstat("link", &status) == 0 && S_ISLNK(status.st_mode));
    TRY((folder = open(".", O_RDONLY | O_DIRECTORY)) > file);
    TRY(fstatat(folder, "a", &status, 0) == 0 && (status.st_mode & 0777) == 0640);
    TRY(rename("a", "b"));
    TRY(renameat(folder, "b", folder, "c"));
    TRY((copy = openat(folder, "c", O_RDONLY | O_CLOEXEC)) > folder);
    TRY(fcntl(copy, F_GETFD));
    TRY(close(copy));
    TRY(close(copy));
    TRY(unlink("link"));
    TRY(unlinkat(folder, "link", 0));
}

static void bytes(void) {
    struct iovec parts[] = {{"three ", 6}, {"parts", 5}}, halves[] = {{text, 4}, {text + 8, 60}};
    TRY(write(file, "0123456789", 10));
    TRY(lseek(file, -4, SEEK_END));
    TRY(read(file, text, 64));
    TRY(read(file, text, 64));
    TRY(writev(file, parts, 2));
    TRY(pwrite(file, "XY", 2, 2));
    content(0);
    TRY(lseek(file, 1, SEEK_SET));
    TRY(readv(file, halves, 2));
    printf("'%.4s' '%.4s'\n", text, text + 8);
    TRY(pwritev(file, parts, 2, 30));
    TRY(preadv(file, halves, 2, 28) > 0 && text[0] == 0 && text[8] == 'r');
    TRY(fstat(file, &status) == 0 ? status.st_size : -1);
    TRY(ftruncate(file, 5));
    TRY(lseek(file, 0, SEEK_END));
    TRY(fsync(file));
    TRY(fdatasync(file));
    content(0);
    TRY((copy = dup(file)) > folder);
    TRY(dup2(file, 40));
    TRY(dup3(file, 41, O_CLOEXEC));
    TRY(write(copy, "++", 2));
    TRY(lseek(40, 0, SEEK_CUR));
    TRY(fcntl(file, F_SETFL, O_APPEND));
    TRY(fcntl(41, F_GETFL) & (O_APPEND | O_ACCMODE));
    TRY(lseek(file, 0, SEEK_SET));
    TRY(write(40, "at the end", 10));
    content(0);
    TRY(pipe(ends));
    TRY(write(ends[1], "through", 7));
    TRY(ioctl(ends[0], TIOCGWINSZ, text));
    TRY(isatty(file));
}

/* After the save, if there is one: everything is as it was. */
static void after(void) {
    TRY(read(ends[0], text, 64));
    TRY(close(ends[1]));
    TRY(read(ends[0], text, 64));
    TRY(lseek(41, 0, SEEK_CUR));
    TRY(write(copy, "!", 1));
    content(0);
    DIR *listing = opendir(".");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(listing));)
        count += strcmp(entry->d_name, "c") == 0 || entry->d_name[0] == '.';
    TRY(count);
    TRY(closedir(listing));
    TRY(unlinkat(folder, "c", 0));
    TRY(fstat(file, &status) == 0 ? (long)status.st_nlink : -1);
    TRY(chdir(".."));
    TRY(rmdir("room"));
}

static void memory(char *mapped, char *grown) {
    TRY(grown[0] + grown[PAGE]);
    TRY(mapped[0]);
    TRY(mprotect(mapped, PAGE, PROT_READ));
    TRY(pread(file, mapped, 1, 0));
    TRY(mapped[0]);
    TRY(mprotect(mapped, PAGE, PROT_READ | PROT_WRITE));
    mapped = mremap(mapped, 2 * PAGE, 600 * PAGE, MREMAP_MAYMOVE);
    TRY(mapped != MAP_FAILED && mapped[0] == 'm' && mapped[599 * PAGE] == 0);
    TRY(madvise(mapped, PAGE, MADV_DONTNEED));
    TRY(mapped[0]);
    TRY(munmap(mapped, 600 * PAGE));
    TRY(madvise(mapped, PAGE, MADV_DONTNEED));
    char *program = mmap(0, 10, PROT_READ, MAP_PRIVATE, file, 0);
    TRY(program != MAP_FAILED && memcmp(program, "0", 1) == 0);
    TRY(program[4095]);
}

static void time_and_identity(void) {
    struct timespec begin, end, pause = {0, 2000000};
    struct timeval day;
    struct utsname names;
    char random[2][16];
    int word = 1;
    TRY(clock_gettime(CLOCK_MONOTONIC, &begin));
    TRY(nanosleep(&pause, 0));
    TRY(clock_gettime(CLOCK_MONOTONIC, &end));
    TRY((end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec >= 2000000);
    TRY(clock_gettime(CLOCK_REALTIME, &end));
    TRY(gettimeofday(&day, 0));
    TRY(day.tv_sec >= end.tv_sec && day.tv_sec < end.tv_sec + 600);
    TRY(getuid() == geteuid() && getgid() == getegid());
    TRY(getpid() > 0 && getpid() == gettid());
    TRY(uname(&names));
    printf("%s %s\n", names.sysname, names.machine);
    TRY(getrandom(random[0], 16, 0) + getrandom(random[1], 16, 0));
    TRY(memcmp(random[0], random[1], 16) != 0);
    TRY(syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0));
    TRY(syscall(SYS_futex, &word, FUTEX_WAIT, 2, 0, 0, 0));
    TRY(syscall(SYS_set_tid_address, &word) == getpid());
}

int main(int argc, char **argv) {
    umask(022);
    names();
    bytes();
    char *mapped = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *grown = (char *)syscall(SYS_brk, 0);
    TRY(syscall(SYS_brk, grown + 2 * PAGE) == (long)grown + 2 * PAGE);
    mapped[0] = 'm';
    grown[0] = 1;
    grown[PAGE] = 2;
    if (argc > 1 && strcmp(argv[1], "save") == 0)
        syscall(400);
    after();
    memory(mapped, grown);
    time_and_identity();
    return 3;
}
