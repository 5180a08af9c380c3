/** Small programs, each with something that would be lost if an ISA's own layout of it mattered: there, and there and back, they print the same. */
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { imago, must } from '../../helpers/imago.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'
import { until } from '../preload/started.js'
import { missingCompiler } from './build.js'

/** Each prints `first` and `ready`, comes to migration points until there is a file `go`, then prints the rest. */
const programs: readonly { name: string; source: string; first?: string; prints: string }[] = [
  {
    name: 'threads that ended before the move are joined after it, by the pthread_t that the program kept',
    source: `
#include <imago.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static _Thread_local long mine = 5;
static void *work(void *argument) { mine += (long)argument; return (void *)(mine * 100); }
int main(void) {
  pthread_t threads[3];
  for (long i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) return 1;
  sleep(1);
  puts("ready");
  fflush(stdout);
  while (access("go", F_OK) != 0) imago_migrate();
  for (int i = 0; i < 3; i++) {
    void *result = NULL;
    if (pthread_join(threads[i], &result) != 0) return 2;
    printf("%ld\\n", (long)result);
  }
  return 0;
}`,
    prints: '500\n600\n700\n',
  },
  {
    name: 'what is under way between two sockets of its own arrives; a read with a limit ends, also one of a raw terminal',
    source: `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <imago.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>
int main(void) {
  char text[100] = "";
  int pair[2], master = posix_openpt(O_RDWR | O_NOCTTY);
  if (grantpt(master) != 0 || unlockpt(master) != 0) return 1;
  int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
  struct termios settings;
  tcgetattr(terminal, &settings);
  cfmakeraw(&settings);
  settings.c_cc[VMIN] = 0, settings.c_cc[VTIME] = 1;
  tcsetattr(terminal, TCSANOW, &settings);
  printf("%zd\\n", read(terminal, text, 1));
  close(terminal), close(master);
  const struct timeval limit = {0, 50000};
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 2;
  setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  write(pair[0], "there", 5);
  write(pair[1], "and back", 8);
  puts("ready");
  fflush(stdout);
  while (access("go", F_OK) != 0) imago_migrate();
  long got = read(pair[1], text, 99);
  printf("%.*s\\n", (int)got, text);
  got = read(pair[0], text, 99);
  printf("%.*s\\n", (int)got, text);
  got = read(pair[0], text, 1);
  printf("%ld %d\\n", got, errno == EAGAIN);
  return 0;
}`,
    first: '0\n',
    prints: 'there\nand back\n-1 1\n',
  },
  {
    name: 'thread-local variables keep their addresses, values and alignment; constructors see them',
    source: `
#include <imago.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
static _Thread_local alignas(64) long steps = 5;
static _Thread_local char large[100000];
static _Thread_local const int limit = 1000;
__attribute__((noinline)) static long *own(void) { return &steps; }
__attribute__((constructor)) static void begin(void) { steps += 100; }
static void *work(void *argument) {
  long number = (long)argument, *mine = own();
  char *last = &large[sizeof large - 1];
  while (access("go", F_OK) != 0) {
    imago_migrate();
    *last = (char)number;
    usleep(1000);
  }
  for (int i = 0; i < limit; i++) *mine += number;
  if (mine != own() || (uintptr_t)mine % 64 != 0 || large[sizeof large - 1] != (char)number) return NULL;
  return (void *)steps;
}
int main(void) {
  pthread_t threads[3];
  for (long i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) return 1;
  puts("ready");
  fflush(stdout);
  long first = (long)work((void *)7);
  for (int i = 0; i < 3; i++) {
    void *result = NULL;
    if (pthread_join(threads[i], &result) != 0) return 2;
    printf("%ld\\n", (long)result);
  }
  printf("%ld\\n", first);
  return 0;
}`,
    prints: '5\n1005\n2005\n7105\n',
  },
  {
    name: 'what libc calls back leaves the frames alone of those who wait for it',
    source: `
#include <imago.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((noinline)) static long depth(long n) {
  volatile long much[64];
  memset((void *)much, 0x5a, sizeof much);
  return n == 0 ? 0 : 1 + depth(n - 1) + (much[n] & 0);
}
static int compare(const void *a, const void *b) {
  long x = *(const long *)a, y = *(const long *)b;
  return depth(5) != 5 ? 0 : (x > y) - (x < y);
}
static unsigned state = 1;
__attribute__((noinline)) static void sorted(void) {
  long list[500], sum = 0, again = 0;
  for (int i = 0; i < 500; i++) sum += list[i] = (state = state * 1103515245 + 12345) >> 8;
  qsort(list, 500, sizeof *list, compare);
  for (int i = 0; i < 500; i++) again += i == 0 || list[i - 1] <= list[i] ? list[i] : 0;
  printf("%ld %d\\n", depth(10), sum == again);
}
int main(void) {
  sorted();
  puts("ready");
  fflush(stdout);
  while (access("go", F_OK) != 0) imago_migrate();
  sorted();
  return 0;
}`,
    prints: '10 1\n',
    first: '10 1\n',
  },
]

for (const { name, source, first = '', prints } of programs)
  test(name, async ({ skip }) => {
    const reason = missingCompiler()
    skip(reason !== undefined, reason)
    const folder = temporaryFolder()
    const file = (name: string) => path.join(folder, name)
    const printed = () => fs.readFileSync(file('out'), 'utf8')
    fs.writeFileSync(file('program.c'), source)
    must('cc', '-O2', file('program.c'), '-o', file('program'))
    const out = fs.openSync(file('out'), 'a')
    const child = spawn(file('program_x86-64'), { cwd: folder, stdio: ['ignore', out, 'ignore'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    fs.closeSync(out)
    await until(() => printed() === `${first}ready\n`)
    must('checkpoint', String(child.pid), '-o', file('a'), '--stop')
    must('retarget', file('a'), '--to', 'aarch64', '-o', file('b'))
    must('retarget', file('b'), '--to', 'x86-64', '-o', file('c'))
    fs.writeFileSync(file('go'), '')
    must('restore', file('c'), '--pid', 'new', '--files', 'truncate')
    expect(printed()).toBe(`${first}ready\n${prints}`)
    const there = imago(['restore', file('b'), '--pid', 'new', '--files', 'truncate'])
    skip(there.code === 5, there.stderr)
    expect(there.code).toBe(0)
    expect(printed()).toBe(`${first}ready\n${prints}`)
  })
