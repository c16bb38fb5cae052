/* What the operators by index share: indices made ready, elements taken and put by them (kernels/index.k, kernels/sort.k). */
#ifndef TESSERA_OPS_INDEX_H
#define TESSERA_OPS_INDEX_H

#include "ops/op.h"

/* Whether t is of i32 or i64; fails naming `what`. */
bool index_dtype(const char *what, const tensor *t);
/* The indices contiguous as i32, with -1 for those outside [0, size). */
tensor *index_narrow(const char *what, tensor *index, int64_t size);

/* Stable sort of contiguous rows [rows, n]: the keys in order and the places (i32) that they came from. */
bool sort_rows(tensor *x, int64_t rows, int64_t n, bool descending, tensor **keys, tensor **places);

/* A list of n narrow indices for all of `lists` lines (1: one list for all). */
typedef struct index_lists {
    tensor *narrow;
    int64_t lists, n;
} index_lists;

/* y [outer, n, inner] = x [outer, size, inner] by index, both contiguous. lists is 1, or outer with inner 1. An index out of
 * range takes NaN, of integers 0; with `zero` always 0. */
bool index_take(const tensor *x, const index_lists *index, int64_t outer, int64_t size, int64_t inner, bool zero,
                tensor *y);

typedef struct index_put_options {
    bool replaces; /* the last of several values for one place, instead of the sum of all; inner is 1 */
    int64_t skip;  /* this index adds nothing; -1: none */
} index_put_options;

/* y [outer, size, inner] = base (NULL: 0) + from [outer, n, inner] by index, added in ascending order of place. */
bool index_put(tensor *base, const tensor *from, const index_lists *index, int64_t outer, int64_t size, int64_t inner,
               index_put_options options, tensor *y);

#endif
