/* sum, mean, max and argmax over any axes. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "reductions.h"

/* The axes that go, as bits; all where none is named. */
static unsigned axes_of(const reference_call *c)
{
    const tsr_attr *a = reference_attr(c, "axes");
    const int rank = c->in[0].rank;
    unsigned mask = a == NULL || a->count == 0 ? (1u << rank) - 1 : 0;
    for (int i = 0; a != NULL && i < a->count; i++)
        mask |= 1u << (a->values[i] < 0 ? a->values[i] + rank : a->values[i]);
    return mask;
}

bool reduction_reference(reference_call *c, tsr_dtype dtype, reduce_of *one)
{
    const operand *x = &c->in[0];
    const unsigned mask = axes_of(c);
    const bool keep = reference_int(c, "keep", 0) != 0;
    int64_t shape[TSR_MAX_RANK], outer[TSR_MAX_RANK], inner[TSR_MAX_RANK], at[TSR_MAX_RANK] = {0};
    int rank = 0;
    for (int d = 0; d < x->rank; d++) {
        const bool goes = (mask >> d & 1) != 0;
        outer[d] = goes ? 1 : x->shape[d];
        inner[d] = goes ? x->shape[d] : 1;
        if (!goes || keep)
            shape[rank++] = outer[d];
    }
    const int64_t count = shape_product(x->rank, inner);
    term *out = reference_result(c, 0, dtype, rank, shape),
         *group = host_realloc_array(NULL, (size_t)count + 1, sizeof *group);
    bool ok = out != NULL && group != NULL;
    if (ok && c->out[0].count > 0)
        do {
            int64_t index[TSR_MAX_RANK] = {0}, n = 0;
            if (count > 0)
                do {
                    int64_t place = 0;
                    for (int d = 0; d < x->rank; d++)
                        place = place * x->shape[d] + at[d] + index[d];
                    group[n++] = x->at[place];
                } while (index_next(x->rank, inner, index));
            *out++ = one(c, group, count);
        } while (index_next(x->rank, outer, at));
    host_free(group);
    return ok;
}

term reduced_sum(reference_call *c, const term *x, int64_t count)
{
    trace_sum_begin(c->t);
    for (int64_t i = 0; i < count; i++)
        trace_sum_add(c->t, x[i]);
    return trace_sum_end(c->t);
}

static term mean_of(reference_call *c, const term *x, int64_t count)
{
    const term sum = reduced_sum(c, x, count);
    return count == 0 ? trace_number(c->t, (double)NAN) : trace_div(c->t, sum, trace_number(c->t, (double)count));
}

int64_t first_largest(const reference_call *c, const term *x, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++) {
        const double v = trace_value(c->t, x[i]), top = trace_value(c->t, x[best]);
        if (v > top || (isnan(v) && !isnan(top)))
            best = i;
    }
    return best;
}

term shared_extreme(reference_call *c, const term *x, int64_t count, int64_t best)
{
    const double value = trace_value(c->t, x[best]);
    int64_t n = 0;
    term *equal = host_realloc_array(NULL, (size_t)count, sizeof *equal);
    for (int64_t i = 0; equal != NULL && i < count; i++)
        if (trace_value(c->t, x[i]) == value)
            equal[n++] = x[i];
    const term one = n > 0 ? trace_share(c->t, equal, n) : trace_number(c->t, value);
    c->failed = c->failed || equal == NULL;
    host_free(equal);
    return one;
}

static term max_of(reference_call *c, const term *x, int64_t count)
{
    return shared_extreme(c, x, count, first_largest(c, x, count));
}

static term argmax_of(reference_call *c, const term *x, int64_t count)
{
    return trace_number(c->t, (double)first_largest(c, x, count));
}

static int64_t first_smallest(const reference_call *c, const term *x, int64_t count)
{
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++) {
        const double v = trace_value(c->t, x[i]), low = trace_value(c->t, x[best]);
        if (v < low || (isnan(v) && !isnan(low)))
            best = i;
    }
    return best;
}

static term min_of(reference_call *c, const term *x, int64_t count)
{
    return shared_extreme(c, x, count, first_smallest(c, x, count));
}

static term argmin_of(reference_call *c, const term *x, int64_t count)
{
    return trace_number(c->t, (double)first_smallest(c, x, count));
}

static term count_of(reference_call *c, const term *x, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        n += trace_value(c->t, x[i]) != 0;
    return trace_number(c->t, (double)n);
}

static bool min(reference_call *c)
{
    return reduction_reference(c, c->dtype, min_of);
}

static bool argmin(reference_call *c)
{
    return reduction_reference(c, TSR_I64, argmin_of);
}

static bool count_nonzero(reference_call *c)
{
    return reduction_reference(c, TSR_I64, count_of);
}

static bool sum(reference_call *c)
{
    return reduction_reference(c, c->dtype, reduced_sum);
}

static bool mean(reference_call *c)
{
    return reduction_reference(c, c->dtype, mean_of);
}

static bool max(reference_call *c)
{
    return reduction_reference(c, c->dtype, max_of);
}

static bool argmax(reference_call *c)
{
    return reduction_reference(c, TSR_I64, argmax_of);
}

#define INTEGER_SAMPLES                                                                                                \
    {"small integers", .in = {{DIMS(13, 17), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1)}, .exact = true},          \
        {"integers, first axis", .in = {{DIMS(129, 7), .values = VALUES_INTEGERS}}, .attrs = {AXIS(0)},                \
         .exact = true},                                                                                               \
    {                                                                                                                  \
        "long integers", .in = {{DIMS(65539), .values = VALUES_INTEGERS}}, .exact = true                               \
    }

static const op_sample sum_samples[] = {
    REDUCTIONS(VALUES_REALS), INTEGER_SAMPLES, {"no terms", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}}};
static const op_sample mean_samples[] = {
    REDUCTIONS(VALUES_REALS),
    {"small integers", .in = {{DIMS(13, 16), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1)}, .exact = true},
};
static const op_sample max_samples[] = {REDUCTIONS(VALUES_RAMP), INTEGER_SAMPLES};

static const operator_row list[] = {
    {.name = "sum",
     .family = "reductions",
     .dtypes = FLOATS | INTEGERS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = sum,
     SAMPLES(sum_samples)},
    {.name = "mean",
     .family = "reductions",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = mean,
     SAMPLES(mean_samples)},
#define EXTREME(operator_name, function, takes, ...)                                                                   \
    {                                                                                                                  \
        .name = operator_name, .family = "reductions", .dtypes = takes, .arity = 1, .results = 1, .huge = 0x1p120,     \
        .tiny = 0x1p-120, .specials = true, .reference = function, SAMPLES(max_samples), __VA_ARGS__                   \
    }
    EXTREME("max", max, FLOATS | INTEGERS, .differentiable = true),
    EXTREME("min", min, FLOATS | INTEGERS, .differentiable = true),
    EXTREME("amax", max, FLOATS | INTEGERS, .differentiable = true),
    EXTREME("amin", min, FLOATS | INTEGERS, .differentiable = true),
    EXTREME("argmax", argmax, FLOATS | INTEGERS, .differentiable = false),
    EXTREME("argmin", argmin, FLOATS | INTEGERS, .differentiable = false),
    EXTREME("count_nonzero", count_nonzero, FLOATS | INTEGERS | BYTES, .differentiable = false),
};
const row_list reductions_rows = {list, COUNT_OF(list)};
