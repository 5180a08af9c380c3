/* Counted loops of every shape, longer and shorter than a strip, and up to the ends of their types. */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define KEEP __attribute__((noinline)) static
static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15ull + (h >> 29); }

KEEP uint64_t up(int from, int to) { uint64_t h = 1; for (int i = from; i < to; i++) h = mix(h, (unsigned)i); return h; }
KEEP uint64_t up_to(unsigned from, unsigned to) { uint64_t h = 2; for (unsigned i = from; i <= to && i >= from; i++) h = mix(h, i); return h; }
KEEP uint64_t by_seven(int from, int to) { uint64_t h = 3; for (int i = from; i < to; i += 7) h = mix(h, (unsigned)i); return h; }
KEEP uint64_t down(int from, int to) { uint64_t h = 4; for (int i = from; i > to; i--) h = mix(h, (unsigned)i); return h; }
KEEP uint64_t down_by_five(long from, long to) { uint64_t h = 5; for (long i = from; i >= to; i -= 5) h = mix(h, (uint64_t)i); return h; }
KEEP uint64_t until_equal(uint64_t from, uint64_t to) { uint64_t h = 6; for (uint64_t i = from; i != to; i++) h = mix(h, i); return h; }
KEEP uint64_t threes_until_equal(unsigned from, unsigned to) { uint64_t h = 7; for (unsigned i = from; i != to; i += 3) h = mix(h, i); return h; }
KEEP uint64_t through(const int *from, const int *to) { uint64_t h = 8; for (const int *p = from; p != to; p++) h = mix(h, (unsigned)*p); return h; }
KEEP uint64_t back_through(const int *from, const int *to) { uint64_t h = 9; for (const int *p = to; p != from; p--) h = mix(h, (unsigned)p[-1]); return h; }
KEEP long search(const int *list, int count, int wanted) { for (int i = 0; i < count; i++) if (list[i] == wanted) return i; return -1; }
KEEP double sum(const double *list, long count) { double s = 0; for (long i = 0; i < count; i++) s += list[i] * 1.1; return s; }
KEEP void scale(double *list, long count) { for (long i = 0; i < count; i++) list[i] = list[i] * 1.5 + (double)i; }
KEEP void add(int *to, const int *from, int count) { for (int i = 0; i < count; i++) to[i] += from[i] * 3; }
KEEP uint64_t nest(int a, int b, int c) {
  uint64_t h = 10;
  for (int i = 0; i < a; i++) {
    h = mix(h, 77);
    for (int j = i; j < b; j++) {
      if ((h & 1023) == 5) continue;
      for (int k = j; k > -c; k -= 2) h = mix(h, (unsigned)(i * j + k));
      if ((h & 4095) == 9) break;
    }
  }
  return h;
}
KEEP uint64_t two_carried(long count) { /* values that swap places from one iteration to the next */
  uint64_t a = 1, b = 2, c = 3;
  for (long i = 0; i < count; i++) {
    uint64_t t = a;
    a = b;
    b = c;
    c = mix(t, (uint64_t)i);
  }
  return mix(mix(a, b), c);
}

#define COUNT 30000
static int numbers[COUNT], more[COUNT];
static double values[COUNT];

int main(void) {
  uint64_t h = 0;
  for (int i = 0; i < COUNT; i++) numbers[i] = i * 7919 % 100003, more[i] = i, values[i] = i * 0.25;
  const int ends[][2] = {{0, 0}, {0, 1}, {5, 3}, {0, 20000}, {-9000, 9001}, {INT_MAX - 20000, INT_MAX}, {INT_MIN, INT_MIN + 15000}};
  for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
    int a = ends[i][0], b = ends[i][1];
    h = mix(h, up(a, b));
    h = mix(h, down(b, a));
    if (b < INT_MAX - 7) h = mix(h, by_seven(a, b));
    h = mix(h, up_to((unsigned)a, (unsigned)b));
    h = mix(h, down_by_five(b, a));
    printf("%d..%d %016llx\n", a, b, (unsigned long long)h);
  }
  h = mix(h, up_to(UINT_MAX - 30000, UINT_MAX));
  h = mix(h, until_equal(UINT64_MAX - 9000, 9000)); /* past the end of the type */
  h = mix(h, threes_until_equal(0, 60000));
  h = mix(h, threes_until_equal(UINT_MAX - 29999, 3));
  for (int n = 0; n <= COUNT; n = n * 3 + 1) {
    h = mix(h, through(numbers, numbers + n));
    h = mix(h, back_through(numbers, numbers + n));
    h = mix(h, (uint64_t)search(numbers, n, 7919 * 20 % 100003));
    h = mix(h, (uint64_t)search(numbers, n, -1));
    scale(values, n);
    add(more, numbers, n);
    h = mix(h, two_carried(n));
    printf("%d %a %016llx\n", n, sum(values, n), (unsigned long long)mix(h, (unsigned)more[n / 2]));
  }
  printf("%016llx %016llx\n", (unsigned long long)nest(40, 60, 30), (unsigned long long)nest(2, 100, 9000));
  return 0;
}
