/* sort, topk and one_hot. */
#include <math.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "operators.h"

typedef struct sorted {
    double key;
    int64_t place;
    bool descending;
} sorted;

/* NaN counts as largest; of equal ones the first comes first, whichever the order. */
static int by_key(const void *left, const void *right)
{
    const sorted *a = left, *b = right;
    const bool below = isnan(b->key) ? !isnan(a->key) : a->key < b->key;
    const bool above = isnan(a->key) ? !isnan(b->key) : a->key > b->key;
    if (below || above)
        return below != a->descending ? -1 : 1;
    return (a->place > b->place) - (a->place < b->place);
}

/* The first k of each line along the axis, in order. */
static bool sort_lines(reference_call *c, int64_t k, bool descending)
{
    const operand *x = &c->in[0];
    int64_t axis = reference_int(c, "axis", -1), step = 1, shape[TSR_MAX_RANK];
    axis += axis < 0 ? x->rank : 0;
    const int64_t n = x->rank == 0 ? 1 : x->shape[axis];
    for (int d = 0; d < x->rank; d++) {
        shape[d] = d == axis ? k : x->shape[d];
        step *= d > axis ? x->shape[d] : 1;
    }
    term *values = reference_result(c, 0, c->dtype, x->rank, shape),
         *places = reference_result(c, 1, TSR_I64, x->rank, shape);
    sorted *line = host_realloc_array(NULL, (size_t)n + 1, sizeof *line);
    const bool ok = values != NULL && places != NULL && line != NULL;
    for (int64_t l = 0; ok && n > 0 && l < x->count / n; l++) {
        const term *from = x->at + l / step * step * n + l % step;
        for (int64_t i = 0; i < n; i++)
            line[i] = (sorted){trace_value(c->t, from[i * step]), i, descending};
        qsort(line, (size_t)n, sizeof *line, by_key);
        for (int64_t i = 0; i < k; i++) {
            const int64_t to = (l / step * k + i) * step + l % step;
            values[to] = trace_pick(c->t, from[line[i].place * step]);
            places[to] = trace_number(c->t, (double)line[i].place);
        }
    }
    host_free(line);
    return ok;
}

static bool sort(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t axis = reference_int(c, "axis", -1);
    return sort_lines(c, x->rank == 0 ? 1 : x->shape[axis < 0 ? axis + x->rank : axis],
                      reference_int(c, "descending", 0) != 0);
}

static bool topk(reference_call *c)
{
    return sort_lines(c, reference_int(c, "k", 1), reference_int(c, "largest", 1) != 0);
}

static bool one_hot(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t classes = reference_int(c, "classes", 1);
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d < x->rank; d++)
        shape[d] = x->shape[d];
    shape[x->rank] = classes;
    term *out = reference_result(c, 0, TSR_I64, x->rank + 1, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = trace_number(c->t, trace_value(c->t, x->at[i / classes]) == (double)(i % classes));
    return out != NULL;
}

/* ---- samples ---- */

#define RAMP(...)   .in = {{DIMS(__VA_ARGS__), .values = VALUES_RAMP}}
#define TIES(...)   .in = {{DIMS(__VA_ARGS__), .values = VALUES_INTEGERS}}
#define ORDER(a, d) .attrs = {WITH_INT("axis", a), WITH_BOOL("descending", d)}
static const op_sample sort_samples[] = {
    {"odd", RAMP(5, 7)},
    {"descending", RAMP(5, 7), ORDER(-1, 1)},
    {"first axis", RAMP(9, 5), ORDER(0, 0)},
    {"middle axis", RAMP(3, 11, 4), ORDER(1, 1)},
    {"ties", TIES(5, 33), ORDER(1, 0), .exact = true},
    {"ties, descending", TIES(5, 33), ORDER(1, 1), .exact = true},
    {"all equal", .in = {{DIMS(3, 67), .low = 2, .high = 2.0000000001}}, .only_forward = true},
    {"one column", RAMP(4, 1)},
    {"one element", RAMP(1)},
    {"scalar", .in = {{.rank = 0}}},
    {"no rows", RAMP(0, 4)},
    {"no columns", RAMP(3, 0)},
    {"extreme values", .in = {{DIMS(9, 43), .values = VALUES_EXTREMES}}, .only_forward = true},
    {"long", RAMP(2, 8197)},
    {"past 2^16", RAMP(65539), ORDER(0, 1)},
    {"many rows", RAMP(9377, 7)},
};

#define FIRST(k_, a, l) .attrs = {WITH_INT("k", k_), WITH_INT("axis", a), WITH_BOOL("largest", l)}
static const op_sample topk_samples[] = {
    {"odd", RAMP(5, 7), FIRST(3, -1, 1)},
    {"smallest", RAMP(5, 7), FIRST(3, -1, 0)},
    {"first axis", RAMP(9, 5), FIRST(4, 0, 1)},
    {"middle axis", RAMP(3, 11, 4), FIRST(2, 1, 0)},
    {"ties", TIES(5, 33), FIRST(5, 1, 1), .exact = true},
    {"all", RAMP(4, 6), FIRST(6, 1, 1)},
    {"none", RAMP(4, 6), FIRST(0, 1, 1)},
    {"one element", RAMP(1), FIRST(1, 0, 1)},
    {"scalar", .in = {{.rank = 0}}, FIRST(1, -1, 1)},
    {"empty", RAMP(0, 4), FIRST(2, 1, 1)},
    {"extreme values", .in = {{DIMS(9, 43), .values = VALUES_EXTREMES}}, FIRST(17, 1, 0), .only_forward = true},
    {"past 2^16", RAMP(65539), FIRST(5, 0, 1)},
};

/* Some of -3 … 3 are no class. */
#define CLASSES(n) .attrs = {WITH_INT("classes", n)}
static const op_sample one_hot_samples[] = {
    {"odd", TIES(5, 7), CLASSES(4)},
    {"row", TIES(9), CLASSES(3)},
    {"three axes", TIES(2, 3, 5), CLASSES(5)},
    {"one class", TIES(6), CLASSES(1)},
    {"scalar", .in = {{.rank = 0}}, CLASSES(4)},
    {"one element", TIES(1), CLASSES(4)},
    {"empty", TIES(0, 3), CLASSES(4)},
    {"many classes", TIES(3), CLASSES(30011)},
    {"past 2^16", TIES(65539), CLASSES(3)},
};

static const operator_row list[] = {
    {.name = "sort",
     .family = "sorting",
     .dtypes = FLOATS | INTEGERS,
     .arity = 1,
     .results = 2,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = sort,
     SAMPLES(sort_samples)},
    {.name = "topk",
     .family = "sorting",
     .dtypes = FLOATS | INTEGERS,
     .arity = 1,
     .results = 2,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = topk,
     SAMPLES(topk_samples)},
    {.name = "one_hot",
     .family = "sorting",
     .dtypes = INTEGERS,
     .arity = 1,
     .results = 1,
     .reference = one_hot,
     SAMPLES(one_hot_samples)},
};
const row_list sorting_rows = {list, COUNT_OF(list)};
