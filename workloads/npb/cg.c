/*
 * CG: the smallest eigenvalue of a large sparse matrix by inverse iteration, each step 25 iterations of the
 * conjugate gradient method (Conjugate Gradient of RNR-94-007). The matrix is the weighted sum of outer products
 * of sparse random vectors, with rcond on the diagonal and the shift taken off; zeta must match to 1e-10.
 */
#include "npb.h"

#define RCOND 0.1
#define STEPS 15
#define INNER 25
#define LARGEST_ORDER 7000
#define LARGEST_NONZEROS 9 /* of a generating vector: NONZER, and the one on the diagonal */

struct problem {
  char class;
  int order, nonzeros;
  double shift, zeta;
};

static const struct problem problems[] = {
    {'S', 1400, 7, 10, 8.5971775078648},
    {'W', 7000, 8, 12, 10.362595087124},
};

/* Sparse vectors, one a row: where their nonzeros are and what they are. */
struct vector {
  int count;
  int index[LARGEST_NONZEROS];
  double value[LARGEST_NONZEROS];
};

/* A matrix element on the way into its row, chained by row. */
struct element {
  int column, next;
  double value;
};

static struct vector generators[LARGEST_ORDER];
static int first_of_row[LARGEST_ORDER];
static int row_start[LARGEST_ORDER + 1];
static int *columns;
static double *values;
static double x[LARGEST_ORDER], z[LARGEST_ORDER], r[LARGEST_ORDER], p[LARGEST_ORDER], q[LARGEST_ORDER];

/* `nonzeros` random values at distinct random places below `order`; places are drawn below a power of two. */
static void sparse_vector(struct vector *vector, int order, int nonzeros, uint64_t *state) {
  int power = 1;
  while (power < order) power *= 2;
  vector->count = 0;
  while (vector->count < nonzeros) {
    double value = npb_random(state);
    int index = (int)(power * npb_random(state));
    int seen = index >= order;
    for (int i = 0; i < vector->count && !seen; i++) seen = vector->index[i] == index;
    if (seen) continue;
    vector->index[vector->count] = index;
    vector->value[vector->count++] = value;
  }
}

static void set_element(struct vector *vector, int index, double value) {
  for (int i = 0; i < vector->count; i++)
    if (vector->index[i] == index) {
      vector->value[i] = value;
      return;
    }
  vector->index[vector->count] = index;
  vector->value[vector->count++] = value;
}

/* Sum over i of rcond^(i/n) v_i v_i', plus (rcond - shift) on the diagonal, as compressed rows. */
static void make_matrix(const struct problem *problem) {
  int order = problem->order;
  uint64_t state = NPB_SEED;
  npb_random(&state); /* the specification draws one number first */
  long capacity = 0;
  for (int i = 0; i < order; i++) {
    sparse_vector(&generators[i], order, problem->nonzeros, &state);
    set_element(&generators[i], i, 0.5);
    capacity += (long)generators[i].count * generators[i].count;
    first_of_row[i] = -1;
  }
  struct element *pool = malloc((size_t)capacity * sizeof *pool);
  if (pool == NULL) exit(1);
  int used = 0;
  double weight = 1, ratio = pow(RCOND, 1.0 / order);
  for (int i = 0; i < order; i++) {
    const struct vector *v = &generators[i];
    for (int a = 0; a < v->count; a++) {
      int row = v->index[a];
      double scale = weight * v->value[a];
      for (int b = 0; b < v->count; b++) {
        double value = scale * v->value[b];
        if (v->index[b] == row && row == i) value += RCOND - problem->shift;
        int at = first_of_row[row];
        while (at >= 0 && pool[at].column != v->index[b]) at = pool[at].next;
        if (at < 0) {
          at = used++;
          pool[at] = (struct element){v->index[b], first_of_row[row], 0};
          first_of_row[row] = at;
        }
        pool[at].value += value;
      }
    }
    weight *= ratio;
  }
  columns = malloc((size_t)used * sizeof *columns);
  values = malloc((size_t)used * sizeof *values);
  if (columns == NULL || values == NULL) exit(1);
  int next = 0;
  for (int row = 0; row < order; row++) {
    row_start[row] = next;
    for (int at = first_of_row[row]; at >= 0; at = pool[at].next) {
      columns[next] = pool[at].column;
      values[next++] = pool[at].value;
    }
  }
  row_start[order] = next;
  free(pool);
}

static double dot(int order, const double *a, const double *b) {
  double sum = 0;
  for (int i = 0; i < order; i++) sum += a[i] * b[i];
  return sum;
}

static void multiply(int order, const double *vector, double *result) {
  for (int row = 0; row < order; row++) {
    double sum = 0;
    for (int k = row_start[row]; k < row_start[row + 1]; k++) sum += values[k] * vector[columns[k]];
    result[row] = sum;
  }
}

/* Solves A z = x; returns ||x - A z||. */
static double conjugate_gradient(int order) {
  for (int i = 0; i < order; i++) {
    z[i] = 0;
    r[i] = p[i] = x[i];
  }
  double rho = dot(order, r, r);
  for (int iteration = 0; iteration < INNER; iteration++) {
    multiply(order, p, q);
    double alpha = rho / dot(order, p, q);
    for (int i = 0; i < order; i++) {
      z[i] += alpha * p[i];
      r[i] -= alpha * q[i];
    }
    double previous = rho;
    rho = dot(order, r, r);
    double beta = rho / previous;
    for (int i = 0; i < order; i++) p[i] = r[i] + beta * p[i];
  }
  multiply(order, z, r);
  double sum = 0;
  for (int i = 0; i < order; i++) {
    double difference = x[i] - r[i];
    sum += difference * difference;
  }
  return sqrt(sum);
}

static int run(const struct problem *problem) {
  int order = problem->order;
  double zeta = 0;
  make_matrix(problem);
  for (int i = 0; i < order; i++) x[i] = 1;
  for (int step = 1; step <= STEPS; step++) {
    double residual = conjugate_gradient(order);
    zeta = problem->shift + 1 / dot(order, x, z);
    printf("%2d  ||r|| below 1e-9: %s  zeta %.11e\n", step, residual < 1e-9 ? "yes" : "no", zeta);
    double norm = 1 / sqrt(dot(order, z, z));
    for (int i = 0; i < order; i++) x[i] = norm * z[i];
  }
  free(columns);
  free(values);
  return npb_close(zeta, problem->zeta, 1e-10);
}

int main(int argc, char **argv) {
  struct npb_arguments arguments = npb_arguments(argc, argv);
  int successful = 1;
  for (int round = 0; round < arguments.rounds; round++) successful &= run(&problems[arguments.class == 'W']);
  return npb_verdict("CG", arguments.class, successful);
}
