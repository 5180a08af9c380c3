/* Talks to itself through pipes: one thread sends numbered records through a pipe, another mixes them and
 * answers through a second one; some records always lie in the pipes. Any lost, doubled or torn record shows. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct record {
  uint64_t number;
  uint64_t value;
  uint64_t check;
};

static int request[2], answer[2];
static long count = 400000;

static uint64_t mix(uint64_t x) {
  for (int i = 0; i < 20; i++) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
  }
  return x;
}

/* Pipes give back as much as there is: read on until a record is whole. */
static void read_record(int fd, struct record *record) {
  char *at = (char *)record;
  size_t left = sizeof *record;
  while (left > 0) {
    ssize_t got = read(fd, at, left);
    if (got <= 0) {
      perror("read");
      exit(1);
    }
    at += got;
    left -= (size_t)got;
  }
}

static void write_record(int fd, const struct record *record) {
  if (write(fd, record, sizeof *record) != (ssize_t)sizeof *record) {
    perror("write");
    exit(1);
  }
}

static void *send(void *unused) {
  (void)unused;
  for (uint64_t i = 0; i < (uint64_t)count; i++) write_record(request[1], &(struct record){i, mix(i), ~i});
  return NULL;
}

static void *reply(void *unused) {
  (void)unused;
  for (long i = 0; i < count; i++) {
    struct record record;
    read_record(request[0], &record);
    record.value = mix(record.value);
    write_record(answer[1], &record);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc > 1) count = atol(argv[1]);
  pthread_t sender, replier;
  if (pipe(request) != 0 || pipe(answer) != 0) return 1;
  if (pthread_create(&sender, NULL, send, NULL) != 0 || pthread_create(&replier, NULL, reply, NULL) != 0) return 1;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < (uint64_t)count; i++) {
    struct record record;
    read_record(answer[0], &record);
    if (record.number != i || record.check != ~i || record.value != mix(mix(i))) {
      printf("record %llu is wrong\n", (unsigned long long)i);
      return 1;
    }
    sum += record.value;
    if (i % (uint64_t)(count / 20) == 0) {
      printf("record %llu sum %llu\n", (unsigned long long)i, (unsigned long long)sum);
      fflush(stdout);
    }
  }
  printf("done %llu\n", (unsigned long long)sum);
  return 0;
}
