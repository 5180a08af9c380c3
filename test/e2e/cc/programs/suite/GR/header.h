/* Arrays that all sources share, in sizes of the class. */
#include "classparams.h"
#include "type.h"
#define NX PROBLEM_SIZE
#define NY (PROBLEM_SIZE / 2)
#define NZ (PROBLEM_SIZE / 4)
#if CLASS == 'S'
#define SEED 161803398.0
#elif CLASS == 'W'
#define SEED 141421356.0
#endif
/* common /fields/ */
extern double u[NZ][NY][NX + 1];
extern double forcing[NZ][NY][NX + 1];
extern pair spectrum[NX];
/* common /sizes/ */
extern int points[3];
extern double state;
void initialize(void);
void relax(void *first, void *second, int n1, int n2, int n3, double c[4]);
void transform(int n, int m, pair x[n], pair y[][m]);
double norm(int n1, int n2, int n3, double v[n3][n2][n1 + 1]);
void verify(int rounds, double rms, pair sum, char *class, answer *right);
