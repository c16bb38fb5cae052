/* layer_norm, rms_norm, group_norm and instance_norm: each from (x - mean) / sqrt(mean square + epsilon) weight + bias. */
#include <math.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "number.h"
#include "operators.h"

/* Rows of neighbours; element i of row r has weight and bias (r % period * cols + i) / span. */
typedef struct norm_rows {
    int64_t rows, cols, period, span;
    bool centred;
    double epsilon;
} norm_rows;

static int64_t count_from(const operand *x, int first)
{
    int64_t n = 1;
    for (int d = first; d < x->rank; d++)
        n *= x->shape[d];
    return n;
}

static void normalise(reference_call *c, const norm_rows *s, int64_t r, term *d, term *out)
{
    trace *t = c->t;
    const term *x = c->in[0].at + r * s->cols, *weight = c->in[1].at, *bias = c->in_count > 2 ? c->in[2].at : NULL;
    const term n = trace_number(t, (double)s->cols),
               mean = s->centred ? trace_div(t, reduced_sum(c, x, s->cols), n) : n;
    for (int64_t i = 0; i < s->cols; i++)
        d[i] = s->centred ? trace_sub(t, x[i], mean) : trace_pick(t, x[i]);
    trace_sum_begin(t);
    for (int64_t i = 0; i < s->cols; i++)
        trace_sum_product(t, d[i], d[i]);
    const term squares = trace_sum_end(t), square = trace_div(t, squares, n);
    /* by the reciprocal, which is one rounding more than division, as in PyTorch */
    const term scale =
        trace_div(t, trace_number(t, 1), trace_sqrt(t, trace_add(t, square, trace_number(t, s->epsilon))));
    for (int64_t i = 0; i < s->cols; i++) {
        const int64_t k = (r % s->period * s->cols + i) / s->span;
        term y = trace_mul(t, d[i], scale);
        if (weight != NULL)
            y = trace_mul(t, y, weight[k]);
        out[r * s->cols + i] = bias != NULL ? trace_add(t, y, bias[k]) : y;
    }
}

static bool normalise_rows(reference_call *c, norm_rows s)
{
    const operand *x = &c->in[0];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape),
         *d = host_realloc_array(NULL, (size_t)s.cols + 1, sizeof *d);
    const bool ok = out != NULL && d != NULL;
    for (int64_t r = 0; ok && x->count > 0 && r < s.rows; r++)
        normalise(c, &s, r, d, out);
    host_free(d);
    return ok;
}

static norm_rows trailing(const reference_call *c, bool centred, double epsilon)
{
    const operand *x = &c->in[0];
    const int64_t cols = count_from(x, x->rank - reference_attr(c, "normalized_shape")->count);
    return (norm_rows){cols == 0 ? 0 : x->count / cols, cols, 1, 1, centred, reference_float(c, "epsilon", epsilon)};
}

static bool layer_norm(reference_call *c)
{
    return normalise_rows(c, trailing(c, true, 1e-5));
}

/* Its epsilon is, where none is given, the distance from 1 to the next number. */
static bool rms_norm(reference_call *c)
{
    return normalise_rows(c, trailing(c, false, 2 * number_roundoff(c->dtype)));
}

static norm_rows by_channels(const reference_call *c, int64_t groups)
{
    const operand *x = &c->in[0];
    const int64_t rows = x->shape[0] * groups, span = count_from(x, 2);
    return (norm_rows){rows, rows == 0 ? 0 : x->count / rows, groups, span, true, reference_float(c, "epsilon", 1e-5)};
}

static bool group_norm(reference_call *c)
{
    return normalise_rows(c, by_channels(c, reference_int(c, "groups", 1)));
}

static bool instance_norm(reference_call *c)
{
    return normalise_rows(c, by_channels(c, c->in[0].shape[1]));
}

/* By the statistics that were kept, in evaluation. */
static bool instance_norm_running(reference_call *c)
{
    const operand *x = &c->in[0];
    trace *t = c->t;
    if (reference_int(c, "training", 1) != 0)
        return instance_norm(c);
    const int64_t span = count_from(x, 2);
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++) {
        const int64_t k = i / span % x->shape[1];
        const term variance = trace_add(t, c->in[4].at[k], trace_number(t, reference_float(c, "epsilon", 1e-5)));
        out[i] = trace_div(t, trace_sub(t, x->at[i], c->in[3].at[k]), trace_sqrt(t, variance));
        if (c->in[1].at != NULL)
            out[i] = trace_mul(t, out[i], c->in[1].at[k]);
        if (c->in[2].at != NULL)
            out[i] = trace_add(t, out[i], c->in[2].at[k]);
    }
    return out != NULL;
}

/* ---- samples ---- */

#define ABSENT                                                                                                         \
    {                                                                                                                  \
        .absent = true                                                                                                 \
    }
