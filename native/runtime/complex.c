/*
 * Products and quotients of complex numbers (C11, annex G.5.1), which compiled code calls libgcc for. That of aarch64 was
 * compiled with fused multiplication, and float ones come back in other registers there. So these are compiled with the
 * program, the same for both ISAs; what a program does not call is left out (src/toolchain/renames.ts).
 */
#include <float.h>
#include <math.h>

#define HELPER static inline __attribute__((always_inline))

HELPER double _Complex whole(double re, double im) { return __builtin_complex(re, im); }
HELPER int infinite(double re, double im) { return isinf(re) || isinf(im); }
/* An infinity becomes 1, all else of a number that is infinite 0; in one that is not, NaN becomes 0. The signs stay. */
HELPER double boxed(double part, int of_infinite) {
  if (of_infinite) return copysign(isinf(part) ? 1 : 0, part);
  return isnan(part) ? copysign(0, part) : part;
}

/* re + im i as computed, but when both are NaN though a factor, or a product on the way, is infinite. */
HELPER double _Complex product(double re, double im, double a, double b, double c, double d, int overflowed) {
  int left = infinite(a, b), right = infinite(c, d);
  if (!isnan(re) || !isnan(im) || !(left || right || overflowed)) return whole(re, im);
  a = boxed(a, left), b = boxed(b, left), c = boxed(c, right), d = boxed(d, right);
  return whole(INFINITY * (a * c - b * d), INFINITY * (a * d + b * c));
}

/* re + im i as computed, but when both are NaN though the quotient is infinite or zero. */
HELPER double _Complex quotient(double re, double im, double a, double b, double c, double d) {
  if (!isnan(re) || !isnan(im)) return whole(re, im);
  if (c == 0 && d == 0 && (!isnan(a) || !isnan(b)))
    return whole(copysign(INFINITY, c) * a, copysign(INFINITY, c) * b);
  int above = infinite(a, b) && isfinite(c) && isfinite(d), below = infinite(c, d) && isfinite(a) && isfinite(b);
  if (!above && !below) return whole(re, im);
  a = boxed(a, above) / 2, b = boxed(b, above) / 2, c = boxed(c, below), d = boxed(d, below);
  double size = above ? INFINITY : 0;
  return whole(size * (a * c + b * d), size * (b * c - a * d));
}

/* (a + bi) (c + di) */
float _Complex __mulsc3(float a, float b, float c, float d) {
  float ac = a * c, bd = b * d, ad = a * d, bc = b * c;
  return (float _Complex)product(ac - bd, ad + bc, a, b, c, d, infinite(ac, bd) || infinite(ad, bc));
}
double _Complex __muldc3(double a, double b, double c, double d) {
  double ac = a * c, bd = b * d, ad = a * d, bc = b * c;
  return product(ac - bd, ad + bc, a, b, c, d, infinite(ac, bd) || infinite(ad, bc));
}

/* (a + bi) / (c + di); in double no part of a quotient of floats can overflow */
float _Complex __divsc3(float a, float b, float c, float d) {
  double square = (double)c * c + (double)d * d;
  double re = ((double)a * c + (double)b * d) / square, im = ((double)b * c - (double)a * d) / square;
  return (float _Complex)quotient(re, im, a, b, c, d);
}

/* part * (less / larger), where the ratio may be too small for a number */
HELPER double share(double part, double less, double larger) {
  double ratio = less / larger;
  return fabs(ratio) > DBL_MIN ? part * ratio : less * (part / larger);
}

/* Smith's way, which divides by the larger part first; powers of two bring large and small divisors into range. */
double _Complex __divdc3(double a, double b, double c, double d) {
  double largest = fmax(fabs(c), fabs(d)), above = fmax(fabs(a), fabs(b));
  double scale = largest >= DBL_MAX / 2 ? 0.5 : largest < 0x1p-969 ? 0x1p53 : 1;
  double before = above < 1 ? scale : 1, after = scale / before;
  double as = a * before, bs = b * before, cs = c * scale, ds = d * scale, re, im;
  if (fabs(c) < fabs(d)) {
    double divisor = share(cs, cs, ds) + ds;
    re = (share(as, cs, ds) + bs) / divisor, im = (share(bs, cs, ds) - as) / divisor;
  } else {
    double divisor = share(ds, ds, cs) + cs;
    re = (share(bs, ds, cs) + as) / divisor, im = (bs - share(as, ds, cs)) / divisor;
  }
  return quotient(re * after, im * after, a, b, c, d);
}
