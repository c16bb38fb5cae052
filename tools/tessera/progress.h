/* How far a long job is: a bar that is redrawn on a terminal, a line now and then in a pipe. On standard error, so that results can be
 * piped away. */
#ifndef TESSERA_PROGRESS_H
#define TESSERA_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

typedef struct progress {
    const char *label; /* "vulkan:0" */
    const char *phase; /* before the count: "test " or "" */
    const char *unit;  /* "images/s" */
    bool live;         /* a terminal */
    bool shown;        /* a bar stands in the current line */
    double drawn;      /* when */
} progress;

void progress_begin(progress *p, const char *label, const char *unit);

/* `done` of `total` steps; loss and rate are left out where they are negative (or NaN). Draws at most ten times a second. */
void progress_show(progress *p, int64_t done, int64_t total, double loss, double rate, double seconds_left);

/* Whether progress_show would draw now: for values that are dear to get. */
bool progress_due(const progress *p);

/* A line of its own, "vulkan:0: …"; the bar comes back below it. */
void progress_note(progress *p, const char *format, ...) PRINTF_LIKE(2, 3);

/* Takes the bar away. */
void progress_end(progress *p);

#endif
