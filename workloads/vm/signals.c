/*
 * What signals a single-threaded musl program can have: a handler that repairs a fault, one on its own stack, masks,
 * raise, abort with a handler that jumps out, a division by zero, and floating-point state across a handler.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static char *page;
static volatile int seen;
static volatile int zero;
static volatile int *volatile nearly_null = (int *)8;

static void repair(int signal, siginfo_t *info, void *context) {
    (void)context;
    volatile double spoil = 3.25;
    spoil = spoil * 1e9;
    printf("signal %d code %d offset %ld\n", signal, info->si_code, (long)((char *)info->si_addr - page));
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void jump(int signal) { siglongjmp(back, signal); }
static void count(int signal) { seen = seen * 100 + signal; }

int main(void) {
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 1;
    mprotect(page, 4096, PROT_READ);
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, 0);
    double before = 1.0 / 3;
    page[0] = 42; /* faults once: the page was made read-only after it had been written */
    printf("%d %.17g\n", page[0], before);

    action = (struct sigaction){.sa_handler = jump, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGFPE, &action, 0);
    sigaction(SIGABRT, &action, 0);
    sigaction(SIGILL, &action, 0);
    int signal;
    if (!(signal = sigsetjmp(back, 1)))
        *nearly_null = 1;
    printf("null: %d\n", signal);
    munmap(page, 4096);
    if (!(signal = sigsetjmp(back, 1)))
        printf("%d\n", *(volatile char *)page);
    printf("unmapped: %d\n", signal);
    if (!(signal = sigsetjmp(back, 1)))
        ((void (*)(void))(uintptr_t)(page + 4096))();
    printf("no execution of data: %d\n", signal);
    if (!(signal = sigsetjmp(back, 1)))
        *(volatile char *)(uintptr_t)&main = 0;
    printf("no writing of code: %d\n", signal);
    if (!(signal = sigsetjmp(back, 1)))
        printf("%d\n", 1 / zero);
    printf("division: %d\n", signal);
    if (!(signal = sigsetjmp(back, 1)))
        __asm__ volatile("ud2");
    printf("illegal: %d\n", signal);
    if (!(signal = sigsetjmp(back, 1)))
        abort();
    printf("abort: %d\n", signal);

    action = (struct sigaction){.sa_handler = count};
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    printf("blocked: %d\n", seen);
    sigprocmask(SIG_UNBLOCK, &set, 0);
    printf("unblocked: %d\n", seen);
    fflush(stdout);
    raise(SIGTERM);
    return 0;
}
