/* The operators of kernels/elementwise.def as the host sees them. The table is written by tools/kernel-pack. */
#ifndef TESSERA_OPS_ELEMENTWISE_TABLE_H
#define TESSERA_OPS_ELEMENTWISE_TABLE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct elementwise_gradient {
    bool exists;           /* false: the derivative is 0 everywhere, and there is no kernel for it */
    bool needs_operand[3]; /* reads operand k of the forward pass */
    bool needs_result;     /* reads its result */
} elementwise_gradient;

typedef struct elementwise_row {
    const char *name; /* "relu": the kernels are unary/relu/f32, unary_grad/relu/f32 and so on */
    int arity;        /* 1, 2 or 3 */
    bool compare;     /* the result is of dtype bool (kernel compare/… or, of one operand, test/…); no derivative */
    bool bits;        /* of integers and bool only (kernel bits/…); no derivative */
    bool loss;        /* the results may be added up: src/ops/loss.c */
    bool integer;     /* there are i32 and i64 instances (kernel unary_int/… and so on) */
    int ulp;          /* bound of the f32 forward result */
    elementwise_gradient gradient[3];
} elementwise_row;

extern const elementwise_row elementwise_rows[];
extern const size_t elementwise_row_count; /* in the order of elementwise.def */

#endif
