/* Functions that libc calls: on its way from a start, a sort, a walk, to an end. No frame of theirs can be moved, none may disturb others. */
#define _GNU_SOURCE
#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

/* Recursion with a local in each frame. */
__attribute__((noinline)) static long depth(long n) {
  volatile char much[200];
  memset((void *)much, 0x5a, sizeof much);
  return n <= 0 ? much[0] - 0x5a : 1 + depth(n - 1);
}

__attribute__((constructor)) static void begin(void) { printf("begin %ld\n", depth(7)); }
static void at_end(void) { printf("at the end %ld\n", depth(8)); fflush(stdout); }
static int by_value(const void *a, const void *b) { return depth(3) == 3 ? *(const int *)a - *(const int *)b : 0; }
static int by_value_and_more(const void *a, const void *b, void *more) { return depth(*(int *)more) == 6 ? *(const int *)b - *(const int *)a : 0; }
static int visible(const struct dirent *entry) { return depth(2) == 2 && entry->d_name[0] != '.'; }
static int visit(const char *name, const struct stat *status, int kind, struct FTW *where) {
  (void)status;
  printf("%d %d %s\n", kind == FTW_D, where->level, where->level == 0 ? "top" : name + where->base);
  return depth(4) - 4;
}
static void clean(void *argument) { printf("clean %ld\n", depth((long)argument)); }

static once_flag once = ONCE_FLAG_INIT;
static mtx_t mutex;
static cnd_t condition;
static int turn;
static void first(void) { printf("once %ld\n", depth(5)); }
static int work(void *argument) {
  int number = (int)(long)argument;
  call_once(&once, first);
  mtx_lock(&mutex);
  while (turn != number) cnd_wait(&condition, &mutex);
  printf("thread %d, %ld\n", number, depth(number));
  turn++;
  cnd_broadcast(&condition);
  mtx_unlock(&mutex);
  if (number == 2) thrd_exit(20);
  return number * 5;
}

int main(void) {
  int list[100], more = 6, key = 50, sum = 0;
  unsigned state = 1;
  for (int i = 0; i < 100; i++) list[i] = (int)((state = state * 1103515245 + 12345) >> 8);
  qsort(list, 100, sizeof *list, by_value);
  for (int i = 1; i < 100; i++) sum += list[i - 1] <= list[i];
  qsort_r(list, 100, sizeof *list, by_value_and_more, &more);
  for (int i = 1; i < 100; i++) sum += list[i - 1] >= list[i];
  size_t count = 0;
  int found[4] = {0};
  for (int i = 0; i < 4; i++) lsearch(&key, found, &count, sizeof *found, by_value);
  printf("%d, %zu found, %ld\n", sum, count, depth(9));

  char folder[] = "callbacks-XXXXXX";
  if (mkdtemp(folder) == NULL) return 1;
  char name[64];
  snprintf(name, sizeof name, "%s/inner", folder);
  if (mkdir(name, 0700) != 0) return 1;
  struct dirent **entries;
  int entry_count = scandir(folder, &entries, visible, alphasort);
  for (int i = 0; i < entry_count; i++) printf("entry %s\n", entries[i]->d_name), free(entries[i]);
  free(entries);
  if (nftw(folder, visit, 8, FTW_PHYS) != 0) return 1;
  if (rmdir(name) != 0 || rmdir(folder) != 0) return 1;

  pthread_cleanup_push(clean, (void *)6L);
  printf("before %ld\n", depth(2));
  pthread_cleanup_pop(1);

  thrd_t threads[3];
  if (mtx_init(&mutex, mtx_plain) != thrd_success || cnd_init(&condition) != thrd_success) return 1;
  for (long i = 0; i < 3; i++)
    if (thrd_create(&threads[i], work, (void *)i) != thrd_success) return 1;
  int results[3];
  for (int i = 0; i < 3; i++)
    if (thrd_join(threads[i], &results[i]) != thrd_success) return 1;
  printf("results %d %d %d\n", results[0], results[1], results[2]);
  fflush(stdout);
  atexit(at_end);
  pid_t child = fork();
  if (child == 0) exit((int)depth(3));
  int status;
  if (waitpid(child, &status, 0) != child) return 1;
  printf("child %d\n", WEXITSTATUS(status));
  return 0;
}
