/*
 * FT: a partial differential equation solved with 3-D fast Fourier transforms (3-D FFT PDE of RNR-94-007):
 * transform random numbers, then six times multiply by exp(-4 alpha pi^2 |k|^2 t), transform back and sum
 * 1024 elements. Both parts of every sum must match to 1e-12.
 *
 * Arrays are nz × ny × nx complex numbers, x fastest.
 */
#include "npb.h"

#define STEPS 6
#define ALPHA 1e-6
#define PI 3.141592653589793238462643
#define LARGEST_EDGE 128

struct complex {
  double re, im;
};

struct problem {
  char class;
  int nx, ny, nz;
  struct complex sums[STEPS];
};

static const struct problem problems[] = {
    {'S', 64, 64, 64,
     {{554.6087004964, 484.5363331978}, {554.6385409189, 486.5304269511}, {554.6148406171, 488.3910722336},
      {554.5423607415, 490.1273169046}, {554.4255039624, 491.7475857993}, {554.2683411902, 493.2597244941}}},
    {'W', 128, 128, 32,
     {{567.3612178944, 529.3246849175}, {563.1436885271, 528.2149986629}, {559.4024089970, 527.0996558037},
      {556.0698047020, 526.0027904925}, {553.0898991250, 524.9400845633}, {550.4159734538, 523.9212247086}}},
};

static struct complex *spectrum, *field;
static struct complex roots[LARGEST_EDGE / 2]; /* exp(2 pi i k / LARGEST_EDGE) */
static struct complex line[LARGEST_EDGE], scratch[LARGEST_EDGE];

static void make_roots(void) {
  for (int k = 0; k < LARGEST_EDGE / 2; k++) {
    double angle = 2 * PI * k / LARGEST_EDGE;
    roots[k] = (struct complex){cos(angle), sin(angle)};
  }
}

/* One FFT of `n` values of `line` in place (Stockham's sorting form); sign -1 is forward. Not normalised. */
static void transform_line(int n, int sign) {
  struct complex *from = line, *to = scratch;
  for (int half = n / 2, stride = 1; half >= 1; half /= 2, stride *= 2) {
    for (int k = 0; k < half; k++) {
      struct complex w = roots[k * (LARGEST_EDGE / 2 / half)];
      w.im *= sign;
      for (int s = 0; s < stride; s++) {
        struct complex a = from[s + stride * k], b = from[s + stride * (k + half)];
        struct complex d = {a.re - b.re, a.im - b.im};
        to[s + stride * 2 * k] = (struct complex){a.re + b.re, a.im + b.im};
        to[s + stride * (2 * k + 1)] = (struct complex){d.re * w.re - d.im * w.im, d.re * w.im + d.im * w.re};
      }
    }
    struct complex *swap = from;
    from = to;
    to = swap;
  }
  if (from != line) memcpy(line, from, (size_t)n * sizeof *line);
}

/* Transforms every line of `n` values that are `step` apart; lines start at outer * outer_step + inner * inner_step. */
static void transform_axis(struct complex *array, int n, int step, int outer, int outer_step, int inner, int inner_step,
                           int sign) {
  for (int i = 0; i < outer; i++)
    for (int j = 0; j < inner; j++) {
      struct complex *start = array + (long)i * outer_step + (long)j * inner_step;
      for (int k = 0; k < n; k++) line[k] = start[(long)k * step];
      transform_line(n, sign);
      for (int k = 0; k < n; k++) start[(long)k * step] = line[k];
    }
}

static void transform(const struct problem *p, struct complex *array, int sign) {
  int plane = p->nx * p->ny;
  transform_axis(array, p->nx, 1, p->nz, plane, p->ny, p->nx, sign);
  transform_axis(array, p->ny, p->nx, p->nz, plane, p->nx, 1, sign);
  transform_axis(array, p->nz, plane, p->ny, p->nx, p->nx, 1, sign);
}

/* The frequency of index i of n: i, or i - n in the upper half. */
static int frequency(int i, int n) { return i < n / 2 ? i : i - n; }

static void evolve(const struct problem *p, int time) {
  double factor = -4 * ALPHA * PI * PI * time;
  long at = 0;
  for (int z = 0; z < p->nz; z++)
    for (int y = 0; y < p->ny; y++)
      for (int x = 0; x < p->nx; x++, at++) {
        int kx = frequency(x, p->nx), ky = frequency(y, p->ny), kz = frequency(z, p->nz);
        double decay = exp(factor * (kx * kx + ky * ky + kz * kz));
        field[at] = (struct complex){spectrum[at].re * decay, spectrum[at].im * decay};
      }
}

static struct complex checksum(const struct problem *p) {
  struct complex sum = {0, 0};
  double total = (double)p->nx * p->ny * p->nz;
  for (int j = 1; j <= 1024; j++) {
    struct complex value = field[((long)(5 * j % p->nz) * p->ny + 3 * j % p->ny) * p->nx + j % p->nx];
    sum.re += value.re;
    sum.im += value.im;
  }
  return (struct complex){sum.re / total, sum.im / total};
}

static int run(const struct problem *p) {
  long total = (long)p->nx * p->ny * p->nz;
  int successful = 1;
  uint64_t state = NPB_SEED;
  for (long i = 0; i < total; i++) {
    spectrum[i].re = npb_random(&state);
    spectrum[i].im = npb_random(&state);
  }
  transform(p, spectrum, -1);
  for (int step = 1; step <= STEPS; step++) {
    evolve(p, step);
    transform(p, field, 1);
    struct complex sum = checksum(p), expected = p->sums[step - 1];
    printf("step %d: checksum %.9e %.9e\n", step, sum.re, sum.im);
    successful &= npb_close(sum.re, expected.re, 1e-12) && npb_close(sum.im, expected.im, 1e-12);
  }
  return successful;
}

int main(int argc, char **argv) {
  struct npb_arguments arguments = npb_arguments(argc, argv);
  const struct problem *problem = &problems[arguments.class == 'W'];
  size_t total = (size_t)problem->nx * (size_t)problem->ny * (size_t)problem->nz;
  spectrum = malloc(total * sizeof *spectrum);
  field = malloc(total * sizeof *field);
  if (spectrum == NULL || field == NULL) return 1;
  make_roots();
  int successful = 1;
  for (int round = 0; round < arguments.rounds; round++) successful &= run(problem);
  return npb_verdict("FT", arguments.class, successful);
}