/* Weights of x's dtype, or of what it is carried in. */
#define WEIGHTS(n)                                                                                                     \
    {DIMS n, .low = 0.5, .high = 2},                                                                                   \
    {                                                                                                                  \
        DIMS n                                                                                                         \
    }
#define WIDE(n)                                                                                                        \
    {DIMS n, .low = 0.5, .high = 2, .wide = true},                                                                     \
    {                                                                                                                  \
        DIMS n, .wide = true                                                                                           \
    }
#define SHAPE(n, ...) WITH_INTS("normalized_shape", n, __VA_ARGS__)
#define EPSILON(e)    WITH_FLOAT("epsilon", e)
#define LAYERS(both, wide)                                                                                             \
    {"odd", .in = {{DIMS(5, 7)}, both((7))}, .attrs = {SHAPE(1, 7)}},                                                  \
        {"wide weights", .in = {{DIMS(5, 7)}, wide((7))}, .attrs = {SHAPE(1, 7)}},                                     \
        {"two axes", .in = {{DIMS(3, 4, 5)}, both((4, 5))}, .attrs = {SHAPE(2, 4, 5)}},                                \
        {"all axes", .in = {{DIMS(3, 5)}, wide((3, 5))}, .attrs = {SHAPE(2, 3, 5), EPSILON(0.01)}},                    \
        {"far from zero", .in = {{DIMS(4, 33), .low = 30, .high = 32}, both((33))}, .attrs = {SHAPE(1, 33)}},          \
        {"one column", .in = {{DIMS(4, 1)}, both((1))}, .attrs = {SHAPE(1, 1)}},                                       \
        {"one element", .in = {{DIMS(1)}, both((1))}, .attrs = {SHAPE(1, 1)}},                                         \
        {"no rows", .in = {{DIMS(0, 4)}, both((4))}, .attrs = {SHAPE(1, 4)}},                                          \
        {"no columns", .in = {{DIMS(3, 0)}, both((0))}, .attrs = {SHAPE(1, 0)}},                                       \
        {"past a block", .in = {{DIMS(2, 8197)}, both((8197))}, .attrs = {SHAPE(1, 8197)}},                            \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(9377, 7)}, wide((7))}, .attrs = { SHAPE(1, 7) }                                      \
    }
static const op_sample layer_norm_samples[] = {
    LAYERS(WEIGHTS, WIDE),
    {"without weights", .in = {{DIMS(5, 7)}, ABSENT, ABSENT}, .attrs = {SHAPE(1, 7)}},
    {"without a bias", .in = {{DIMS(5, 7)}, {DIMS(7)}, ABSENT}, .attrs = {SHAPE(1, 7)}},
    {"without a weight", .in = {{DIMS(5, 7)}, ABSENT, {DIMS(7)}}, .attrs = {SHAPE(1, 7)}},
};

#define WEIGHT(n)                                                                                                      \
    {                                                                                                                  \
        DIMS n, .low = 0.5, .high = 2                                                                                  \
    }
#define WIDE_WEIGHT(n)                                                                                                 \
    {                                                                                                                  \
        DIMS n, .low = 0.5, .high = 2, .wide = true                                                                    \
    }
static const op_sample rms_norm_samples[] = {
    LAYERS(WEIGHT, WIDE_WEIGHT),
    {"without weights", .in = {{DIMS(5, 7)}, ABSENT}, .attrs = {SHAPE(1, 7)}},
    {"small, and no epsilon", .in = {{DIMS(5, 7), .low = 1e-3, .high = 2e-3}, ABSENT},
     .attrs = {SHAPE(1, 7), EPSILON(0)}},
};

#define GROUPS(n) .attrs = {WITH_INT("groups", n)}
static const op_sample group_norm_samples[] = {
    {"odd", .in = {{DIMS(2, 6, 3, 5)}, WEIGHTS((6))}, GROUPS(3)},
    {"wide weights", .in = {{DIMS(2, 6, 3, 5)}, WIDE((6))}, GROUPS(2)},
    {"one group", .in = {{DIMS(3, 5, 7)}, WEIGHTS((5))}, GROUPS(1)},
    {"a group a channel", .in = {{DIMS(3, 5, 7)}, WEIGHTS((5))}, GROUPS(5)},
    {"rows", .in = {{DIMS(7, 6)}, WEIGHTS((6))}, GROUPS(2)},
    {"without weights", .in = {{DIMS(2, 4, 9)}, ABSENT, ABSENT}, GROUPS(2)},
    {"without a bias", .in = {{DIMS(2, 4, 9)}, {DIMS(4)}, ABSENT}, GROUPS(2)},
    {"far from zero", .in = {{DIMS(2, 4, 9), .low = 30, .high = 32}, WIDE((4))},
     .attrs = {WITH_INT("groups", 2), EPSILON(0.01)}},
    {"one element", .in = {{DIMS(1, 1)}, WEIGHTS((1))}, GROUPS(1)},
    {"empty", .in = {{DIMS(0, 4, 3)}, WEIGHTS((4))}, GROUPS(2)},
    {"empty planes", .in = {{DIMS(2, 4, 0)}, WEIGHTS((4))}, GROUPS(2)},
    {"past 2^16", .in = {{DIMS(2, 6, 53, 107)}, WIDE((6))}, GROUPS(2)},
};

