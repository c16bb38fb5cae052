/* Products, truths, moments and norms over any axes, and running sums and products along one. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "reductions.h"

/* ---- products ----
 *
 * In any order a product of n takes n - 1 roundings. The derivative is the product of the others, which may also be had as the whole product
 * divided by the element: two roundings more. */

static term with_slack(trace *t, term a, double slack)
{
    const double one = 1;
    return trace_function(t, trace_value(t, a), 0, 1, &a, &one, &one, slack);
}

static term product_of(reference_call *c, const term *x, int64_t count)
{
    if (count == 0)
        return trace_number(c->t, 1);
    term y = trace_pick(c->t, x[0]);
    for (int64_t i = 1; i < count; i++)
        y = trace_mul(c->t, y, x[i]);
    return with_slack(c->t, y, 2);
}

static bool prod(reference_call *c)
{
    return reduction_reference(c, c->dtype, product_of);
}

/* ---- truths ---- */

static int64_t true_ones(const reference_call *c, const term *x, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        n += trace_value(c->t, x[i]) != 0; /* a NaN is true */
    return n;
}

static term any_of(reference_call *c, const term *x, int64_t count)
{
    return trace_number(c->t, true_ones(c, x, count) > 0);
}

static term all_of(reference_call *c, const term *x, int64_t count)
{
    return trace_number(c->t, true_ones(c, x, count) == count);
}

static bool any(reference_call *c)
{
    return reduction_reference(c, TSR_BOOL, any_of);
}

static bool all(reference_call *c)
{
    return reduction_reference(c, TSR_BOOL, all_of);
}

/* ---- moments: sum (x - mean)² / max(0, n - correction) ---- */

static term variance_of(reference_call *c, const term *x, int64_t count)
{
    trace *t = c->t;
    const double divisor = fmax(0, (double)count - reference_float(c, "correction", 1));
    term *d = host_realloc_array(NULL, (size_t)count + 1, sizeof *d);
    const term mean = trace_scale(t, reduced_sum(c, x, count), 1 / (double)count);
    c->failed = c->failed || d == NULL;
    for (int64_t i = 0; d != NULL && i < count; i++)
        d[i] = trace_sub(t, x[i], mean);
    trace_sum_begin(t);
    for (int64_t i = 0; d != NULL && i < count; i++)
        trace_sum_product(t, d[i], d[i]);
    const term squares = trace_sum_end(t);
    host_free(d);
    /* What the mean's rounding adds to it may be taken off: that is of second order, but rounds once more. */
    return trace_div(t, trace_add(t, squares, trace_number(t, 0)), trace_number(t, divisor));
}

static term deviation_of(reference_call *c, const term *x, int64_t count)
{
    return trace_sqrt(c->t, variance_of(c, x, count));
}

static bool var(reference_call *c)
{
    return reduction_reference(c, c->dtype, variance_of);
}

static bool deviation(reference_call *c)
{
    return reduction_reference(c, c->dtype, deviation_of);
}

/* ---- norms ---- */

static term size_of(trace *t, term x)
{
    const double v = trace_value(t, x), d = (v > 0) - (v < 0), one = 1;
    return trace_function(t, fabs(v), 0, 1, &x, &d, &one, 0);
}

static term norm_of(reference_call *c, const term *x, int64_t count)
{
    const double p = reference_float(c, "p", 2);
    term *sizes = host_realloc_array(NULL, (size_t)count + 1, sizeof *sizes), y = 0;
    c->failed = c->failed || sizes == NULL;
    for (int64_t i = 0; sizes != NULL && p != 2 && i < count; i++)
        sizes[i] = size_of(c->t, x[i]);
    if (sizes != NULL && p == 1) {
        y = reduced_sum(c, sizes, count);
    } else if (sizes != NULL && p == 2) {
        trace_sum_begin(c->t);
        for (int64_t i = 0; i < count; i++)
            trace_sum_product(c->t, x[i], x[i]);
        y = trace_sqrt(c->t, trace_sum_end(c->t));
    } else if (sizes != NULL) {
        y = shared_extreme(c, sizes, count, first_largest(c, sizes, count));
    }
    host_free(sizes);
    return y;
}

