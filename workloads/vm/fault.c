/*
 * Accesses that must fault though a moment before they were allowed (a stale translation would let them through), each
 * caught by a handler; then one fault that nobody catches, two calls deep, for the monitor's report.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static const int READ_WRITE = PROT_READ | PROT_WRITE;
static sigjmp_buf back;

static void caught(int number) { siglongjmp(back, number); }

static void try(const char *what, void (*access)(char *), char *page) {
    int number = sigsetjmp(back, 1);
    if (number == 0) {
        access(page);
        printf("%s: done\n", what);
    } else
        printf("%s: %s\n", what, strsignal(number));
}

static void load(char *page) { (void)*(volatile char *)page; }
static void store(char *page) { *(volatile char *)page = 1; }
static void run(char *page) { ((void (*)(void))page)(); }
static void undefined(char *page) {
    (void)page;
    __asm__ volatile("ud2");
}
static void divide(char *page) {
    volatile int zero = 0;
    *page = (char)(7 / zero);
}

static char *fresh(void) { return mmap(0, PAGE, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

__attribute__((noinline)) static void inner(volatile long *address) { *address = 1; }
__attribute__((noinline)) static void outer(long address) {
    inner((volatile long *)address);
    __asm__ volatile("");
}

int main(void) {
    for (const int *number = (int[]){SIGSEGV, SIGILL, SIGFPE, 0}; *number; number++)
        signal(*number, caught);
    for (int round = 0; round < 20; round++) {
        char *page = fresh();
        try("store to a writable page", store, page);
        mprotect(page, PAGE, PROT_READ);
        try("store after mprotect to read-only", store, page);
        try("load after mprotect to read-only", load, page);
        mprotect(page, PAGE, READ_WRITE);
        try("store after mprotect back", store, page);
        *page = (char)0xc3; /* ret */
        try("run of a page of data", run, page);
        mprotect(page, PAGE, PROT_READ | PROT_EXEC);
        try("run after mprotect to executable", run, page);
        mprotect(page, PAGE, PROT_NONE);
        try("load after mprotect to nothing", load, page);
        munmap(page, PAGE);
        try("load after munmap", load, page);
    }
    char *page = fresh();
    try("an undefined instruction", undefined, page);
    try("a division by zero", divide, page);
    signal(SIGSEGV, SIG_DFL);
    fflush(stdout);
    outer(0x10);
    __asm__ volatile("");
    return 0;
}
