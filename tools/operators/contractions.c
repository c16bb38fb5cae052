/* einsum: one loop over every label. */
#include <string.h>

#include "base/compiler.h"
#include "operators.h"

enum { LABELS = 60 };

/* Where `at`, an index for each label, lies in an operand; a size of 1 holds for all. */
static int64_t place(const reference_call *c, const char *name, const operand *x, const int64_t *at)
{
    int64_t i = 0;
    for (int d = 0; d < x->rank; d++)
        i = i * x->shape[d] + (x->shape[d] == 1 ? 0 : at[reference_list(c, name, d, 0)]);
    return i;
}

static bool einsum(reference_call *c)
{
    static const char *const names[] = {"a", "b"};
    const tsr_attr *given = reference_attr(c, "out");
    const int rank = given == NULL ? 0 : given->count;
    const bool pair = c->in_count > 1 && c->in[1].at != NULL;
    int64_t size[LABELS], shape[TSR_MAX_RANK], at[LABELS] = {0}, out_at[TSR_MAX_RANK] = {0}, inner[LABELS] = {0};
    int labels[LABELS], inner_count = 0;
    for (int l = 0; l < LABELS; l++)
        size[l] = -1;
    for (int k = 0; k < (pair ? 2 : 1); k++)
        for (int d = 0; d < c->in[k].rank; d++) {
            int64_t *s = &size[reference_list(c, names[k], d, 0)];
            *s = *s == -1 || *s == 1 ? c->in[k].shape[d] : *s;
        }
    for (int d = 0; d < rank; d++)
        shape[d] = size[given->values[d]];
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    int64_t terms = 1, sizes[LABELS];
    for (int l = 0; l < LABELS; l++) {
        bool in_result = false;
        for (int d = 0; d < rank; d++)
            in_result = in_result || given->values[d] == l;
        if (size[l] < 0 || in_result)
            continue;
        labels[inner_count] = l;
        sizes[inner_count++] = size[l];
        terms *= size[l];
    }
    do {
        for (int d = 0; d < rank; d++)
            at[given->values[d]] = out_at[d];
        trace_sum_begin(c->t);
        for (int64_t i = 0; i < terms; i++, index_next(inner_count, sizes, inner)) {
            for (int l = 0; l < inner_count; l++)
                at[labels[l]] = inner[l];
            const term a = c->in[0].at[place(c, "a", &c->in[0], at)];
            if (pair)
                trace_sum_product(c->t, a, c->in[1].at[place(c, "b", &c->in[1], at)]);
            else
                trace_sum_add(c->t, a);
        }
        *out++ = trace_sum_end(c->t);
    } while (index_next(rank, shape, out_at));
    return true;
}

#define OF(n, ...)                                                                                                     \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_INTS, .values = (const int64_t[]){__VA_ARGS__},                                    \
        .count = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))                                             \
    }
#define TWO(a, b) .in = {{DIMS a}, {DIMS b}}
#define ONE(a)    .in = {{DIMS a}, {.absent = true}}
enum { I, J, K, L, M };
static const op_sample einsum_samples[] = {
    {"a product", TWO((5, 7), (7, 3)), .attrs = {OF("a", I, J), OF("b", J, K), OF("out", I, K)}},
    {"both transposed", TWO((7, 5), (3, 7)), .attrs = {OF("a", J, I), OF("b", K, J), OF("out", K, I)}},
    {"batches", TWO((3, 5, 4), (4, 3, 6)), .attrs = {OF("a", L, I, J), OF("b", J, L, K), OF("out", I, L, K)}},
    {"two sums", TWO((2, 3, 5), (5, 4, 3)), .attrs = {OF("a", I, J, K), OF("b", K, L, J), OF("out", L, I)}},
    {"a bilinear form", TWO((3, 4, 5), (3, 5)), .attrs = {OF("a", L, I, J), OF("b", L, J), OF("out", L, I)}},
    {"outer", TWO((5), (7)), .attrs = {OF("a", I), OF("b", J), OF("out", J, I)}},
    {"elements", TWO((5, 7), (7, 5)), .attrs = {OF("a", I, J), OF("b", J, I), OF("out", I, J)}},
    {"a sum beside the product", TWO((3, 4, 5), (4, 3, 2)),
     .attrs = {OF("a", I, M, J), OF("b", K, I, L), OF("out", I, K)}},
    {"sizes of 1", TWO((1, 5, 1), (3, 1, 4)), .attrs = {OF("a", L, I, J), OF("b", L, I, J), OF("out", L, I)}},
    {"diagonals", TWO((4, 3, 4), (3, 3)), .attrs = {OF("a", I, J, I), OF("b", J, J), OF("out", I)}},
    {"a transpose", ONE((3, 5, 2)), .attrs = {OF("a", I, J, K), OF("out", K, I, J)}},
    {"a diagonal", ONE((5, 2, 5)), .attrs = {OF("a", I, J, I), OF("out", J, I)}},
    {"a trace", ONE((7, 7)), .attrs = {OF("a", I, I)}},
    {"a sum", ONE((3, 7, 2)), .attrs = {OF("a", I, J, K), OF("out", J)}},
    {"dot", TWO((19), (19)), .attrs = {OF("a", I), OF("b", I)}},
    {"small integers",
     .in = {{DIMS(9, 4, 13), .values = VALUES_INTEGERS}, {DIMS(13, 4, 11), .values = VALUES_INTEGERS}},
     .attrs = {OF("a", I, L, J), OF("b", J, L, K), OF("out", L, K, I)}, .exact = true},
    {"one element", TWO((1, 1), (1)), .attrs = {OF("a", I, J), OF("b", J), OF("out", I)}},
    {"no rows", TWO((0, 4), (4, 5)), .attrs = {OF("a", I, J), OF("b", J, K), OF("out", I, K)}},
    {"no terms", TWO((3, 0), (0, 2)), .attrs = {OF("a", I, J), OF("b", J, K), OF("out", I, K)}},
    {"past 2^16", TWO((259, 2), (2, 257)), .attrs = {OF("a", I, J), OF("b", J, K), OF("out", K, I)}},
};

static const operator_row list[] = {
    {.name = "einsum",
     .family = "products",
     .dtypes = FLOATS,
     .arity = 2,
     .results = 1,
     .differentiable = true,
     .view = true,
     .products = true,
     .huge = 0x1p58,
     .tiny = 0x1p-58,
     .reference = einsum,
     SAMPLES(einsum_samples)},
};
const row_list contractions_rows = {list, COUNT_OF(list)};
