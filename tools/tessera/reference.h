/* The operators of the models in double precision, written plainly and apart from the library: what a device's results are held
 * against. Each sum comes with the sum of its terms' magnitudes, from which the error follows that f32 may make. */
#ifndef TESSERA_REFERENCE_H
#define TESSERA_REFERENCE_H

#include <stdint.h>

#include "base/thread.h"

/* x [n, in, h, w] * weight [out, in, k, k], padding k / 2, so [n, out, h, w]. A linear layer has h = w = k = 1. */
typedef struct conv_shape {
    int64_t n, in, out, h, w, k;
} conv_shape;

/* Element i is value[i]; f32 may be off by bound[i]. */
typedef struct reference {
    double *value, *bound;
} reference;

/* The pool's tasks share the work. false: out of memory, with the thread's error. */
bool reference_conv(thread_pool *pool, conv_shape s, const float *x, const float *weight, const float *bias,
                    reference y);
bool reference_conv_dx(thread_pool *pool, conv_shape s, const float *dy, const float *weight, reference dx);
bool reference_conv_dw(thread_pool *pool, conv_shape s, const float *dy, const float *x, reference dw);
void reference_conv_db(conv_shape s, const float *dy, reference db);

/* loss: one element; dx [rows, classes]. */
void reference_cross_entropy(int64_t rows, int64_t classes, const float *x, const int64_t *target, reference loss,
                             reference dx);

#endif
