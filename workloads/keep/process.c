/* What belongs to the process: folder, mask, environment, arguments, title, limits, personality, priority, auxiliary vector. */
#include "keep.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static size_t read_file(const char *path, char *into, size_t size) {
  const int fd = open(path, O_RDONLY);
  const ssize_t got = read(fd, into, size - 1);
  close(fd);
  into[got > 0 ? got : 0] = 0;
  return got > 0 ? got : 0;
}

static unsigned long effective_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct set[2] = {0};
  syscall(SYS_capget, &header, set);
  return set[0].effective | (unsigned long)set[1].effective << 32;
}

static void drop_capability(int number) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct set[2] = {0};
  syscall(SYS_capget, &header, set);
  set[0].effective &= ~(1u << number);
  set[0].permitted &= ~(1u << number);
  syscall(SYS_capset, &header, set);
}

int main(int count, char **words) {
  static char line[4096], line_after[4096], variables[65536], variables_after[65536], auxv[4096], auxv_after[4096], name[32], link[4096], link_after[4096];
  setvbuf(stdout, 0, _IONBF, 0);
  check(getcwd(home, sizeof home) != 0, "getcwd");
  mkdir("inside", 0700);
  check(chdir("inside") == 0, "chdir");
  umask(0137);
  setenv("KEEP", "kept", 1);
  setpriority(PRIO_PROCESS, 0, 5);
  personality(ADDR_NO_RANDOMIZE);
  prctl(PR_SET_NAME, "a new name");
  prctl(PR_SET_TIMERSLACK, 123456);
  if (count > 1) words[1][0] = 'X'; /* shows in /proc/self/cmdline */
  struct rlimit limit = {123, 234}, found; /* lower than any usual one, which root need not be allowed to raise */
  setrlimit(RLIMIT_NOFILE, &limit);
  limit = (struct rlimit){0, 0};
  setrlimit(RLIMIT_CORE, &limit);
  check(setsid() == getpid(), "setsid");
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(0, &processors);
  sched_setaffinity(0, sizeof processors, &processors);
  drop_capability(CAP_MKNOD);
  const unsigned long capabilities = effective_capabilities();
  const pid_t pid = getpid();
  const size_t line_size = read_file("/proc/self/cmdline", line, sizeof line);
  const size_t variables_size = read_file("/proc/self/environ", variables, sizeof variables);
  const size_t auxv_size = read_file("/proc/self/auxv", auxv, sizeof auxv);
  const ssize_t link_size = readlink("/proc/self/exe", link, sizeof link);
  const unsigned long random = *(unsigned long *)getauxval(AT_RANDOM);

  wait_for_go();

  char folder[5000], expected[5000];
  snprintf(expected, sizeof expected, "%s/inside", home);
  check(getcwd(folder, sizeof folder) != 0 && strcmp(folder, expected) == 0, "working directory: %s", folder);
  check(umask(0) == 0137, "umask");
  check(strcmp(getenv("KEEP"), "kept") == 0, "environment");
  check(getpriority(PRIO_PROCESS, 0) == 5, "nice: %d", getpriority(PRIO_PROCESS, 0));
  check(personality(0xffffffff) & ADDR_NO_RANDOMIZE, "personality");
  prctl(PR_GET_NAME, name);
  check(strcmp(name, "a new name") == 0, "name: %s", name);
  check(prctl(PR_GET_TIMERSLACK) == 123456, "timer slack");
  check(getsid(0) == getpid() && getpgrp() == getpid(), "session %d, process group %d of %d", getsid(0), getpgrp(), getpid());
  check(sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) == 1 && CPU_ISSET(0, &processors), "processors");
  check(effective_capabilities() == capabilities, "capabilities: %lx, were %lx", effective_capabilities(), capabilities);
  getrlimit(RLIMIT_NOFILE, &found);
  check(found.rlim_cur == 123 && found.rlim_max == 234, "limit of open files: %lu", found.rlim_cur);
  getrlimit(RLIMIT_CORE, &found);
  check(found.rlim_cur == 0 && found.rlim_max == 0, "limit of cores");
  check(read_file("/proc/self/cmdline", line_after, sizeof line_after) == line_size && memcmp(line, line_after, line_size) == 0, "arguments");
  check(read_file("/proc/self/environ", variables_after, sizeof variables_after) == variables_size && memcmp(variables, variables_after, variables_size) == 0,
        "environment in /proc");
  check(read_file("/proc/self/auxv", auxv_after, sizeof auxv_after) == auxv_size && memcmp(auxv, auxv_after, auxv_size) == 0, "auxiliary vector");
  check(*(unsigned long *)getauxval(AT_RANDOM) == random, "AT_RANDOM");
  if (geteuid() == 0) {
    check(readlink("/proc/self/exe", link_after, sizeof link_after) == link_size && memcmp(link, link_after, link_size) == 0, "/proc/self/exe: %s", link_after);
    check(getpid() == pid, "process id: %d, was %d", getpid(), pid);
  }
  return verdict();
}
