/* For programs compiled with `imago cc`. */
#ifndef IMAGO_H
#define IMAGO_H
#ifdef __cplusplus
extern "C" {
#endif

/* Here the program may be moved to another machine, when somebody has asked for it. */
void imago_migrate(void);
/* The same under the name that Popcorn Linux gave it. `callback(data)` runs after a move. */
void migrate(int node, void (*callback)(void *), void *data);

#ifdef __cplusplus
}
#endif
#endif
