/*
 * How long did I stand still? Fills MEGABYTES of memory, then looks at the clock for SECONDS, writing a page now and then,
 * and prints the longest time in milliseconds between two looks.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    size_t words = (argc > 1 ? strtoul(argv[1], 0, 10) : 64) << 17;
    double seconds = argc > 2 ? atof(argv[2]) : 3;
    uint64_t *memory = malloc(words * 8), state = 88172645463325252u;
    for (size_t i = 0; i < words; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        memory[i] = state;
    }
    double began = now(), last = began, longest = 0;
    for (size_t round = 0; last - began < seconds * 1e3; round++) {
        if (round % 16 == 0) /* a thousand pages a second or two: less than a network carries */
            memory[round / 16 * 5003 % words] += round;
        double time = now();
        if (time - last > longest)
            longest = time - last;
        last = time;
    }
    printf("%.1f\n", longest);
    return 0;
}
