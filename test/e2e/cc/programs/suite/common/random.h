void fill_random(int count, double *state, double values[]);
