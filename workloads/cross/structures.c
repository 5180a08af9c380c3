/*
 * What the C ABIs of the two processors treat differently: structures passed and returned by value (in registers, in
 * memory, of floating point), variadic functions of one's own, function pointers, bit fields, pointers into the
 * frames of callers, nodes that live on the stack, narrow integers, 128-bit integers; besides them a list on the
 * heap, qsort of libc, and stdio into a buffer. Usage: structures [ROUNDS]. Prints a checksum a round; a second
 * computation by plain arithmetic checks what can be checked.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
  long a, b;
};
struct point {
  double x, y;
};
struct mixed {
  float weight[3];
  char tag;
};
struct large {
  long values[6];
  char name[32];
};
struct fields {
  unsigned low : 3, middle : 7;
  int high : 9;
};
struct link {
  struct link *next;
  int value;
};

typedef long (*binary)(long, long);

static unsigned long state = 12345;
static double drift = 1.5;

static long random_below(long limit) {
  state = state * 6364136223846793005UL + 1442695040888963407UL;
  return (long)((state >> 33) % (unsigned long)limit);
}

static long slow_add(long a, long b) {
  for (int i = 0; i < 50; i++) a += i % 3 == 0 ? b : 0;
  return a;
}
static long slow_mix(long a, long b) {
  for (int i = 0; i < 50; i++) a = (a ^ (b << (i & 7))) & 0xffffffffff;
  return a;
}
static long subtract(long a, long b) { return a - b; }

static const binary operations[] = {slow_add, slow_mix, subtract};

static struct pair pair_of(long a, struct pair other) {
  struct pair result = {a + other.b, 0};
  for (int i = 0; i < 20; i++) result.b = result.b * 3 + (a ^ i);
  return result;
}

static struct point move_point(struct point p, double by, float scale) {
  for (int i = 0; i < 20; i++) {
    p.x = p.x * 0.5 + by;
    p.y = p.y * 0.25 - by * (double)scale;
  }
  return p;
}

static struct mixed stir(struct mixed m, int round) {
  for (int i = 0; i < 3; i++) m.weight[i] = m.weight[(i + 1) % 3] * 0.5f + (float)round;
  m.tag = (char)('a' + (m.tag - 'a' + 1) % 26);
  return m;
}

/* Every level adds its own copy; the result comes back through memory the caller gives. */
static struct large nest(struct large l, int levels, short step) {
  long local[2] = {levels, step};
  long *pointer = local;
  if (levels > 0) {
    struct large inner = nest(l, levels - 1, (short)(step + 1));
    for (int i = 0; i < 6; i++) l.values[i] += inner.values[5 - i] % 1000;
  }
  pointer[1] += pointer[0];
  l.values[levels % 6] += local[1];
  snprintf(l.name, sizeof l.name, "level %d of %d", levels, (int)step);
  return l;
}

/* A list whose nodes are in the frames of the recursion. */
static long walk(struct link *head, int levels) {
  struct link here = {head, levels};
  if (levels == 0) {
    long sum = 0;
    for (struct link *at = &here; at != NULL; at = at->next) sum = (sum * 7 + at->value) % 1000003;
    return sum;
  }
  long inner = walk(&here, levels - 1);
  here.value++;
  return inner + here.value;
}

static double sum_of(int count, ...) {
  va_list list, again;
  double sum = 0;
  va_start(list, count);
  va_copy(again, list);
  for (int i = 0; i < count; i++) {
    if (i % 2 == 0) sum += (double)va_arg(list, long);
    else sum += va_arg(list, double);
  }
  sum += (double)va_arg(again, long);
  va_end(again);
  va_end(list);
  return sum;
}

static void say(char *into, size_t size, const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(into, size, format, list);
  va_end(list);
}

/* More arguments than either ABI has registers for. */
static long many(signed char a, unsigned char b, short c, unsigned short d, int e, unsigned f, long g, unsigned long h, int i,
                 float j, double k, float l, double m, double n, double o, double p, double q, double r, const char *s) {
  long sum = a + b + c + d + e + (long)f + g + (long)h + i + (long)strlen(s);
  for (int t = 0; t < 10; t++) sum += (long)((double)j + k + (double)l + m + n + o + p + q + r);
  return sum;
}

static long bits(struct fields f, int by) {
  for (int i = 0; i < 10; i++) {
    f.low += (unsigned)by;
    f.middle ^= f.low;
    f.high = (f.high + by) & 255;
  }
  return (long)f.low * 100000 + (long)f.middle * 1000 + f.high;
}

static unsigned __int128 wide(unsigned __int128 x, unsigned by) {
  for (int i = 0; i < 10; i++) x = (x * x + by) ^ (x << 3);
  return x;
}

static int by_value(const void *a, const void *b) {
  int x = *(const int *)a, y = *(const int *)b;
  return (x > y) - (x < y);
}

static int list_works(int length) {
  struct link *list = NULL;
  long sum = 0, expected = 0;
  for (int i = 0; i < length; i++) {
    struct link *node = malloc(sizeof *node);
    if (node == NULL) exit(1);
    *node = (struct link){list, (int)random_below(1000)};
    expected += node->value;
    list = node;
  }
  while (list != NULL) {
    struct link *next = list->next;
    sum += list->value;
    free(list);
    list = next;
  }
  return sum == expected;
}

static int sort_works(int length) {
  int *numbers = malloc((size_t)length * sizeof *numbers);
  if (numbers == NULL) exit(1);
  for (int i = 0; i < length; i++) numbers[i] = (int)random_below(100000);
  qsort(numbers, (size_t)length, sizeof *numbers, by_value);
  int right = 1;
  for (int i = 1; i < length; i++) right &= numbers[i - 1] <= numbers[i];
  free(numbers);
  return right;
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 40;
  int right = 1;
  struct pair pair = {1, 2};
  struct point point = {1, -1};
  struct mixed mixed = {{1, 2, 3}, 'a'};
  struct large large = {{1, 2, 3, 4, 5, 6}, "start"};
  unsigned __int128 big = 1;
  char text[160];
  long sum = argc;
  for (int round = 0; round < rounds; round++) {
    sum = operations[round % 3](sum, round + 3) % 1000000007;
    pair = pair_of(sum % 1000, pair);
    point = move_point(point, round * 0.125, 1.5f);
    mixed = stir(mixed, round % 100);
    large = nest(large, 12, (short)round);
    for (int i = 0; i < 6; i++) large.values[i] %= 1000000;
    big = wide(big, (unsigned)round);
    sum += (pair.a ^ pair.b) % 1000 + walk(NULL, 40) + bits((struct fields){1, 2, 3}, round % 5);
    sum += many(-1, 200, -300, 60000, round, 7u, 8, 9, 10, 1.5f, 2.5, 3.5f, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, large.name);
    drift += sum_of(6, 1L, 2.5, 3L, 4.5, 5L, 6.5) * 0.001;
    right &= sum_of(4, 1L, 0.5, 2L, 0.25) == 4.75;
    right &= list_works(200) & sort_works(300);
    say(text, sizeof text, "%d %ld %.6f %.6f %g %c %s", round, sum, point.x, point.y, (double)mixed.weight[0], mixed.tag, large.name);
    if (round % 10 == 9) printf("%s %016llx %.3f\n", text, (unsigned long long)(big >> 32), drift);
  }
  printf("structures: %s\n", right ? "RIGHT" : "WRONG");
  return right ? 0 : 1;
}
