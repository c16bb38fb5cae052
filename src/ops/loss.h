/* Losses between two tensors, element by element: LOSS rows of kernels/elementwise.def. Their last attribute is `reduction`. */
#ifndef TESSERA_OPS_LOSS_H
#define TESSERA_OPS_LOSS_H

#include "ops/op.h"
#include "tessera/ops.h"

#define REDUCTION_ATTR                                                                                                 \
    {                                                                                                                  \
        "reduction", ATTR_INT, false,                                                                                  \
        {                                                                                                              \
            .i = TSR_REDUCTION_MEAN                                                                                    \
        }                                                                                                              \
    }

/* False after fail() where the value is none of tsr_reduction that the operator has. */
bool reduction_check(const char *name, int64_t reduction);
/* Terms of the carried dtype reduced, and converted to `dtype`; BATCH_MEAN divides by `batch`. NULL after fail(). */
tensor *reduction_apply(tensor *terms, tsr_reduction reduction, int64_t batch, tsr_dtype dtype);

bool loss_infer(const op_call *call, op_output *out);
bool loss_run(const op_call *call);
bool loss_backward(const op_record *record, tensor *const *dy, tensor **dx);

#endif