static bool norm(reference_call *c)
{
    return reduction_reference(c, c->dtype, norm_of);
}

/* ---- log sum exp, by the maximum ---- */

static term logsumexp_of(reference_call *c, const term *x, int64_t count)
{
    trace *t = c->t;
    const double top = count == 0 ? 0 : trace_value(t, x[first_largest(c, x, count)]);
    const term shift = trace_number(t, isinf(top) ? 0 : top);
    term *e = host_realloc_array(NULL, (size_t)count + 1, sizeof *e);
    c->failed = c->failed || e == NULL;
    for (int64_t i = 0; e != NULL && i < count; i++)
        e[i] = trace_exp(t, trace_sub(t, x[i], shift));
    const term sum = e == NULL ? shift : reduced_sum(c, e, count);
    host_free(e);
    return trace_add(t, shift, trace_log(t, sum));
}

static bool logsumexp(reference_call *c)
{
    return reduction_reference(c, c->dtype, logsumexp_of);
}

/* ---- running ---- */

enum { RUN = 32, EACH_BY_ITSELF = 2048 };

/* The first `count` of a row. Its declared depth: a run of neighbours, and the runs before it (tessera/ops.h). */
static term partial_sum(trace *t, const term *x, int64_t count)
{
    trace_sum_begin(t);
    for (int64_t i = 0; i < count; i++)
        trace_sum_add(t, x[i]);
    return trace_sum_end_deep(t, fmin((double)count - 1, (double)count / RUN + RUN));
}

typedef void scan_of(trace *t, const term *x, int64_t count, term *y);

static void running_sums(trace *t, const term *x, int64_t count, term *y)
{
    /* Longer ones are of integers, whose sums are exact in any order. */
    for (int64_t i = 0; i < count; i++)
        y[i] = i == 0                   ? trace_pick(t, x[0])
               : count > EACH_BY_ITSELF ? trace_add(t, y[i - 1], x[i])
                                        : partial_sum(t, x, i + 1);
}

static void running_products(trace *t, const term *x, int64_t count, term *y)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = i == 0 ? trace_pick(t, x[0]) : trace_mul(t, y[i - 1], x[i]);
}

static bool scan(reference_call *c, scan_of *one)
{
    const operand *x = &c->in[0];
    int64_t axis = reference_int(c, "axis", 0), step = 1;
    axis += axis < 0 ? x->rank : 0;
    const int64_t n = x->rank == 0 ? 1 : x->shape[axis];
    for (int d = (int)axis + 1; d < x->rank; d++)
        step *= x->shape[d];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape),
         *row = host_realloc_array(NULL, (size_t)(2 * n) + 1, sizeof *row);
    const bool ok = out != NULL && row != NULL;
    for (int64_t r = 0; ok && n > 0 && r < x->count / n; r++) {
        const int64_t first = r / step * step * n + r % step;
        for (int64_t i = 0; i < n; i++)
            row[i] = x->at[first + i * step];
        one(c->t, row, n, row + n);
        for (int64_t i = 0; i < n; i++)
            out[first + i * step] = row[n + i];
    }
    host_free(row);
    return ok;
}

static bool cumsum(reference_call *c)
{
    return scan(c, running_sums);
}

static bool cumprod(reference_call *c)
{
    return scan(c, running_products);
}

/* ---- samples ---- */

