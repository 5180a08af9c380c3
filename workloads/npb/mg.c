/*
 * MG: four V-cycles of multigrid for Poisson's equation on a periodic cube (Multigrid of RNR-94-007): the right side
 * is +1 at the ten largest and -1 at the ten smallest of n^3 random numbers. The L2 norm of the residual must match
 * to 1e-8.
 *
 * A grid of edge n is stored with one ghost cell on each side: index (x, y, z), each 0 … n+1, x fastest.
 * The coarse cell j (1 … n/2) lies on the fine cell 2j.
 */
#include "npb.h"

#define CYCLES 4
#define CHARGES 10
#define LARGEST_LEVELS 7

struct grid {
  int edge;
  double *cells;
};

static struct grid u[LARGEST_LEVELS + 1], r[LARGEST_LEVELS + 1], v; /* by level: edge 2^level */
static int top;

/* Weights by how many coordinates differ: centre, face, edge, corner. */
static const double operator_a[4] = {-8.0 / 3, 0, 1.0 / 6, 1.0 / 12};
static const double smoother[4] = {-3.0 / 8, 1.0 / 32, -1.0 / 64, 0};

static size_t size_of(int edge) { return (size_t)(edge + 2) * (size_t)(edge + 2) * (size_t)(edge + 2); }

static inline double *row(const struct grid *grid, int y, int z) {
  return grid->cells + ((size_t)z * (size_t)(grid->edge + 2) + (size_t)y) * (size_t)(grid->edge + 2);
}

static struct grid make_grid(int edge) {
  struct grid grid = {edge, calloc(size_of(edge), sizeof(double))};
  if (grid.cells == NULL) exit(1);
  return grid;
}

static void clear(struct grid *grid) { memset(grid->cells, 0, size_of(grid->edge) * sizeof(double)); }

/* Fills the ghost cells from the opposite side. */
static void wrap(struct grid *grid) {
  int n = grid->edge;
  size_t width = (size_t)(n + 2) * sizeof(double);
  for (int z = 1; z <= n; z++) {
    for (int y = 1; y <= n; y++) {
      double *line = row(grid, y, z);
      line[0] = line[n];
      line[n + 1] = line[1];
    }
    memcpy(row(grid, 0, z), row(grid, n, z), width);
    memcpy(row(grid, n + 1, z), row(grid, 1, z), width);
  }
  memcpy(row(grid, 0, 0), row(grid, 0, n), width * (size_t)(n + 2));
  memcpy(row(grid, 0, n + 1), row(grid, 0, 1), width * (size_t)(n + 2));
}

/* Sums over the 9 cells around (x) in three planes of rows, by distance from the middle row. */
struct neighbourhood {
  const double *centre, *face[4], *corner[4];
};

static struct neighbourhood around(const struct grid *grid, int y, int z) {
  return (struct neighbourhood){
      row(grid, y, z),
      {row(grid, y - 1, z), row(grid, y + 1, z), row(grid, y, z - 1), row(grid, y, z + 1)},
      {row(grid, y - 1, z - 1), row(grid, y + 1, z - 1), row(grid, y - 1, z + 1), row(grid, y + 1, z + 1)}};
}

static inline double four(const double *const rows[4], int x) {
  return (rows[0][x] + rows[1][x]) + (rows[2][x] + rows[3][x]);
}

/* The 27-point stencil with the four weights, at x of the middle row. */
static inline double stencil(const struct neighbourhood *n, int x, const double weight[4]) {
  double faces = n->centre[x - 1] + n->centre[x + 1] + four(n->face, x);
  double edges = four(n->face, x - 1) + four(n->face, x + 1) + four(n->corner, x);
  double corners = four(n->corner, x - 1) + four(n->corner, x + 1);
  return weight[0] * n->centre[x] + weight[1] * faces + weight[2] * edges + weight[3] * corners;
}

/* residual := right - A approximation. `right` and `residual` may be one grid. */
static void compute_residual(const struct grid *approximation, const struct grid *right, struct grid *residual) {
  int n = residual->edge;
  for (int z = 1; z <= n; z++)
    for (int y = 1; y <= n; y++) {
      struct neighbourhood near = around(approximation, y, z);
      const double *from = row(right, y, z);
      double *to = row(residual, y, z);
      for (int x = 1; x <= n; x++) to[x] = from[x] - stencil(&near, x, operator_a);
    }
  wrap(residual);
}

/* approximation += S residual */
static void smooth(const struct grid *residual, struct grid *approximation) {
  int n = approximation->edge;
  for (int z = 1; z <= n; z++)
    for (int y = 1; y <= n; y++) {
      struct neighbourhood near = around(residual, y, z);
      double *to = row(approximation, y, z);
      for (int x = 1; x <= n; x++) to[x] += stencil(&near, x, smoother);
    }
  wrap(approximation);
}

