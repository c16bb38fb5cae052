/* Which of two recordings is wrong: an operator again, in double precision on the processor, from the whole tensors that a recording kept of
 * its operands (tessera train --trace-tensors). */
#ifndef TESSERA_ARBITER_H
#define TESSERA_ARBITER_H

#include "recording.h"

typedef struct arbitration {
    bool done;
    char why[256];   /* why not */
    double error;    /* Euclidean, of the recorded result to the recomputed one */
    int64_t element; /* that errs most; -1: none does */
    double value, expected;
} arbitration;

/* Output k of an event. `path`: the recording's file. False, with `why`, where it cannot be done. */
bool arbiter_recompute(const recording *r, const char *path, size_t event, int k, arbitration *a);

#endif
