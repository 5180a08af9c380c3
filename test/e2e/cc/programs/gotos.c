/* A threaded interpreter with computed gotos, its labels in a table and in variables; and the word alias in a text. */
#include <stdio.h>

enum { PUSH, ADD, MULTIPLY, DOWN, AGAIN, STOP };

static unsigned long run(const int *code, unsigned long turns) {
  static const void *const labels[] = {&&push, &&add, &&multiply, &&down, &&again, &&stop};
  const void *finish = &&done;
  unsigned long stack[8] = {0}, *top = stack, counter = turns;
  const int *at = code;
#define NEXT goto *labels[*at++]
  NEXT;
push:
  *++top = (unsigned long)*at++;
  NEXT;
add:
  top--, top[0] += top[1];
  NEXT;
multiply:
  top--, top[0] = top[0] * top[1] + 1;
  NEXT;
down:
  counter--;
  NEXT;
again:
  if (counter != 0) at = code + 2;
  NEXT;
stop:
  goto *finish;
done:
  return *top;
}

int main(void) {
  const int code[] = {PUSH, 1, PUSH, 3, MULTIPLY, PUSH, 5, ADD, DOWN, AGAIN, STOP};
  printf("alias %lu\n", run(code, 20000));
  puts("write to @main(somebody)");
  return 0;
}
