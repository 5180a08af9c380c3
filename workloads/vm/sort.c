/*
 * qsort of a million numbers, and a walk over the result: prints checksums, some of them of floating point, so that
 * a wrong register anywhere shows. The argument is the count.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], 0, 10) : 1000000;
    uint64_t *numbers = malloc(count * sizeof *numbers);
    uint64_t state = 88172645463325252u, sum = 0;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        numbers[i] = state;
    }
    printf("filled\n");
    qsort(numbers, count, sizeof *numbers, compare);
    double mean = 0;
    long double exact = 0;
    for (size_t i = 0; i < count; i++) {
        sum = sum * 31 + numbers[i];
        mean += sqrt((double)numbers[i]) / (double)count;
        exact += 1.0L / (long double)(numbers[i] | 1);
        if (i % (count / 4) == 0)
            printf("%zu %016llx %.17g %.20Lg\n", i, (unsigned long long)sum, mean, exact);
    }
    printf("%016llx %.17g %.20Lg\n", (unsigned long long)sum, mean, exact);
    free(numbers);
    return 0;
}
