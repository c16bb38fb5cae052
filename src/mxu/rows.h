/* The kernel product_rows, with its whole addressing: for matrices and for convolutions that read padded images. */
#ifndef TESSERA_MXU_ROWS_H
#define TESSERA_MXU_ROWS_H

#include "dispatch/launch.h"

/* What B's buffer must hold behind the last element, where `slack` is set: elements. No vector is longer. */
enum { ROWS_SLACK = 16 };

typedef enum rows_flag {
    ROWS_ACCUMULATE = 1,
    ROWS_BIAS_ROWS = 2,
    ROWS_BIAS_COLS = 4,
    ROWS_READS_PAST = 8 /* B may be read ROWS_SLACK elements past the end of each line; otherwise width >= ROWS_SLACK */
} rows_flag;

/* C[row, col] = sum over i of A[row_at(row) + i·ka] B[col_at(col) + i·kb]; f32 and f64. See kernels/product_rows.k. */
typedef struct rows_product {
    tsr_dtype dtype;
    int64_t k[3], ka[3], kb[3];   /* the contraction, three nested loops */
    int64_t m, row1, row2, ar[3]; /* rows: digits (.., row1, row2) and A's stride for each; row1, row2 0 mean 1 */
    int64_t lines, width;         /* columns: lines of so many neighbours; lines 0 means 1 */
    int64_t b_line, c_line, ldc;  /* from line to line in B and C; from row to row in C */
    int64_t outer, inner;         /* batches; 0 means 1 */
    int64_t a_outer, a_inner, b_outer, b_inner, c_outer, c_inner;
    uint32_t flags;            /* rows_flag */
    hal_binding a, b, c, bias; /* a without bias: the slot is bound to a */
} rows_product;

bool rows_product_run(tsr_device *device, const rows_product *p);

/* y[z, r, c] = x[z, r, c] with the given strides in x, rows of y `pitch` apart and batches y_batch: packs what has its columns
 * far apart. Batch z is (z / inner, z % inner). f32 and f64. */
typedef struct rows_pack {
    tsr_dtype dtype;
    int64_t rows, cols, x_row, x_col, pitch, y_batch;
    int64_t outer, inner, x_outer, x_inner;
    hal_binding x, y;
} rows_pack;

bool rows_pack_run(tsr_device *device, const rows_pack *p);

#endif
