/* Holds memory of a given size and kind, and beats: in a file mapped shared it keeps the time of its last
 * beat and the longest gap between two, so that whoever froze it can see from outside how long it stood still.
 *
 *   usage: memory MEGABYTES random|zero FILE
 *          memory launch FILE COMMAND…          notes the time in FILE, then becomes COMMAND
 *
 *   FILE:  0 ready · 8 last beat (CLOCK_REALTIME, ns) · 16 longest gap (ns) · 24 beats · 32 launched   (u64 each)
 *
 * "zero": all pages are written, one in twenty holds data.  */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

/* Not CLOCK_MONOTONIC: criu restores a program in a time namespace of its own, where that one goes on from the dump. */
static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc > 3 && strcmp(argv[1], "launch") == 0) {
    int file = open(argv[2], O_RDWR);
    uint64_t time = now();
    if (file < 0 || pwrite(file, &time, sizeof time, 32) != sizeof time) return 1;
    close(file);
    execv(argv[3], argv + 3);
    return 127;
  }
  if (argc != 4) return 2;
  size_t size = strtoull(argv[1], NULL, 10) << 20;
  int zero = strcmp(argv[2], "zero") == 0;
  int fd = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, PAGE) != 0) return 1;
  volatile uint64_t *beat = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  unsigned char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (beat == MAP_FAILED || memory == MAP_FAILED) return 1;
  uint64_t state = 88172645463325252u;
  for (size_t at = 0; at < size; at += PAGE) {
    memory[at] = 0; /* zero or not, the page is there */
    if (zero && (at / PAGE) % 20 != 0) continue;
    for (size_t i = 0; i < PAGE; i += 8) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      memcpy(memory + at + i, &state, 8);
    }
  }
  beat[1] = now();
  beat[0] = 1;
  for (;;) {
    uint64_t time = now();
    if (time < beat[1]) continue; /* read just before it was frozen, while what was not frozen went on to beat */
    if (time - beat[1] > beat[2]) beat[2] = time - beat[1];
    beat[1] = time;
    beat[3]++;
    memory[(beat[3] % 64) * PAGE]++;
  }
}
