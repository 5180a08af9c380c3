/* A call, and what came of it: one line, flushed, so that it is written before whatever comes next. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void said(const char *what, long result) {
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: %ld\n", what, result);
    fflush(stdout);
}

#define TRY(call) said(#call, (long)(call))
