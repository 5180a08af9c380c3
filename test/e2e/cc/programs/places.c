/*
 * Structures and doubles through `...`, more than the registers take; destructors of thread-specific data that look at thread-locals; and the
 * places that --migrate-at can name: loops, entries, functions, or (-DEXPLICIT, -DPOPCORN) calls of the program's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <stdarg.h>
#include <pthread.h>
#ifdef EXPLICIT
#include <imago.h>
#endif
struct three { double a; long b; float c; };
struct two { double x, y; };
struct big { long v[5]; double d; };
#ifdef POPCORN
static int moves;
static void moved(void *data) { ++*(int *)data; }
#endif
__attribute__((noinline)) double many(int count, ...) {
  va_list list, again; double sum = 0;
  va_start(list, count); va_copy(again, list);
  for (int i = 0; i < count; i++) {
    switch (i % 6) {
    case 0: sum += va_arg(list, int); break;
    case 1: sum += va_arg(list, double); break;
    case 2: { struct three t = va_arg(list, struct three); sum += t.a + t.b + t.c; break; }
    case 3: { struct two t = va_arg(list, struct two); sum += t.x * t.y; break; }
    case 4: { struct big t = va_arg(list, struct big); sum += t.v[4] + t.d; break; }
    case 5: sum += *va_arg(list, char *); break;
    }
#ifdef EXPLICIT
#ifdef POPCORN
    migrate(1, moved, &moves);
#else
    imago_migrate();
#endif
#endif
  }
  va_end(list);
  sum += va_arg(again, int); va_end(again);
  return sum;
}
__attribute__((noinline)) double solve(int k) {
  struct three t = {k * .5, k, 1.25f}; struct two w = {k, 3}; struct big b = {{1, 2, 3, 4, k}, .125};
  double s = 0;
  for (int i = 0; i < 200; i++) s += many(12, k, 1.5, t, w, b, "a", i, 2.5, t, w, b, "z") + many(1, 3);
  return s;
}
__attribute__((noinline)) double step(double s, int k) {
  for (int i = 0; i < 500; i++) s = s * .999 + i % (k + 1);
  return s;
}

static pthread_key_t key;
static _Thread_local int mine = 5;
static int destroyed;
static void destroy(void *value) { destroyed += *(int *)value + mine; }

static void *thread(void *number) {
  int *value = malloc(sizeof *value);
  double s = 0;
  mine = (int)(long)number;
  *value = 100;
  pthread_setspecific(key, value);
  for (int k = 0; k < 30; k++) s = step(s, k) + solve(k % 7) * 1e-6;
  *value += mine;
  return (void *)(long)s;
}

int main(void) {
  double s = 0;
  pthread_t threads[2];
  pthread_key_create(&key, destroy);
  for (long i = 0; i < 2; i++) {
    void *result;
    pthread_create(threads + i, 0, thread, (void *)(i + 7));
    pthread_join(threads[i], &result);
    s += (long)result;
  }
  for (int k = 0; k < 20; k++) s = step(s, k) + solve(k);
#ifdef POPCORN
  if (moves == 0) return 1;
#endif
  printf("%.17g, destroyed %d\n", s, destroyed);
  return 0;
}
