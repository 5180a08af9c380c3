/* What C11 has that older programs do not: each used across migration points. */
#include <complex.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(void *) == 8, "64 bits");
#define KIND(x) _Generic((x), int: "int", double: "double", const char *: "text", unsigned char: "byte", default: "other")

struct shape {
  enum { CIRCLE, BOX = 7 } kind;
  union {
    struct { double radius; };
    struct { int width, height; };
  };
  alignas(32) unsigned char tag[5];
  unsigned low : 3, : 2, high : 9;
};

static _Thread_local int calls = 3;
static _Atomic unsigned long shared;
static atomic_flag lock = ATOMIC_FLAG_INIT;

static double area(struct shape s) {
  calls++;
  for (int i = 0; i < s.tag[0]; i++) atomic_fetch_add(&shared, (unsigned long)i);
  return s.kind == CIRCLE ? 3.25 * s.radius * s.radius : (double)s.width * s.height;
}

static double complex orbit(double complex c, int steps) {
  double complex z = 0;
  for (int i = 0; i < steps && cabs(z) < 2; i++) z = z * z + c;
  return z;
}

static uint64_t flexible(int count) {
  struct list { int count; double values[]; } *list = malloc(sizeof *list + (size_t)count * sizeof(double));
  list->count = count;
  for (int i = 0; i < count; i++) list->values[i] = i * 0.1;
  double sum = 0;
  for (int i = 0; i < list->count; i++) sum += area((struct shape){.kind = BOX, .width = i, .height = 2, .tag = {[0] = 3, [4] = 9}}) + list->values[i];
  free(list);
  uint64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  return bits;
}

static _Noreturn void leave(int status) {
  printf("leaving with %d calls\n", calls);
  exit(status);
}

int main(int argc, char **argv) {
  (void)argv;
  printf("%s %s %s %s\n", KIND(1), KIND(1.0), KIND((const char *)"a"), KIND((unsigned char)1));
  struct shape shapes[] = {[2] = {.kind = BOX, .width = 4, .height = 5, .low = 5, .high = 300}, [0] = {.radius = 2, .tag = "ab"}};
  for (int i = 0; i < 3; i++) printf("%d %g %u %u %d\n", shapes[i].kind, area(shapes[i]), shapes[i].low, shapes[i].high, (int)((uintptr_t)shapes[i].tag % 32));
  for (int i = 0; i < 6; i++) {
    double complex z = orbit(0.3 * i - 1 + 0.2 * I * i, 5000);
    printf("%a %a %a\n", creal(z), cimag(z), cabs(csqrt(z)));
  }
  long double_calls = calls * 2L;
  __int128 wide = (__int128)double_calls << 70;
  for (int i = 0; i < 3000; i++) {
    while (atomic_flag_test_and_set(&lock));
    wide += (__int128)i * shared;
    atomic_flag_clear(&lock);
  }
  unsigned long expected = 5;
  bool exchanged = atomic_compare_exchange_strong(&shared, &expected, 6ul);
  printf("%016llx %016llx %d %lu\n", (unsigned long long)(wide >> 64), (unsigned long long)wide, exchanged, expected);
  printf("%016llx\n", (unsigned long long)flexible(400));
  char *text = u8"grüße";
  for (int i = 0; i < argc * 2; i++) printf("%zu %s\n", strlen(text), text + i);
  leave(argc - 1);
}
