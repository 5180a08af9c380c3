/* musl's errno.h says that the address of errno never changes; across a migration it does. */
#ifndef IMAGO_ERRNO_H
#define IMAGO_ERRNO_H
#include_next <errno.h>
#undef errno
int *__imago_errno(void);
#define errno (*__imago_errno())
#endif
