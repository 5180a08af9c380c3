/*
 * A small bytecode interpreter: a stack machine whose loop is one switch, running a sieve of Eratosthenes written in
 * its own assembler. The kind of program in which all time passes in one function.
 * Usage: interpreter [LIMIT] [ROUNDS]. It checks the number of primes against a sieve in C.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum opcode { PUSH, LOAD, STORE, FETCH, PUT, ADD, MULTIPLY, LESS, JUMP, JUMP_IF_ZERO, EMIT, HALT };

struct instruction {
  enum opcode opcode;
  long operand;
};

enum { LIMIT, I, J, COUNT, VARIABLES };

struct machine {
  long variables[VARIABLES];
  long stack[16];
  int top;
  long instructions;
  long *memory;
};

/* count the primes below LIMIT: memory[i] is 1 once i is known to be composite */
static const struct instruction sieve[] = {
    {PUSH, 2},          {STORE, I},                                                                    /*  0 */
    {LOAD, I},          {LOAD, LIMIT},      {LESS, 0},  {JUMP_IF_ZERO, 33},                             /*  2 */
    {LOAD, I},          {FETCH, 0},         {PUSH, 1},  {LESS, 0},          {JUMP_IF_ZERO, 28},         /*  6 */
    {LOAD, COUNT},      {PUSH, 1},          {ADD, 0},   {STORE, COUNT},                                /* 11 */
    {LOAD, I},          {LOAD, I},          {ADD, 0},   {STORE, J},                                    /* 15 */
    {LOAD, J},          {LOAD, LIMIT},      {LESS, 0},  {JUMP_IF_ZERO, 28},                             /* 19 */
    {LOAD, J},          {PUT, 1},           {LOAD, J},  {LOAD, I},          {JUMP, 35},                 /* 23 */
    {LOAD, I},          {PUSH, 1},          {ADD, 0},   {STORE, I},         {JUMP, 2},                  /* 28 */
    {EMIT, COUNT},      {HALT, 0},                                                                     /* 33 */
    {ADD, 0},           {STORE, J},         {JUMP, 19},                                                /* 35 */
};

static long pop(struct machine *machine) { return machine->stack[--machine->top]; }
static void push(struct machine *machine, long value) { machine->stack[machine->top++] = value; }

static long run(struct machine *machine, const struct instruction *program) {
  long result = 0;
  for (int at = 0;;) {
    const struct instruction *now = &program[at++];
    machine->instructions++;
    switch (now->opcode) {
      case PUSH: push(machine, now->operand); break;
      case LOAD: push(machine, machine->variables[now->operand]); break;
      case STORE: machine->variables[now->operand] = pop(machine); break;
      case FETCH: push(machine, machine->memory[pop(machine)]); break;
      case PUT: machine->memory[pop(machine)] = now->operand; break;
      case ADD: push(machine, pop(machine) + pop(machine)); break;
      case MULTIPLY: push(machine, pop(machine) * pop(machine)); break;
      case LESS: {
        long right = pop(machine), left = pop(machine);
        push(machine, left < right);
        break;
      }
      case JUMP: at = (int)now->operand; break;
      case JUMP_IF_ZERO:
        if (pop(machine) == 0) at = (int)now->operand;
        break;
      case EMIT: result = machine->variables[now->operand]; break;
      case HALT: return result;
    }
  }
}

static long primes_below(long limit) {
  char *composite = calloc((size_t)limit, 1);
  if (composite == NULL) exit(1);
  long count = 0;
  for (long i = 2; i < limit; i++) {
    if (composite[i]) continue;
    count++;
    for (long j = 2 * i; j < limit; j += i) composite[j] = 1;
  }
  free(composite);
  return count;
}

int main(int argc, char **argv) {
  long limit = argc > 1 ? atol(argv[1]) : 40000;
  int rounds = argc > 2 ? atoi(argv[2]) : 4;
  struct machine machine;
  int right = 1;
  for (int round = 0; round < rounds; round++) {
    memset(&machine, 0, sizeof machine);
    machine.variables[LIMIT] = limit + round * 1000;
    machine.memory = calloc((size_t)machine.variables[LIMIT], sizeof(long));
    if (machine.memory == NULL) return 1;
    long count = run(&machine, sieve);
    printf("%ld primes below %ld in %ld instructions\n", count, machine.variables[LIMIT], machine.instructions);
    right &= count == primes_below(machine.variables[LIMIT]);
    free(machine.memory);
  }
  printf("interpreter: %s\n", right ? "RIGHT" : "WRONG");
  return right ? 0 : 1;
}
