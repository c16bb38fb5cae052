/* The parts of test_every_kernel.c: each runs the operators of some families forward and backward. */
#ifndef TESSERA_TESTS_EVERY_KERNEL_H
#define TESSERA_TESTS_EVERY_KERNEL_H

#include "tests/op_reference.h"

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                             \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

/* A tensor of small numbers, in (0, 1) where floats are wanted, that wants a gradient if it can have one. */
tsr_tensor *operand(const run *r, tsr_dtype dtype, int rank, const int64_t *shape);
/* Of i32 or i64: 0, 1, … below `limit`, again and again. */
tsr_tensor *indices(const run *r, tsr_dtype dtype, int64_t limit, int rank, const int64_t *shape);
/* Its first two axes the other way round. */
tsr_tensor *turned(tsr_tensor *x);
/* Fails where y is NULL; else runs the backward pass from y, if it has one. */
void differentiate(const run *r, tsr_tensor *y);

void every_elementwise(const run *r);
void every_copy(const run *r);
void every_reduction(const run *r);
void every_row(const run *r);     /* softmax, losses, normalisation, attention, embedding positions, sums along a row */
void every_index(const run *r);   /* take, put, sort */
void every_product(const run *r); /* products and convolutions */
void every_image(const run *r);   /* pools, resampling, batch normalisation */
void every_random(const run *r);
void every_optimizer(const run *r);

static const tsr_dtype integer_dtypes[] = {TSR_I32, TSR_I64};
static const tsr_dtype all_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64, TSR_U8, TSR_BOOL};

/* for (every dtype of the list that the device has) */
#define EACH_DTYPE(dtype, list)                                                                                        \
    for (size_t dtype##_at = 0; dtype##_at < sizeof(list) / sizeof((list)[0]); dtype##_at++)                           \
        for (tsr_dtype dtype = (list)[dtype##_at], *dtype##_once = &dtype; dtype##_once != NULL; dtype##_once = NULL)  \
            if (run_has(r, dtype))

#endif
