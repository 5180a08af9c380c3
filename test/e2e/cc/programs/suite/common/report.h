#include "type.h"
void report(char *name, char class, int size[3], int rounds, double time, answer right, char *compiled);
