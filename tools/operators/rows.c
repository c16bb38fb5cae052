/* softmax, log_softmax, batch_norm2d and dropout, each from the formula that defines it. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "base/philox.h"
#include "operators.h"

/* ---- softmax ---- */

term *shifted_exponentials(reference_call *c, const term *x, int64_t count, int64_t step, term *sum)
{
    trace *t = c->t;
    term *e = host_realloc_array(NULL, (size_t)(2 * count), sizeof *e);
    double top = -(double)INFINITY;
    for (int64_t i = 0; i < count; i++)
        top =
            isnan(trace_value(t, x[i * step])) || trace_value(t, x[i * step]) > top ? trace_value(t, x[i * step]) : top;
    const term shift = trace_number(t, top);
    for (int64_t i = 0; e != NULL && i < count; i++) {
        e[i] = trace_sub(t, x[i * step], shift);
        e[count + i] = trace_exp(t, e[i]);
    }
    c->failed = c->failed || e == NULL;
    trace_sum_begin(t);
    for (int64_t i = 0; e != NULL && i < count; i++)
        trace_sum_add(t, e[count + i]);
    *sum = trace_sum_end(t);
    return e;
}

static bool softmax_rows(reference_call *c, bool logarithm)
{
    const operand *x = &c->in[0];
    int64_t axis = reference_int(c, "axis", -1), step = 1;
    axis += axis < 0 ? x->rank : 0;
    const int64_t n = x->rank == 0 ? 1 : x->shape[axis];
    for (int d = (int)axis + 1; d < x->rank; d++)
        step *= x->shape[d];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t row = 0; out != NULL && row < (n == 0 ? 0 : x->count / n); row++) {
        const int64_t first = row / step * step * n + row % step;
        term sum, *e = shifted_exponentials(c, x->at + first, n, step, &sum);
        const term log_sum = logarithm && e != NULL ? trace_log(c->t, sum) : 0;
        for (int64_t i = 0; e != NULL && i < n; i++)
            out[first + i * step] = logarithm ? trace_sub(c->t, e[i], log_sum) : trace_div(c->t, e[n + i], sum);
        host_free(e);
    }
    return out != NULL && !c->failed;
}

static bool softmax(reference_call *c)
{
    return softmax_rows(c, false);
}

static bool log_softmax(reference_call *c)
{
    return softmax_rows(c, true);
}

#define WIDE_REALS .low = -8, .high = 8
static const op_sample softmax_samples[] = {
    {"odd", .in = {{DIMS(5, 7), WIDE_REALS}}},
    {"first axis", .in = {{DIMS(9, 5), WIDE_REALS}}, .attrs = {WITH_INT("axis", 0)}},
    {"middle axis", .in = {{DIMS(3, 5, 7), WIDE_REALS}}, .attrs = {WITH_INT("axis", 1)}},
    {"one column", .in = {{DIMS(4, 1)}}},
    {"one element", .in = {{DIMS(1, 1, 1)}}, .attrs = {WITH_INT("axis", 2)}},
    {"no rows", .in = {{DIMS(0, 4)}}},
    {"no columns", .in = {{DIMS(3, 0)}}},
    {"equal", .in = {{DIMS(3, 16), .low = 2, .high = 2.0001}}},
    {"far apart", .in = {{DIMS(6, 33), .low = -1e4, .high = 1e4}}},
    {"past a block", .in = {{DIMS(3, 1031), WIDE_REALS}}},
    {"long", .in = {{DIMS(1, 65539), WIDE_REALS}}},
    {"many rows", .in = {{DIMS(9377, 7), WIDE_REALS}}},
};

/* ---- batch_norm2d ---- */