static void restrict_to(struct grid *coarse, const struct grid *fine) {
  static const double weight[4] = {1.0 / 2, 1.0 / 4, 1.0 / 8, 1.0 / 16};
  for (int z = 1; z <= coarse->edge; z++)
    for (int y = 1; y <= coarse->edge; y++) {
      struct neighbourhood near = around(fine, 2 * y, 2 * z);
      double *to = row(coarse, y, z);
      for (int x = 1; x <= coarse->edge; x++) to[x] = stencil(&near, 2 * x, weight);
    }
  wrap(coarse);
}

/* fine += the trilinear interpolation of coarse. */
static void prolongate(const struct grid *coarse, struct grid *fine) {
  for (int z = 1; z <= fine->edge; z++)
    for (int y = 1; y <= fine->edge; y++) {
      const double *a = row(coarse, y / 2, z / 2), *b = row(coarse, (y + 1) / 2, z / 2);
      const double *c = row(coarse, y / 2, (z + 1) / 2), *d = row(coarse, (y + 1) / 2, (z + 1) / 2);
      double *to = row(fine, y, z);
      for (int x = 1; x <= fine->edge; x++) {
        int left = x / 2, right = (x + 1) / 2;
        to[x] += 0.125 * (((a[left] + b[left]) + (c[left] + d[left])) + ((a[right] + b[right]) + (c[right] + d[right])));
      }
    }
  wrap(fine);
}

static void cycle(void) {
  for (int level = top; level > 1; level--) restrict_to(&r[level - 1], &r[level]);
  clear(&u[1]);
  smooth(&r[1], &u[1]);
  for (int level = 2; level < top; level++) {
    clear(&u[level]);
    prolongate(&u[level - 1], &u[level]);
    compute_residual(&u[level], &r[level], &r[level]);
    smooth(&r[level], &u[level]);
  }
  prolongate(&u[top - 1], &u[top]);
  compute_residual(&u[top], &v, &r[top]);
  smooth(&r[top], &u[top]);
}

/* The extreme values so far, the most extreme first. */
struct extreme {
  double value;
  double *cell;
};

static void insert(struct extreme *list, double value, double *cell, int largest) {
  int at = CHARGES;
  while (at > 0 && (list[at - 1].cell == NULL || (largest ? value > list[at - 1].value : value < list[at - 1].value))) at--;
  if (at == CHARGES) return;
  memmove(&list[at + 1], &list[at], (size_t)(CHARGES - 1 - at) * sizeof *list);
  list[at] = (struct extreme){value, cell};
}

static void make_charges(void) {
  static struct extreme largest[CHARGES], smallest[CHARGES];
  memset(largest, 0, sizeof largest);
  memset(smallest, 0, sizeof smallest);
  uint64_t state = NPB_SEED;
  clear(&v);
  for (int z = 1; z <= v.edge; z++)
    for (int y = 1; y <= v.edge; y++) {
      double *line = row(&v, y, z);
      for (int x = 1; x <= v.edge; x++) {
        double value = npb_random(&state);
        if (largest[CHARGES - 1].cell == NULL || value > largest[CHARGES - 1].value)
          insert(largest, value, &line[x], 1);
        if (smallest[CHARGES - 1].cell == NULL || value < smallest[CHARGES - 1].value)
          insert(smallest, value, &line[x], 0);
      }
    }
  for (int i = 0; i < CHARGES; i++) {
    *largest[i].cell = 1;
    *smallest[i].cell = -1;
  }
  wrap(&v);
}

static double norm(const struct grid *grid) {
  double sum = 0, cells = (double)grid->edge * grid->edge * grid->edge;
  for (int z = 1; z <= grid->edge; z++)
    for (int y = 1; y <= grid->edge; y++) {
      const double *line = row(grid, y, z);
      for (int x = 1; x <= grid->edge; x++) sum += line[x] * line[x];
    }
  return sqrt(sum / cells);
}

static int run(char class) {
  double expected = class == 'S' ? 0.5307707005734e-04 : 0.6467329375339e-05;
  clear(&u[top]);
  make_charges();
  compute_residual(&u[top], &v, &r[top]);
  for (int i = 1; i <= CYCLES; i++) {
    cycle();
    compute_residual(&u[top], &v, &r[top]);
    printf("cycle %d: norm %.9e\n", i, norm(&r[top]));
  }
  return npb_close(norm(&r[top]), expected, 1e-8);
}

int main(int argc, char **argv) {
  struct npb_arguments arguments = npb_arguments(argc, argv);
  top = arguments.class == 'S' ? 5 : 7;
  for (int level = 1; level <= top; level++) {
    u[level] = make_grid(1 << level);
    r[level] = make_grid(1 << level);
  }
  v = make_grid(1 << top);
  int successful = 1;
  for (int round = 0; round < arguments.rounds; round++) successful &= run(arguments.class);
  return npb_verdict("MG", arguments.class, successful);
}
