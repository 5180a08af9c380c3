/*
 * until: starts a program, lets it run to an address, and leaves it there, stopped, on its own.
 *
 *   until at ADDRESS PROGRAM ARGS…       stopped before the instruction at ADDRESS is executed
 *   until after ADDRESS PROGRAM ARGS…    ADDRESS is a function's: stopped right after its first call has returned
 *
 * Prints the PID on descriptor 3 when there is one, else on stdout, and ends; the program, which has the other descriptors, goes
 * on with SIGCONT. Addresses are those of the running program (hexadecimal with 0x). Exit status: 0 stopped there; 3 it
 * ended before; 1 anything else.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
static const uint32_t BREAKPOINT = 0xcc, BREAKPOINT_MASK = 0xff; /* int3; the program counter is behind it afterwards */
typedef struct user_regs_struct registers;
#define BREAKPOINT_ADVANCE 1
#define PC(r) ((r).rip)
#define SP(r) ((r).rsp)
#elif defined(__aarch64__)
static const uint32_t BREAKPOINT = 0xd4200000, BREAKPOINT_MASK = 0xffffffff; /* brk #0; the program counter stays on it */
typedef struct user_regs_struct registers;
#define BREAKPOINT_ADVANCE 0
#define PC(r) ((r).pc)
#define SP(r) ((r).sp)
#else
#error "x86-64 or aarch64"
#endif

static pid_t child;

static void fail(const char *what) {
  fprintf(stderr, "until: %s: %s\n", what, strerror(errno));
  if (child > 0) kill(child, SIGKILL);
  exit(1);
}

static long peek(uint64_t address) {
  errno = 0;
  long word = ptrace(PTRACE_PEEKDATA, child, (void *)address, 0);
  if (errno != 0) fail("no such address in the program");
  return word;
}

static void poke(uint64_t address, long word) {
  if (ptrace(PTRACE_POKEDATA, child, (void *)address, (void *)word) != 0) fail("write a breakpoint");
}

static void transfer(enum __ptrace_request request, registers *into) {
  struct iovec vector = {into, sizeof *into};
  if (ptrace(request, child, (void *)NT_PRSTATUS, &vector) != 0) fail("registers");
}

/* Waits for a stop; the signal. Ends this program when the child ended. */
static int wait_for_stop(void) {
  int status;
  if (waitpid(child, &status, 0) != child) fail("wait");
  if (WIFSTOPPED(status)) return WSTOPSIG(status);
  fprintf(stderr, "until: the program ended before it came there (%s %d)\n", WIFEXITED(status) ? "status" : "signal",
          WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  exit(3);
}

/* Runs to `address` and stands on it, the program as it was. `stack` not 0: only once the stack pointer is above it. */
static registers run_to(uint64_t address, uint64_t stack) {
  registers now;
  for (;;) {
    const long word = peek(address);
    poke(address, (long)(((uint64_t)word & ~(uint64_t)BREAKPOINT_MASK) | BREAKPOINT));
    for (int deliver = 0;;) {
      if (ptrace(PTRACE_CONT, child, 0, (void *)(long)deliver) != 0) fail("continue");
      const int signal = wait_for_stop();
      transfer(PTRACE_GETREGSET, &now);
      if (signal == SIGTRAP && PC(now) == address + BREAKPOINT_ADVANCE) break;
      deliver = signal == SIGTRAP ? 0 : signal;
    }
    poke(address, word);
    PC(now) = address;
    transfer(PTRACE_SETREGSET, &now);
    if (SP(now) > stack) return now;
    /* A deeper call came by: step over the instruction and wait again. */
    if (ptrace(PTRACE_SINGLESTEP, child, 0, 0) != 0) fail("step");
    wait_for_stop();
  }
}

/* Where the call that has just been entered returns to. */
static uint64_t return_address(const registers *now) {
#if defined(__x86_64__)
  return (uint64_t)peek(now->rsp);
#else
  return now->regs[30];
#endif
}

int main(int argc, char **argv) {
  if (argc < 4 || (strcmp(argv[1], "at") != 0 && strcmp(argv[1], "after") != 0)) {
    fprintf(stderr, "usage: until at|after ADDRESS PROGRAM [ARGUMENTS]\n");
    return 1;
  }
  const uint64_t address = strtoull(argv[2], NULL, 16);
  const int report = fcntl(3, F_SETFD, FD_CLOEXEC) == 0 ? 3 : 1;
  child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    setsid();
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    execv(argv[3], argv + 3);
    fprintf(stderr, "until: %s: %s\n", argv[3], strerror(errno));
    _exit(127);
  }
  wait_for_stop();
  registers now = run_to(address, 0);
  if (strcmp(argv[1], "after") == 0) {
#if defined(__x86_64__)
    const uint64_t stack = SP(now);
#else
    const uint64_t stack = SP(now) - 1;
#endif
    now = run_to(return_address(&now), stack);
  }
  /* The stop signal is delivered as the tracer lets go: the program stands where it is. */
  if (ptrace(PTRACE_DETACH, child, 0, (void *)(long)SIGSTOP) != 0) fail("detach");
  dprintf(report, "%d\n", (int)child);
  return 0;
}
