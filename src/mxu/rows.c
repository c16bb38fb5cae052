#include "mxu/rows.h"

#include "base/error.h"

enum {
    ROW_GROUP = 8,     /* rows of a work-group */
    SHARE = 64,        /* columns of a work-group at least: two vectors for each lane of the narrowest device */
    BATCHES = 65535,   /* of a launch */
    WORK_GOOD = 65536, /* multiplications of a work-group that make its start cheap ... */
    GROUPS_LEAST = 256 /* ... unless there would be fewer work-groups than this */
};

typedef struct rows_params {
    uint32_t k[3], ka[3], kb[3];
    uint32_t m, row1, row2, ar[3];
    uint32_t lines, width, b_line, c_line, ldc;
    uint32_t inner, a_outer, a_inner, b_outer, b_inner, c_outer, c_inner, flags;
} rows_params;

_Static_assert(sizeof(rows_params) <= HAL_MAX_PARAMS, "parameters of product_rows");

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t at_least_1(int64_t n)
{
    return n < 1 ? 1 : n;
}

/* Kernels count in 32 bits: each batch's part of an operand, and the strides between batches, must stay below 2^32 elements. */
static bool narrow(const int64_t *from, uint32_t *to, int count, const char *what)
{
    for (int i = 0; i < count; i++) {
        if (from[i] < 0 || from[i] > UINT32_MAX) {
            fail(TSR_UNSUPPORTED, "product: a %s of %lld elements; the generic kernel counts to 2^32", what,
                 (long long)from[i]);
            return false;
        }
        to[i] = (uint32_t)from[i];
    }
    return true;
}

static bool extents_fit(const rows_product *p)
{
    const int64_t lines = at_least_1(p->lines), row1 = at_least_1(p->row1), row2 = at_least_1(p->row2);
    int64_t a = (p->m - 1) / (row1 * row2) * p->ar[0] + (row1 - 1) * p->ar[1] + (row2 - 1) * p->ar[2];
    int64_t b = (lines - 1) * p->b_line + p->width + ROWS_SLACK;
    const int64_t c = (p->m - 1) * p->ldc + (lines - 1) * p->c_line + p->width;
    for (int i = 0; i < 3; i++) {
        a += (p->k[i] > 0 ? p->k[i] - 1 : 0) * p->ka[i];
        b += (p->k[i] > 0 ? p->k[i] - 1 : 0) * p->kb[i];
    }
    uint32_t ignored[3];
    return narrow((int64_t[]){a, b, c}, ignored, 3, "matrix");
}

/* Over how many work-groups the columns go. */
static int64_t shares_of(const rows_product *p, int64_t groups)
{
    const int64_t cols = at_least_1(p->lines) * div_up(p->width, 16) * 16, most = div_up(cols, SHARE);
    int64_t good = cols * p->k[0] * p->k[1] * p->k[2] * ROW_GROUP / WORK_GOOD;
    if (good * groups < GROUPS_LEAST)
        good = div_up(GROUPS_LEAST, groups);
    return good < 1 ? 1 : good > most ? most : good;
}

bool rows_product_run(tsr_device *device, const rows_product *p)
{
    rows_params q;
    const int64_t outer = at_least_1(p->outer), inner = at_least_1(p->inner);
    const int64_t counts[] = {p->k[0], p->k[1], p->k[2], p->m, at_least_1(p->lines), p->width};
    const int64_t strides[] = {p->a_outer, p->a_inner, p->b_outer, p->b_inner, p->c_outer, p->c_inner};
    uint32_t checked[6];
    if (!narrow(counts, checked, 6, "size") || !extents_fit(p))
        return false;
    const int64_t groups_x = div_up(p->m, ROW_GROUP), shares = shares_of(p, groups_x * inner * outer);
    if (inner > BATCHES || groups_x > INT32_MAX || shares > BATCHES) {
        fail(TSR_UNSUPPORTED, "product: %lld inner batches of %lld by %lld are more than a launch can hold",
             (long long)inner, (long long)p->m, (long long)p->width);
        return false;
    }
    for (int i = 0; i < 3; i++) {
        q.k[i] = checked[i];
        q.ka[i] = (uint32_t)p->ka[i];
        q.kb[i] = (uint32_t)p->kb[i];
        q.ar[i] = (uint32_t)p->ar[i];
    }
    q.m = checked[3];
    q.row1 = (uint32_t)at_least_1(p->row1);
    q.row2 = (uint32_t)at_least_1(p->row2);
    q.lines = checked[4];
    q.width = checked[5];
    q.b_line = (uint32_t)p->b_line;
    q.c_line = (uint32_t)p->c_line;
    q.ldc = (uint32_t)p->ldc;
    q.inner = (uint32_t)inner;
    if (!narrow(strides, &q.a_outer, 6, "batch"))
        return false;
    q.flags = p->flags | (uint32_t)shares << 4;

    const bool biased = (p->flags & (ROWS_BIAS_ROWS | ROWS_BIAS_COLS)) != 0;
    const size_t size = tsr_dtype_size(p->dtype);
    const int64_t step = BATCHES / inner;
    for (int64_t first = 0; first < outer; first += step) {
        const int64_t now = outer - first < step ? outer - first : step;
        const grid g = {(uint32_t)groups_x, (uint32_t)shares, (uint32_t)(now * inner)};
        hal_binding b[4] = {p->a, p->b, p->c, biased ? p->bias : p->a};
        for (int i = 0; i < 3; i++) {
            const size_t skip = (size_t)(first * strides[2 * i]) * size;
            b[i].offset += skip;
            b[i].length -= skip;
        }
        if (!biased)
            b[3] = b[0];
        if (!kernel_launch(device, key_of("product_rows", p->dtype).text, g, b, 4, &q, sizeof q))
            return false;
    }
    return true;
}

bool rows_pack_run(tsr_device *device, const rows_pack *p)
{
    const int64_t outer = at_least_1(p->outer), inner = at_least_1(p->inner);
    const int64_t wanted[] = {p->rows,    p->cols, p->x_row,   p->x_col,  p->pitch,
                              p->y_batch, inner,   p->x_outer, p->x_inner};
    struct {
        uint32_t rows, cols, x_row, x_col, pitch, y_batch, inner, x_outer, x_inner;
    } q;
    if (!narrow(wanted, &q.rows, 9, "matrix"))
        return false;
    const int64_t blocks_x = div_up(p->rows, 16), blocks_y = div_up(p->cols, 64), step = BATCHES / inner;
    if (inner > BATCHES || blocks_y > BATCHES) {
        fail(TSR_UNSUPPORTED, "product: packing %lld matrices of %lld columns is more than a launch can hold",
             (long long)inner, (long long)p->cols);
        return false;
    }
    const size_t size = tsr_dtype_size(p->dtype);
    for (int64_t first = 0; first < outer; first += step) {
        const int64_t now = outer - first < step ? outer - first : step;
        hal_binding x = p->x, y = p->y;
        x.offset += (size_t)(first * p->x_outer) * size;
        x.length -= (size_t)(first * p->x_outer) * size;
        y.offset += (size_t)(first * inner * p->y_batch) * size;
        y.length -= (size_t)(first * inner * p->y_batch) * size;
        const grid g = {(uint32_t)blocks_x, (uint32_t)blocks_y, (uint32_t)(now * inner)};
        if (!LAUNCH(device, key_of("transpose_pitch", p->dtype), g, &q, x, y))
            return false;
    }
    return true;
}
