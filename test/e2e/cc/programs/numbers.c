/*
 * Numbers that compilers call helpers for, or that differ between processors when nobody looks: complex ones, wide
 * integers, what is no number. Prints bits, not digits.
 */
#include <complex.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t state = 88172645463325252u, sum = 14695981039346656037u;

static double next(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(state >> 11) / 4503599627370496.0 - 1;
}

static void mix(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  sum = (sum ^ bits) * 1099511628211u;
}

static void mix_complex(double complex z) { mix(creal(z)), mix(cimag(z)); }

/* At -O0 the macros of math.h hold code for every type, long double too. */
static const char *kind(double x) {
  if (isnan(x)) return "nan";
  if (isinf(x)) return signbit(x) ? "-inf" : "inf";
  if (fpclassify(x) == FP_SUBNORMAL || !isnormal(x)) return isgreater(x, 0) ? "small" : "zero";
  return "normal";
}

int main(void) {
  for (int i = 0; i < 2000; i++) {
    volatile double complex x = CMPLX(next(), next()), y = CMPLX(next() * (i % 7), next());
    mix_complex(x * y), mix_complex(x / y);
    volatile float complex f = (float complex)x, g = (float complex)y;
    mix_complex(f * g), mix_complex(f / g);
  }
  printf("complex %016" PRIx64 "\n", sum);

  volatile double special[] = {0, 1, -2, INFINITY, -INFINITY, NAN, 1e308, 5e-324};
  for (int i = 0; i < 8; i++) {
    volatile double complex x = CMPLX(special[i], special[(i + 3) % 8]), y = CMPLX(special[(i + 5) % 8], 1);
    volatile float complex f = (float complex)x, g = (float complex)y;
    double complex p = x * y, q = x / y;
    float complex r = f * g;
    printf("%s: %s %s, %s %s, %s %s\n", kind(special[i]), kind(creal(p)), kind(cimag(p)), kind(creal(q)),
           kind(cimag(q)), kind((double)crealf(r)), kind((double)cimagf(r)));
  }

  unsigned __int128 wide = 1;
  for (unsigned i = 2; i < 34; i++) wide = wide * i + (wide >> 100);
  for (volatile unsigned i = 1; i < 20; i++) sum += (uint64_t)(wide / (i * 1000003u) % 998244353u) + (uint64_t)((double)wide / 0x1p80);
  printf("wide %016" PRIx64 "\n", sum);
  return 0;
}
