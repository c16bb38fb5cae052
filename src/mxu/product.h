/* Products of matrices: which route computes one on a device, and in what tiles.
 *
 * Routes: the backend's own (a vendor's library, behind hal_gemm), else the generic kernel that suits the device: product_rows
 * on processors (vectors in registers), product_tile on GPUs (blocks in shared memory). A route depends on the device and the
 * product's description only, so that a run can be repeated bit by bit. */
#ifndef TESSERA_MXU_PRODUCT_H
#define TESSERA_MXU_PRODUCT_H

#include "dispatch/launch.h"

/* A family of matrices in memory. Strides in elements, not negative; 0 repeats. */
typedef struct product_matrix {
    hal_binding at;
    int64_t row, col;     /* from one row and column to the next */
    int64_t outer, inner; /* from one batch to the next: batch (i, j) starts at i * outer + j * inner */
    int64_t reduce;       /* from one summand to the next (A and B) */
} product_matrix;

typedef enum product_bias { PRODUCT_NO_BIAS, PRODUCT_BIAS_ROWS, PRODUCT_BIAS_COLS } product_bias;

/* C[i, j] (+)= sum over r < reduce of A[i, j, r] · B[i, j, r] + bias[j], accumulated in f32 (f64 for f64). */
typedef struct product {
    tsr_dtype dtype; /* of all operands: a floating-point one */
    int64_t m, n, k;
    product_matrix a, b,
        c; /* [m, k], [k, n], [m, n]; A and B have one of row, col equal to 1 (or one row, or one column); c.col is 1 */
    int64_t outer, inner; /* numbers of batches; 0 means 1 */
    int64_t reduce;       /* number of summands; 0 means 1 */
    bool accumulate;      /* adds to what C holds; not together with a bias */
    product_bias bias_along;
    hal_binding bias; /* [inner, m] or [inner, n] */
} product;

/* Queues it. m, n and the batches are not 0; k may be. False after fail(). */
bool product_run(tsr_device *device, const product *p);

/* Whether this device computes products of the dtype, of k terms; if not, an operator that needs it widens to f32. (Vendors' routes take
 * no empty sums.) */
bool product_takes(tsr_device *device, tsr_dtype dtype, int64_t k);

/* Whether products go to the backend's own route: where there is one, unless the generic kernel is faster.
 * TESSERA_PRODUCT=vendor|generic decides, for tests. */
bool product_prefers_vendor(tsr_device *device);

#endif