/* Channel k's elements as terms. */
static int64_t channel(const operand *x, int64_t k, term *to, int64_t *places)
{
    const int64_t plane = x->count == 0 ? 0 : x->count / (x->shape[0] * x->shape[1]);
    int64_t n = 0;
    for (int64_t b = 0; b < x->shape[0]; b++)
        for (int64_t i = 0; i < plane; i++, n++) {
            places[n] = (b * x->shape[1] + k) * plane + i;
            to[n] = x->at[places[n]];
        }
    return n;
}

static term mean_of(trace *t, const term *x, int64_t n)
{
    trace_sum_begin(t);
    for (int64_t i = 0; i < n; i++)
        trace_sum_add(t, x[i]);
    const term sum = trace_sum_end(t);
    return trace_div(t, sum, trace_number(t, (double)n));
}

/* (x - mean) / sqrt(variance + epsilon) weight + bias of one channel; x becomes x - mean. */
static void normalise(reference_call *c, int64_t k, term *x, int64_t n, const int64_t *places, term *out)
{
    trace *t = c->t;
    const bool training = reference_int(c, "training", 1) != 0;
    const term *weight = c->in[1].at, *bias = c->in[2].at;
    const term mean = training ? mean_of(t, x, n) : c->in[3].at[k];
    for (int64_t i = 0; i < n; i++)
        x[i] = trace_sub(t, x[i], mean);
    term variance = training ? 0 : c->in[4].at[k];
    if (training) {
        trace_sum_begin(t);
        for (int64_t i = 0; i < n; i++)
            trace_sum_product(t, x[i], x[i]);
        const term squares = trace_sum_end(t);
        variance = trace_div(t, squares, trace_number(t, (double)n));
    }
    const term deviation = trace_sqrt(t, trace_add(t, variance, trace_number(t, reference_float(c, "epsilon", 1e-5))));
    for (int64_t i = 0; i < n; i++) {
        term y = trace_div(t, x[i], deviation);
        if (weight != NULL)
            y = trace_mul(t, y, weight[k]);
        out[places[i]] = bias != NULL ? trace_add(t, y, bias[k]) : y;
    }
}

static bool batch_norm2d(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t channels = x->shape[1], n = channels == 0 ? 0 : x->count / channels;
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape),
         *own = host_realloc_array(NULL, (size_t)n + 1, sizeof *own);
    int64_t *places = host_realloc_array(NULL, (size_t)n + 1, sizeof *places);
    const bool ok = out != NULL && own != NULL && places != NULL;
    for (int64_t k = 0; k < channels && ok; k++)
        normalise(c, k, own, channel(x, k, own, places), places, out);
    host_free(own);
    host_free(places);
    return ok;
}

#define CHANNEL(n)                                                                                                     \
    {                                                                                                                  \
        DIMS(n), .wide = true                                                                                          \
    }
#define POSITIVE(n)                                                                                                    \
    {                                                                                                                  \
        DIMS(n), .low = 0.5, .high = 2, .wide = true                                                                   \
    }
#define NORM(c, ...)         .in = {{__VA_ARGS__}, POSITIVE(c), CHANNEL(c), {.absent = true}, {.absent = true}}
#define NORM_BARE(...)       .in = {{__VA_ARGS__}, {.absent = true}, {.absent = true}, {.absent = true}, {.absent = true}}
#define NORM_RUNNING(c, ...) .in = {{__VA_ARGS__}, POSITIVE(c), CHANNEL(c), CHANNEL(c), POSITIVE(c)}
static const op_sample batch_norm2d_samples[] = {
    {"odd", NORM(3, DIMS(4, 3, 5, 7))},
    {"rows", NORM(5, DIMS(7, 5))},
    {"without weight", NORM_BARE(DIMS(3, 2, 3, 5))},
    {"evaluation", NORM_RUNNING(3, DIMS(2, 3, 4, 5)), .attrs = {WITH_BOOL("training", 0)}},
    {"evaluation of rows", NORM_RUNNING(4, DIMS(9, 4)),
     .attrs = {WITH_BOOL("training", 0), WITH_FLOAT("epsilon", 0.01)}},
    {"running", NORM_RUNNING(3, DIMS(2, 3, 5, 5)), .attrs = {WITH_FLOAT("momentum", 0.3)}},
    {"one element", NORM_RUNNING(1, DIMS(1, 1)), .attrs = {WITH_BOOL("training", 0)}},
    {"one channel", NORM(1, DIMS(1, 1, 1, 9))},
    {"far from zero", NORM(2, DIMS(3, 2, 4, 5), .low = 30, .high = 32)},
    {"empty", NORM_RUNNING(3, DIMS(0, 3, 2, 2)), .attrs = {WITH_BOOL("training", 0)}},
    {"many planes", NORM(67, DIMS(3, 67, 3, 3))},
    {"past 2^16", NORM(3, DIMS(2, 3, 105, 107))},
};

