/* matmul and linear: sums of products in any order. */
#include <string.h>

#include "base/compiler.h"
#include "operators.h"

/* a and b as batches of matrices: a vector is a row on the left and a column on the right, and its axis goes from the result. */
static bool matmul(reference_call *c)
{
    operand a = c->in[0], b = c->in[1];
    const bool row = a.rank == 1, column = b.rank == 1;
    if (row) {
        a.rank = 2;
        a.shape[1] = a.shape[0];
        a.shape[0] = 1;
    }
    if (column) {
        b.rank = 2;
        b.shape[1] = 1;
    }
    const int rank = a.rank > b.rank ? a.rank : b.rank, batch = rank - 2;
    const int64_t m = a.shape[a.rank - 2], k = a.shape[a.rank - 1], n = b.shape[b.rank - 1];
    int64_t shape[TSR_MAX_RANK], given[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    int given_rank = 0;
    operand outer_a = a, outer_b = b;
    outer_a.rank -= 2;
    outer_b.rank -= 2;
    for (int d = 0; d < batch; d++) {
        const int da = d - (batch - outer_a.rank), db = d - (batch - outer_b.rank);
        const int64_t sa = da < 0 ? 1 : a.shape[da], sb = db < 0 ? 1 : b.shape[db];
        shape[d] = given[given_rank++] = sa == 1 ? sb : sa;
    }
    if (!row)
        given[given_rank++] = m;
    if (!column)
        given[given_rank++] = n;
    term *out = reference_result(c, 0, c->dtype, given_rank, given);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        const term *x = a.at + broadcast_at(&outer_a, batch, index) * m * k,
                   *y = b.at + broadcast_at(&outer_b, batch, index) * k * n;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                trace_sum_begin(c->t);
                for (int64_t l = 0; l < k; l++)
                    trace_sum_product(c->t, x[i * k + l], y[l * n + j]);
                *out++ = trace_sum_end(c->t);
            }
    } while (index_next(batch, shape, index));
    return true;
}

#define TWO(a, b) .in = {{DIMS a}, {DIMS b}}
static const op_sample matmul_samples[] = {
    {"odd", TWO((5, 7), (7, 9))},
    {"small integers", .in = {{DIMS(9, 13), .values = VALUES_INTEGERS}, {DIMS(13, 11), .values = VALUES_INTEGERS}},
     .exact = true},
    {"one element", TWO((1, 1), (1, 1))},
    {"vectors", TWO((17), (17))},
    {"vector and matrix", TWO((6), (6, 5))},
    {"matrix and vector", TWO((3, 4, 6), (6))},
    {"batches", TWO((2, 1, 3, 5), (4, 5, 2))},
    {"past a tile", TWO((67, 35), (35, 71))},
    {"long", TWO((2, 4099), (4099, 3))},
    {"long integers", .in = {{DIMS(1, 65539), .values = VALUES_INTEGERS}, {DIMS(65539, 1), .values = VALUES_INTEGERS}},
     .exact = true},
    {"past 2^16", TWO((257, 3), (3, 259))},
    {"no rows", TWO((0, 4), (4, 5))},
    {"no terms", TWO((3, 0), (0, 2))},
    {"transposed right", .in = {{DIMS(33, 20)}, {DIMS(20, 31), .layout = LAYOUT_REVERSED}}},
};

static bool linear(reference_call *c)
{
    const operand *x = &c->in[0], *w = &c->in[1], *bias = c->in_count > 2 ? &c->in[2] : NULL;
    const int64_t in = w->shape[1], out_features = w->shape[0];
    int64_t shape[TSR_MAX_RANK], rows = 1;
    memcpy(shape, x->shape, sizeof shape);
    for (int d = 0; d < x->rank - 1; d++)
        rows *= shape[d];
    shape[x->rank - 1] = out_features;
    term *out = reference_result(c, 0, c->dtype, x->rank, shape);
    for (int64_t r = 0; r < rows && out != NULL; r++)
        for (int64_t o = 0; o < out_features; o++) {
            trace_sum_begin(c->t);
            for (int64_t i = 0; i < in; i++)
                trace_sum_product(c->t, x->at[r * in + i], w->at[o * in + i]);
            if (bias != NULL && bias->at != NULL)
                trace_sum_add(c->t, bias->at[o]);
            *out++ = trace_sum_end(c->t);
        }
    return out != NULL || c->out[0].count == 0;
}

#define LINEAR(x, w, b) .in = {{DIMS x}, {DIMS w}, {DIMS b}}
static const op_sample linear_samples[] = {
    {"odd", LINEAR((5, 7), (9, 7), (9))},
    {"without bias", .in = {{DIMS(4, 6)}, {DIMS(3, 6)}, {.absent = true}}},
    {"small integers",
     .in = {{DIMS(9, 13), .values = VALUES_INTEGERS},
            {DIMS(11, 13), .values = VALUES_INTEGERS},
            {DIMS(11), .values = VALUES_INTEGERS}},
     .exact = true},
    {"one element", LINEAR((1, 1), (1, 1), (1))},
    {"a vector", LINEAR((7), (5, 7), (5))},
    {"three axes", LINEAR((2, 3, 6), (5, 6), (5))},
    {"past a tile", LINEAR((65, 33), (70, 33), (70))},
    {"long", LINEAR((2, 4099), (3, 4099), (3))},
    {"past 2^16", LINEAR((331, 3), (200, 3), (200))},
    {"no rows", LINEAR((0, 4), (5, 4), (5))},
    {"no terms", LINEAR((3, 0), (5, 0), (5))},
};

static const operator_row list[] = {
    {.name = "matmul",
     .family = "products",
     .dtypes = FLOATS,
     .arity = 2,
     .results = 1,
     .differentiable = true,
     .products = true,
     .huge = 0x1p58,
     .tiny = 0x1p-58,
     .specials = true,
     .reference = matmul,
     SAMPLES(matmul_samples)},
    {.name = "linear",
     .family = "products",
     .dtypes = FLOATS,
     .arity = 3,
     .results = 1,
     .differentiable = true,
     .products = true,
     .huge = 0x1p58,
     .tiny = 0x1p-58,
     .specials = true,
     .reference = linear,
     SAMPLES(linear_samples)},
};
const row_list products_rows = {list, COUNT_OF(list)};
