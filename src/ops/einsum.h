/* Einstein's notation: labels for dimensions, and the text that gives them. */
#ifndef TESSERA_OPS_EINSUM_H
#define TESSERA_OPS_EINSUM_H

#include "ops/op.h"

/* 0…25 for A…Z, 26…51 for a…z, 52…59 for the dimensions of an ellipsis, the last of which is 59. */
enum { EINSUM_LABELS = 60, EINSUM_OPERANDS = 16 };

typedef struct einsum_term {
    int count;
    int64_t labels[TSR_MAX_RANK];
} einsum_term;

typedef struct einsum_equation {
    int count;
    einsum_term in[EINSUM_OPERANDS], out;
} einsum_equation;

/* "ij,jk->ik" for operands of these ranks. False after fail(). */
bool einsum_parse(const char *text, tensor *const *operands, int count, einsum_equation *equation);
bool einsum_has(const einsum_term *term, int64_t label);

#endif