static const op_sample instance_norm_samples[] = {
    {"odd", .in = {{DIMS(2, 3, 4, 5)}, WEIGHTS((3))}},
    {"wide weights", .in = {{DIMS(2, 3, 4, 5)}, WIDE((3))}},
    {"lines", .in = {{DIMS(3, 5, 7)}, WEIGHTS((5))}},
    {"rooms", .in = {{DIMS(2, 2, 3, 2, 5)}, WIDE((2))}},
    {"without weights", .in = {{DIMS(2, 4, 9)}, ABSENT, ABSENT}},
    {"without a bias", .in = {{DIMS(2, 4, 9)}, {DIMS(4)}, ABSENT}},
    {"epsilon", .in = {{DIMS(2, 4, 9)}, WIDE((4))}, .attrs = {EPSILON(0.1)}},
    {"far from zero", .in = {{DIMS(2, 4, 9), .low = 30, .high = 32}, WIDE((4))}},
    {"one element", .in = {{DIMS(1, 1, 1)}, WEIGHTS((1))}},
    {"empty", .in = {{DIMS(0, 4, 3)}, WEIGHTS((4))}},
    {"empty planes", .in = {{DIMS(2, 4, 0)}, WEIGHTS((4))}},
    {"past 2^16", .in = {{DIMS(2, 6, 53, 107)}, WIDE((6))}},
};

/* Running statistics behind the weights. */
#define KEPT(n)                                                                                                        \
    {DIMS n, .wide = true},                                                                                            \
    {                                                                                                                  \
        DIMS n, .low = 0.5, .high = 2, .wide = true                                                                    \
    }
#define EVALUATION .attrs = {WITH_BOOL("training", 0)}
static const op_sample instance_norm_running_samples[] = {
    {"odd", .in = {{DIMS(2, 3, 4, 5)}, WEIGHTS((3)), KEPT((3))}},
    {"evaluation", .in = {{DIMS(2, 3, 4, 5)}, WEIGHTS((3)), KEPT((3))}, EVALUATION},
    {"wide weights", .in = {{DIMS(2, 3, 4, 5)}, WIDE((3)), KEPT((3))}},
    {"wide weights, evaluation", .in = {{DIMS(2, 3, 4, 5)}, WIDE((3)), KEPT((3))}, EVALUATION},
    {"lines", .in = {{DIMS(3, 5, 7)}, WEIGHTS((5)), KEPT((5))}},
    {"rooms, evaluation", .in = {{DIMS(2, 2, 3, 2, 5)}, WIDE((2)), KEPT((2))}, EVALUATION},
    {"without weights", .in = {{DIMS(2, 4, 9)}, ABSENT, ABSENT, KEPT((4))}},
    {"without weights, evaluation", .in = {{DIMS(2, 4, 9)}, ABSENT, ABSENT, KEPT((4))},
     .attrs = {WITH_BOOL("training", 0), EPSILON(0.1)}},
    {"all momentum", .in = {{DIMS(2, 4, 9)}, WIDE((4)), KEPT((4))}, .attrs = {WITH_FLOAT("momentum", 1)}},
    {"one element", .in = {{DIMS(1, 1, 1)}, WEIGHTS((1)), KEPT((1))}, EVALUATION},
    {"empty", .in = {{DIMS(0, 4, 3)}, WEIGHTS((4)), KEPT((4))}, EVALUATION},
    {"past 2^16", .in = {{DIMS(2, 6, 53, 107)}, WIDE((6)), KEPT((6))}},
};

#define NORM(operator_name, operands)                                                                                  \
    {                                                                                                                  \
        .name = #operator_name, .family = "normalisation", .dtypes = FLOATS, .arity = operands, .results = 3,          \
        .hidden = 2, .differentiable = true, .huge = 0x1p50, .tiny = 0x1p-50, .specials = true,                        \
        .reference = operator_name, SAMPLES(operator_name##_samples)                                                   \
    }
static const operator_row list[] = {
    NORM(layer_norm, 3),
    NORM(rms_norm, 2),
    NORM(group_norm, 3),
    NORM(instance_norm, 3),
    {.name = "instance_norm_running",
     .family = "normalisation",
     .dtypes = FLOATS,
     .arity = 5,
     .results = 1,
     .differentiable = true,
     .constant = 3u << 3,
     .updated = 3u << 3,
     .reference = instance_norm_running,
     SAMPLES(instance_norm_running_samples)},
};
const row_list norms_rows = {list, COUNT_OF(list)};
