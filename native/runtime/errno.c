/* errno of the calling thread, asked anew each time (include/errno.h). */
#include <errno.h>

int *__imago_errno(void);
int *__imago_errno(void) { return &errno; }
