#ifndef TYPE_H
#define TYPE_H
typedef enum { no, yes } answer;
typedef struct { double re; double im; } pair;
#define PAIR(a, b) (pair){a, b}
#define PAIR_SUM(a, b) (pair){(a).re + (b).re, (a).im + (b).im}
#define PAIR_PRODUCT(a, b) (pair){(a).re * (b).re - (a).im * (b).im, (a).re * (b).im + (a).im * (b).re}
#endif
