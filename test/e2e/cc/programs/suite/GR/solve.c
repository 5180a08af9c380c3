#include <math.h>
#include "header.h"
/* The arrays come as addresses, and get their sizes here: pointers to arrays of variable length, of which none is on the stack. */
void relax(void *first, void *second, int n1, int n2, int n3, double c[4]) {
  double (*v)[n2][n1 + 1] = (double (*)[n2][n1 + 1])first;
  double (*f)[n2][n1 + 1] = (double (*)[n2][n1 + 1])second;
  double near[NX + 1];
  int i, j, k;
  for (k = 1; k < n3 - 1; k++)
    for (j = 1; j < n2 - 1; j++) {
      for (i = 0; i < n1; i++) near[i] = v[k][j - 1][i] + v[k][j + 1][i] + v[k - 1][j][i] + v[k + 1][j][i];
      for (i = 1; i < n1 - 1; i++) {
        const double curvature = near[i] + v[k][j][i - 1] + v[k][j][i + 1] - 6.0 * v[k][j][i];
        v[k][j][i] += c[0] * 0.1 * v[k][j][i] + c[1] * curvature + c[2] * f[k][j][i];
      }
    }
}
/* A step of a Fourier transform for each power of two, between two rows of y. */
void transform(int n, int m, pair x[n], pair y[][m]) {
  const double pi = 3.141592653589793238;
  int half, i, k, row = 0;
  for (half = n / 2; half >= 1; half /= 2) {
    for (k = 0; k < half; k++)
      for (i = 0; i < n / 2 / half; i++) {
        const double angle = -pi * i * half / (n / 2);
        pair a = x[i * half + k], b = x[i * half + k + n / 2], w = PAIR(cos(angle), sin(angle));
        y[row][2 * i * half + k] = PAIR_SUM(a, b);
        y[row][2 * i * half + k + half] = PAIR_PRODUCT(w, PAIR(a.re - b.re, a.im - b.im));
      }
    for (i = 0; i < n; i++) x[i] = y[row][i];
    row = !row;
  }
}
double norm(int n1, int n2, int n3, double v[n3][n2][n1 + 1]) {
  double sum = 0.0;
  for (int k = 0; k < n3; k++)
    for (int j = 0; j < n2; j++)
      for (int i = 0; i < n1; i++) sum += pow(fabs(v[k][j][i]), 2.0);
  return sqrt(sum / ((double)n1 * n2 * n3));
}
