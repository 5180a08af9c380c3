/*
 * A program that checks itself: it sets something up, says that it is ready, waits, and looks whether all is as it was. Whoever tests
 * freezes and restores it in between, any number of times. It works in its current folder:
 *   writes `ready`, waits for `go`; prints "ok" and ends with 0, or says what is wrong and ends with 1.
 */
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int problems;

__attribute__((format(printf, 2, 3), unused)) static void check(bool holds, const char *what, ...) {
  va_list values;
  if (holds) return;
  problems++;
  va_start(values, what);
  printf("wrong: ");
  vprintf(what, values);
  printf("\n");
  va_end(values);
}

/* Absolute, for programs that change their folder. */
static char home[4096];

__attribute__((unused)) static const char *in_home(const char *name) {
  static char path[4200];
  snprintf(path, sizeof path, "%s/%s", home, name);
  return path;
}

__attribute__((unused)) static void ready(void) {
  if (home[0] == 0 && getcwd(home, sizeof home) == 0) abort();
  close(open(in_home("ready"), O_WRONLY | O_CREAT, 0600));
}

__attribute__((unused)) static bool may_go(void) {
  return access(in_home("go"), F_OK) == 0;
}

__attribute__((unused)) static void pause_briefly(void) {
  const struct timespec pause = {0, 2000000};
  nanosleep(&pause, 0);
}

__attribute__((unused)) static void wait_for_go(void) {
  ready();
  while (!may_go()) pause_briefly();
}

__attribute__((unused)) static int verdict(void) {
  if (problems == 0) printf("ok\n");
  fflush(stdout);
  return problems == 0 ? 0 : 1;
}