/* ---- dropout: Philox 4x32-10, element i takes word i mod 4 of counter (i / 4, 0, draw), key = seed (docs/determinism.md) ---- */

enum { DROPOUT_SEED = 0 };

static bool dropout(reference_call *c)
{
    const operand *x = &c->in[0];
    const double p = reference_float(c, "p", 0);
    const int64_t draw = reference_int(c, "draw", 0);
    const bool training = reference_int(c, "training", 1) != 0 && p > 0;
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++) {
        const uint32_t counter[] = {(uint32_t)(i / 4), 0, (uint32_t)draw, (uint32_t)((uint64_t)draw >> 32)};
        uint32_t words[4];
        philox_block(counter, (const uint32_t[]){DROPOUT_SEED, 0}, words);
        const bool kept = (double)words[i % 4] >= p * 0x1p32;
        out[i] = !training ? trace_pick(c->t, x->at[i])
                 : kept    ? trace_scale(c->t, x->at[i], 1 / (1 - p))
                           : trace_number(c->t, 0);
    }
    return out != NULL;
}

#define DROP(p, draw) .attrs = {WITH_FLOAT("p", p), WITH_INT("draw", draw)}
static const op_sample dropout_samples[] = {
    {"odd", .in = {{DIMS(5, 7)}}, DROP(0.5, 0)},
    {"rare", .in = {{DIMS(13, 17)}}, DROP(0.1, 3)},
    {"almost all", .in = {{DIMS(31, 9)}}, DROP(0.97, 1)},
    {"none", .in = {{DIMS(4, 5)}}, DROP(0, 2)},
    {"evaluation", .in = {{DIMS(4, 5)}},
     .attrs = {WITH_FLOAT("p", 0.5), WITH_INT("draw", 7), WITH_BOOL("training", 0)}},
    {"a late draw", .in = {{DIMS(9)}}, DROP(0.3, 0x123456789)},
    {"one element", .in = {{DIMS(1)}}, DROP(0.5, 4)},
    {"empty", .in = {{DIMS(0, 3)}}, DROP(0.5, 5)},
    {"past 2^16", .in = {{DIMS(65539)}}, DROP(0.5, 6)},
};

static const operator_row list[] = {
    {.name = "softmax",
     .family = "softmax and losses",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = softmax,
     SAMPLES(softmax_samples)},
    {.name = "log_softmax",
     .family = "softmax and losses",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = log_softmax,
     SAMPLES(softmax_samples)},
    {.name = "batch_norm2d",
     .family = "normalisation",
     .dtypes = FLOATS,
     .arity = 5,
     .results = 3,
     .hidden = 2,
     .differentiable = true,
     .constant = 3u << 3,
     .updated = 3u << 3,
     .huge = 0x1p50,
     .tiny = 0x1p-50,
     .reference = batch_norm2d,
     SAMPLES(batch_norm2d_samples)},
    {.name = "dropout",
     .family = "normalisation",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .reference = dropout,
     SAMPLES(dropout_samples)},
};
const row_list rows_rows = {list, COUNT_OF(list)};
