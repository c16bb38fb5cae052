/* What reductions over axes share: which axes, the folds, the ways back. Attribute 0 of each is `axes`, 1 is `keep`. */
#ifndef TESSERA_OPS_REDUCE_H
#define TESSERA_OPS_REDUCE_H

#include "ops/op.h"

/* The first two attributes of a row; others may follow. */
#define REDUCTION_AXES                                                                                                 \
    {"axes", ATTR_INTS, false, {0}},                                                                                   \
    {                                                                                                                  \
        "keep", ATTR_BOOL, false,                                                                                      \
        {                                                                                                              \
            0                                                                                                          \
        }                                                                                                              \
    }
#define REDUCTION_ATTRS                                                                                                \
    {                                                                                                                  \
        REDUCTION_AXES                                                                                                 \
    }

/* The dtype in which a reduction of dtype x is carried: f32 for f16 and bf16. */
tsr_dtype reduce_dtype(tsr_dtype x);
/* Bit i: axis i is reduced. False after fail(). */
bool reduce_mask(const op_call *call, unsigned *mask);
unsigned reduce_mask_of(const op_record *record);
/* Elements of x that go into one of the result. */
int64_t reduce_count(const tensor *x, unsigned mask);
/* The result's shape; reduce_infer also gives it the dtype of x. reduce_not_empty fails where nothing is reduced. */
bool reduce_shape(const op_call *call, op_output *out);
bool reduce_infer(const op_call *call, op_output *out);
bool reduce_not_empty(const op_call *call);

/* Folds ("sum", "prod", "max", "min") the axes in mask, of a tensor that is not empty; the result's elements are in row-major
 * order of what is left, in reduce_dtype's. */
tensor *reduce_fold(const char *fold, tensor *x, unsigned mask);
/* y = t / count, converted to y's dtype; t as reduce_fold gives it. */
bool reduce_finish(const tensor *t, tensor *y, int64_t count);
/* x with its reduced axes moved to the end, contiguous. */
tensor *reduce_rows(tensor *x, unsigned mask);

/* A reduced tensor as one that broadcasts to the input's shape: sizes of 1 where axes went. */
tensor *reduce_kept(tensor *t, int rank, const int64_t *shape, unsigned mask);
tensor *reduce_spread(const op_record *record, tensor *t);

/* For the typed functions; `third` is attribute 2. */
tensor *reduce_apply(const op_row *row, tensor *x, const int *axes, int count, bool keep, attr_value third);

#endif
