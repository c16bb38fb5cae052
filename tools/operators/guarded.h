/* A tensor inside a larger one: whatever is written beside it is seen. */
#ifndef TESSERA_OPERATORS_GUARDED_H
#define TESSERA_OPERATORS_GUARDED_H

#include "operators.h"

typedef struct guarded {
    tsr_tensor *whole, *view; /* of the open scope */
    void *image;              /* what lies in the whole */
    size_t bytes;
} guarded;

/* The values laid out as `l` says (NULL: a pattern), `lead` elements after the guard's first 64. False with the thread's error. */
bool guarded_make(guarded *g, tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, layout l,
                  int64_t lead, const double *values);
/* Whether all memory is as it was made; with `only_guards`, all outside the view, which is dense. *intact says. False: reading failed. */
bool guarded_intact(const guarded *g, bool only_guards, bool *intact);
void guarded_free(guarded *g);

#endif