static const op_sample prod_samples[] = {
    {"last axis", .in = {{DIMS(5, 7)}}, .attrs = {AXIS(-1)}},
    {"first axis", .in = {{DIMS(9, 5)}}, .attrs = {AXIS(0)}},
    {"middle axis", .in = {{DIMS(3, 5, 7)}}, .attrs = {AXIS(1), WITH_BOOL("keep", 1)}},
    {"two axes apart", .in = {{DIMS(3, 4, 5), .low = 0.5, .high = 2}}, .attrs = {AXES(0, 2)}},
    {"all", .in = {{DIMS(7, 11), .low = 0.5, .high = 1.5}}},
    {"one element", .in = {{DIMS(1, 1)}}, .attrs = {AXIS(0)}},
    {"scalar", .in = {{.rank = 0}}},
    {"no rows", .in = {{DIMS(0, 4)}}, .attrs = {AXIS(1)}},
    {"no terms", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
    {"small integers", .in = {{DIMS(13, 9), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1)}, .exact = true},
    {"one zero", .in = {{DIMS(7, 5), .values = VALUES_RAMP}}},
    {"zeros", .in = {{DIMS(7, 5), .values = VALUES_SPARSE}}, .attrs = {AXIS(1)}},
    {"long row", .in = {{DIMS(2, 8195), .values = VALUES_SIGNS}}, .attrs = {AXIS(1)}, .exact = true},
    {"long column", .in = {{DIMS(4099, 3), .values = VALUES_SIGNS}}, .attrs = {AXIS(0)}, .exact = true},
    {"past 2^16", .in = {{DIMS(65539), .values = VALUES_SIGNS}}, .exact = true},
    {"many rows", .in = {{DIMS(13111, 5)}}, .attrs = {AXIS(1)}},
};

static const op_sample any_samples[] = {
    REDUCTIONS(VALUES_SPARSE),
    {"small integers", .in = {{DIMS(13, 3), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1)}},
    {"none", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
};
static const op_sample all_samples[] = {
    REDUCTIONS(VALUES_RAMP), /* one zero among them */
    {"small integers", .in = {{DIMS(13, 3), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1)}},
    {"none", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
};

static const op_sample var_samples[] = {
    REDUCTIONS(VALUES_REALS),
    {"biased", .in = {{DIMS(6, 9)}}, .attrs = {AXIS(1), WITH_FLOAT("correction", 0)}},
    {"half a correction", .in = {{DIMS(6, 9)}}, .attrs = {AXIS(0), WITH_FLOAT("correction", 0.5)}},
    {"far from zero", .in = {{DIMS(5, 33), .low = 30, .high = 32}}, .attrs = {AXIS(1)}},
    {"near", .in = {{DIMS(5, 33), .low = 2, .high = 2.01}}, .attrs = {AXIS(1)}},
    {"corrected to nothing", .in = {{DIMS(4, 3)}}, .attrs = {AXIS(1), WITH_FLOAT("correction", 5)},
     .only_forward = true},
    {"no terms", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
};

#define NORM(p_) WITH_FLOAT("p", p_)
static const op_sample norm_samples[] = {
    REDUCTIONS(VALUES_REALS),
    {"sum of sizes", .in = {{DIMS(5, 33)}}, .attrs = {AXIS(1), NORM(1)}},
    {"sum of sizes, first axis", .in = {{DIMS(67, 5)}}, .attrs = {AXIS(0), NORM(1)}},
    {"integers, sum of sizes", .in = {{DIMS(5, 129), .values = VALUES_INTEGERS}}, .attrs = {AXIS(1), NORM(1)},
     .exact = true},
    {"largest", .in = {{DIMS(5, 33), .values = VALUES_RAMP}}, .attrs = {AXIS(1), NORM((double)INFINITY)}},
    {"largest, first axis", .in = {{DIMS(67, 5)}}, .attrs = {AXIS(0), NORM((double)INFINITY)}},
    {"integers, largest", .in = {{DIMS(5, 9), .values = VALUES_INTEGERS}},
     .attrs = {AXIS(1), NORM((double)INFINITY), WITH_BOOL("keep", 1)}, .exact = true, .only_forward = true},
    {"zeros", .in = {{DIMS(9, 7), .values = VALUES_SPARSE}}, .attrs = {AXIS(1), NORM(1)}},
    {"no terms", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
};

static const op_sample logsumexp_samples[] = {
    REDUCTIONS(VALUES_REALS),
    {"wide", .in = {{DIMS(5, 33), .low = -8, .high = 8}}, .attrs = {AXIS(1)}},
    {"far apart", .in = {{DIMS(6, 33), .low = -1e4, .high = 1e4}}, .attrs = {AXIS(1)}},
    {"no terms", .in = {{DIMS(3, 0)}}, .attrs = {AXIS(1)}},
};

#define ALONG(a) .attrs = {WITH_INT("axis", a)}
#define SCANS                                                                                                          \
    {"odd", .in = {{DIMS(5, 7)}}, ALONG(1)}, {"first axis", .in = {{DIMS(67, 5)}}, ALONG(0)},                          \
        {"middle axis", .in = {{DIMS(3, 35, 4)}}, ALONG(-2)}, {"one element", .in = {{DIMS(1, 1)}}, ALONG(0)},         \
        {"one column", .in = {{DIMS(7, 1)}}, ALONG(1)}, {"no rows", .in = {{DIMS(0, 4)}}, ALONG(1)},                   \
        {"no terms", .in = {{DIMS(3, 0)}}, ALONG(1)}, {"past a run", .in = {{DIMS(2, 257)}}, ALONG(1)},                \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(13111, 5)}}, ALONG(1)                                                                \
    }
static const op_sample cumsum_samples[] = {
    SCANS,
    {"scalar", .in = {{.rank = 0}}, ALONG(0)},
    {"past a block", .in = {{DIMS(2047)}}, ALONG(0), .only_forward = true},
    {"small integers", .in = {{DIMS(9, 100), .values = VALUES_INTEGERS}}, ALONG(1), .exact = true},
    {"long integers", .in = {{DIMS(65539), .values = VALUES_INTEGERS}}, ALONG(0), .exact = true},
    {"long columns of integers", .in = {{DIMS(4099, 3), .values = VALUES_INTEGERS}}, ALONG(0), .exact = true},
};
static const op_sample cumprod_samples[] = {
    SCANS,
    {"scalar", .in = {{.rank = 0}}, ALONG(0)},
    {"near one", .in = {{DIMS(3, 129), .low = 0.9, .high = 1.1}}, ALONG(1)},
    {"one zero", .in = {{DIMS(2, 9), .values = VALUES_RAMP}}, ALONG(1)},
    {"small integers", .in = {{DIMS(9, 6), .values = VALUES_INTEGERS}}, ALONG(1), .exact = true},
    {"long signs", .in = {{DIMS(2, 4099), .values = VALUES_SIGNS}}, ALONG(1), .exact = true},
};

#define STATISTIC(operator_name, function, takes, list_of, ...)                                                        \
    {                                                                                                                  \
        .name = operator_name, .family = "reductions", .dtypes = takes, .arity = 1, .results = 1, .specials = true,    \
        .reference = function, SAMPLES(list_of), __VA_ARGS__                                                           \
    }
#define SCALES(by) .huge = by, .tiny = 1 / (by)
static const operator_row list[] = {
    /* the derivative divides the whole product, which stays a normal number */
    STATISTIC("prod", prod, FLOATS | INTEGERS, prod_samples, .differentiable = true, SCALES(0x1p14)),
    STATISTIC("any", any, FLOATS | INTEGERS | BYTES, any_samples, SCALES(0x1p120)),
    STATISTIC("all", all, FLOATS | INTEGERS | BYTES, all_samples, SCALES(0x1p120)),
    STATISTIC("var", var, FLOATS, var_samples, .differentiable = true, SCALES(0x1p58)),
    STATISTIC("std", deviation, FLOATS, var_samples, .differentiable = true, SCALES(0x1p58)),
    STATISTIC("norm", norm, FLOATS, norm_samples, .differentiable = true, SCALES(0x1p58)),
    STATISTIC("logsumexp", logsumexp, FLOATS, logsumexp_samples, .differentiable = true, SCALES(0x1p120)),
    STATISTIC("cumsum", cumsum, FLOATS | INTEGERS, cumsum_samples, .differentiable = true, SCALES(0x1p120)),
    STATISTIC("cumprod", cumprod, FLOATS | INTEGERS, cumprod_samples, .differentiable = true, SCALES(0x1p17)),
};
const row_list statistics_rows = {list, COUNT_OF(list)};
