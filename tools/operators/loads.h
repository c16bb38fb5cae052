/* On what an operator's speed is measured, and what it costs there. */
#ifndef TESSERA_OPERATORS_LOADS_H
#define TESSERA_OPERATORS_LOADS_H

#include "operators.h"

enum { LOAD_SIZE = 1 << 24 }; /* elements of a pointwise operator's result; the loads below are for as much work */

typedef struct load {
    const operator_row *row;
    op_sample sample;
    bool own; /* sized for this; else the row's largest sample, which may be too small to tell */
    /* Arithmetic for each element of the results and of the operands; exp and the like count as one. */
    double flops_per_result, flops_per_operand;
    double backward_factor;  /* backward flops over forward ones */
    uint32_t backward_reads; /* bit k: the derivative depends on operand k's values, so it must be read again */
} load;

/* `size` in place of LOAD_SIZE: pointwise operands have so many elements, others' batches shrink or grow likewise. */
void load_of(const operator_row *row, int64_t size, load *l);

typedef struct load_cost {
    double flops, bytes;
} load_cost;
/* What must be computed, and the memory that must be read and written at the least: operands and results once. Backward: the gradient
 * of the result, the operands that the derivative depends on, and the operands' gradients. `out_count`: elements of the results. */
load_cost load_cost_of(const load *l, tsr_dtype dtype, const int64_t *out_count, const tsr_dtype *out_dtype, int outs,
                       bool backward);

/* The dtype of operand k, and how many elements it has. */
tsr_dtype load_dtype(const load *l, int k, tsr_dtype dtype);
int64_t load_count(const load *l, int k);

#endif
