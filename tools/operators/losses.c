/* Losses: of classes (cross_entropy, nll) and between two tensors, from the formulas that define them. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "operators.h"

/* What becomes of the terms of a loss, each of which weighs shares[i] in a mean (NULL: 1). */
static bool reduce_terms(reference_call *c, const term *terms, const term *shares, int rank, const int64_t *shape)
{
    const int64_t reduction = reference_int(c, "reduction", TSR_REDUCTION_MEAN), n = shape_product(rank, shape);
    const bool none = reduction == TSR_REDUCTION_NONE;
    term *out = reference_result(c, 0, c->dtype, none ? rank : 0, shape);
    for (int64_t i = 0; out != NULL && none && i < n; i++)
        out[i] = terms[i];
    if (out == NULL || none)
        return out != NULL;
    out[0] = reduced_sum(c, terms, n);
    if (reduction == TSR_REDUCTION_MEAN)
        out[0] = trace_div(c->t, out[0], shares == NULL ? trace_number(c->t, (double)n) : reduced_sum(c, shares, n));
    if (reduction == TSR_REDUCTION_BATCH_MEAN)
        out[0] = trace_div(c->t, out[0], trace_number(c->t, (double)c->in[0].shape[0]));
    return true;
}

/* ---- of classes ---- */

/* -log of the probability of each class of a row; to host_free. */
typedef term *row_losses(reference_call *c, const term *x, int64_t classes, int64_t step);

static term *from_logits(reference_call *c, const term *x, int64_t classes, int64_t step)
{
    term sum, *e = shifted_exponentials(c, x, classes, step, &sum);
    const term log_sum = e == NULL ? 0 : trace_log(c->t, sum);
    for (int64_t k = 0; e != NULL && k < classes; k++)
        e[k] = trace_sub(c->t, log_sum, e[k]);
    return e;
}

static term *from_logarithms(reference_call *c, const term *x, int64_t classes, int64_t step)
{
    term *e = host_realloc_array(NULL, (size_t)classes, sizeof *e);
    for (int64_t k = 0; e != NULL && k < classes; k++)
        e[k] = trace_scale(c->t, x[k * step], -1);
    return e;
}

static term weigh(reference_call *c, term loss, int64_t k)
{
    return c->in[2].at == NULL ? loss : trace_mul(c->t, c->in[2].at[k], loss);
}

/* (1 - smoothing) w[own] loss[own] + smoothing / classes · sum w[k] loss[k] */
static term smoothed(reference_call *c, term *loss, int64_t classes, int64_t own)
{
    trace *t = c->t;
    const double smoothing = reference_float(c, "label_smoothing", 0);
    const term one = weigh(c, loss[own], own);
    if (smoothing == 0)
        return one;
    for (int64_t k = 0; k < classes; k++)
        loss[k] = weigh(c, loss[k], k);
    const term rest = reduced_sum(c, loss, classes), share = trace_number(t, smoothing);
    return trace_add(t, trace_mul(t, trace_sub(t, trace_number(t, 1), share), one),
                     trace_mul(t, trace_div(t, share, trace_number(t, (double)classes)), rest));
}

static bool class_losses(reference_call *c, row_losses *of_row)
{
    trace *t = c->t;
    const operand *x = &c->in[0], *target = &c->in[1];
    const int class_axis = x->rank == 1 ? 0 : 1;
    const int64_t classes = x->shape[class_axis], rows = target->count, ignore = reference_int(c, "ignore_index", -100);
    int64_t inner = 1;
    for (int d = 2; d < x->rank; d++)
        inner *= x->shape[d];
    term *terms = host_realloc_array(NULL, (size_t)rows + 1, sizeof *terms),
         *shares = host_realloc_array(NULL, (size_t)rows + 1, sizeof *shares);
    bool ok = terms != NULL && shares != NULL;
    for (int64_t r = 0; r < rows && ok; r++) {
        const int64_t own = (int64_t)trace_value(t, target->at[r]);
        term *loss = of_row(c, x->at + r / inner * inner * classes + r % inner, classes, inner);
        ok = loss != NULL;
        if (ok && own == ignore)
            terms[r] = shares[r] = trace_number(t, 0);
        else if (ok && (own < 0 || own >= classes))
            terms[r] = shares[r] = trace_number(t, (double)NAN);
        else if (ok) {
            terms[r] = smoothed(c, loss, classes, own);
            shares[r] = c->in[2].at == NULL ? trace_number(t, 1) : c->in[2].at[own];
        }
        host_free(loss);
    }
    ok = ok && reduce_terms(c, terms, shares, target->rank, target->shape);
    host_free(terms);
    host_free(shares);
    return ok;
}

static bool cross_entropy(reference_call *c)
{
    return class_losses(c, from_logits);
}

static bool nll(reference_call *c)
{
    return class_losses(c, from_logarithms);
}

#define TARGET(n, low_, high_, type)                                                                                   \
    {                                                                                                                  \
        DIMS n, .values = VALUES_INTEGERS, .low = low_, .high = high_, .dtype = type, .typed = true                    \
    }
#define SCORES(n, k, width, type)                                                                                      \
    .in = {{DIMS(n, k), .low = -(width), .high = width}, TARGET((n), 0, k, type), {.absent = true}}
#define WEIGHTED(n, k)                                                                                                 \
    .in = {{DIMS(n, k), .low = -4, .high = 4}, TARGET((n), 0, k, TSR_I64), {DIMS(k), .low = 0.5, .high = 2}}
#define REDUCED(by) WITH_INT("reduction", TSR_REDUCTION_##by)
#define CLASS_SAMPLES                                                                                                  \
    {"odd", SCORES(5, 7, 4, TSR_I64)}, {"i32 targets", SCORES(9, 10, 4, TSR_I32)},                                     \
        {"empty", SCORES(0, 7, 4, TSR_I64)}, {"the sum of none", SCORES(0, 7, 4, TSR_I64), .attrs = {REDUCED(SUM)}},   \
        {"each of none", SCORES(0, 7, 4, TSR_I64), .attrs = {REDUCED(NONE)}},                                          \
        {"one element", SCORES(1, 1, 4, TSR_I64)}, {"one row", SCORES(1, 33, 4, TSR_I64)},                             \
        {"two classes", SCORES(257, 2, 4, TSR_I64)}, {"far apart", SCORES(6, 11, 1000, TSR_I64)},                      \
        {"near", SCORES(6, 11, 1e-3, TSR_I64)}, {"many classes", SCORES(2, 10007, 8, TSR_I64)},                        \
        {"past 2^16", SCORES(9377, 7, 4, TSR_I64)}, {"weights", WEIGHTED(13, 6)},                                      \
        {"a sum", SCORES(13, 6, 4, TSR_I64), .attrs = {REDUCED(SUM)}},                                                 \
        {"each", SCORES(13, 6, 4, TSR_I64), .attrs = {REDUCED(NONE)}},                                                 \
        {"each with its weight", WEIGHTED(13, 6), .attrs = {REDUCED(NONE)}},                                           \
        {"some ignored", SCORES(33, 4, 4, TSR_I64), .attrs = {WITH_INT("ignore_index", 2)}},                           \
        {"some ignored, weights", WEIGHTED(33, 4), .attrs = {WITH_INT("ignore_index", 0)}},                            \
        {"all ignored", SCORES(3, 1, 4, TSR_I64), .attrs = {WITH_INT("ignore_index", 0)}, .only_forward = true},       \
        {"outside the range", .in = {{DIMS(33, 4)}, TARGET((33), -1, 6, TSR_I64), {.absent = true}},                   \
         .attrs = {REDUCED(NONE)}, .only_forward = true},                                                              \
        {"NaN and infinities, each",                                                                                   \
         .in = {{DIMS(13, 3), .values = VALUES_SPECIALS}, TARGET((13), 0, 3, TSR_I64), {.absent = true}},              \
         .attrs = {REDUCED(NONE)}, .only_forward = true},                                                              \
        {"no rows' axis",                                                                                              \
         .in = {{DIMS(6)}, {.rank = 0, .dtype = TSR_I64, .typed = true, .low = 0, .high = 6}, {.absent = true}}},      \
    {                                                                                                                  \
        "planes", .in = {{DIMS(2, 5, 3, 4)}, TARGET((2, 3, 4), 0, 5, TSR_I64), {.absent = true}}, .attrs = {           \
            REDUCED(NONE)                                                                                              \
        }                                                                                                              \
    }
static const op_sample cross_entropy_samples[] = {
    CLASS_SAMPLES,
    {"smoothed", SCORES(9, 7, 4, TSR_I64), .attrs = {WITH_FLOAT("label_smoothing", 0.1)}},
    {"smoothed, weights", WEIGHTED(9, 7), .attrs = {WITH_FLOAT("label_smoothing", 0.3), REDUCED(SUM)}},
    {"all smoothed, some ignored", SCORES(9, 3, 4, TSR_I64),
     .attrs = {WITH_FLOAT("label_smoothing", 1), WITH_INT("ignore_index", 1), REDUCED(NONE)}},
};
static const op_sample nll_samples[] = {
    CLASS_SAMPLES,
    {"small integers",
     .in = {{DIMS(13, 6), .values = VALUES_INTEGERS},
            TARGET((13), 0, 6, TSR_I64),
            {DIMS(6), .values = VALUES_INTEGERS}},
     .attrs = {REDUCED(SUM)}, .exact = true},
};

/* ---- between two tensors ---- */

typedef term loss_of(reference_call *c, term a, term b);

static bool pair_losses(reference_call *c, loss_of *one)
{
    const operand *a = &c->in[0], *b = &c->in[1];
    const int rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0}, i = 0;
    for (int d = 0; d < rank; d++) {
        const int da = d - (rank - a->rank), db = d - (rank - b->rank);
        const int64_t m = da < 0 ? 1 : a->shape[da], n = db < 0 ? 1 : b->shape[db];
        shape[d] = m == 1 ? n : m;
    }
    const int64_t count = shape_product(rank, shape);
    term *terms = host_realloc_array(NULL, (size_t)count + 1, sizeof *terms);
    if (terms != NULL && count > 0)
        do
            terms[i++] = one(c, a->at[broadcast_at(a, rank, index)], b->at[broadcast_at(b, rank, index)]);
        while (index_next(rank, shape, index));
    const bool ok = terms != NULL && reduce_terms(c, terms, NULL, rank, shape);
    host_free(terms);
    return ok;
}

static term size_of(trace *t, term x)
{
    const double v = trace_value(t, x), d = (v > 0) - (v < 0), one = 1;
    return trace_function(t, fabs(v), 0, 1, &x, &d, &one, 0);
}

static term half_square(trace *t, term d)
{
    return trace_mul(t, trace_scale(t, d, 0.5), d);
}

static term squared(reference_call *c, term a, term b)
{
    const term d = trace_sub(c->t, a, b);
    return trace_mul(c->t, d, d);
}

static term absolute(reference_call *c, term a, term b)
{
    return size_of(c->t, trace_sub(c->t, a, b));
}

static term smoothly_absolute(reference_call *c, term a, term b)
{
    trace *t = c->t;
    const term d = size_of(t, trace_sub(t, a, b)), beta = trace_number(t, reference_float(c, "beta", 1));
    return trace_value(t, d) < trace_value(t, beta) ? trace_div(t, half_square(t, d), beta)
                                                    : trace_sub(t, d, trace_scale(t, beta, 0.5));
}

static term linear_outside(reference_call *c, term a, term b)
{
    trace *t = c->t;
    const term d = size_of(t, trace_sub(t, a, b)), delta = trace_number(t, reference_float(c, "delta", 1));
    return trace_value(t, d) <= trace_value(t, delta)
               ? half_square(t, d)
               : trace_mul(t, delta, trace_sub(t, d, trace_scale(t, delta, 0.5)));
}

/* -(b log s(a) + (1 - b) log s(-a)), s the sigmoid: -log s(a) is log(1 + exp(-|a|)), and -a more where a is below 0. */
static term binary_entropy(reference_call *c, term a, term b)
{
    trace *t = c->t;
    const double v = trace_value(t, a), e = exp(-fabs(v)), slope = (v > 0 ? -e : e) / (1 + e), one = 1;
    /* log1p errs by 4 ulp, its argument by 2 */
    const term tail = trace_function(t, log1p(e), c->dtype == TSR_F64 ? 10 : 6, 1, &a, &slope, &one, 8);
    const term share = v > 0 ? trace_sub(t, trace_number(t, 1), b) : trace_scale(t, b, -1);
    return trace_add(t, trace_mul(t, a, share), tail);
}

/* b (log b - a), 0 where b is; of logarithms exp(b) (b - a) */
static term divergence(reference_call *c, term a, term b)
{
    trace *t = c->t;
    if (reference_int(c, "log_target", 0) != 0)
        return trace_mul(t, trace_exp(t, b), trace_sub(t, b, a));
    return trace_value(t, b) == 0 ? trace_mul(t, b, a) : trace_mul(t, b, trace_sub(t, trace_log(t, b), a));
}

#define PAIR_LOSS(name, of)                                                                                            \
    static bool name(reference_call *c)                                                                                \
    {                                                                                                                  \
        return pair_losses(c, of);                                                                                     \
    }
PAIR_LOSS(mse, squared)
PAIR_LOSS(l1, absolute)
PAIR_LOSS(smooth_l1, smoothly_absolute)
PAIR_LOSS(huber, linear_outside)
PAIR_LOSS(bce_with_logits, binary_entropy)
PAIR_LOSS(kl_div, divergence)

#define BETWEEN(a, b) .in = {{DIMS a, A_VALUES}, {DIMS b, B_VALUES}}
#define PAIR_SAMPLES                                                                                                   \
    {"odd", BETWEEN((5, 7), (5, 7))}, {"each", BETWEEN((5, 7), (5, 7)), .attrs = {REDUCED(NONE)}},                     \
        {"a sum", BETWEEN((5, 7), (5, 7)), .attrs = {REDUCED(SUM)}}, {"broadcast", BETWEEN((3, 1, 5), (4, 1))},        \
        {"each, broadcast", BETWEEN((4, 1), (3, 1, 5)), .attrs = {REDUCED(NONE)}},                                     \
        {"scalars", .in = {{.rank = 0, A_VALUES}, {.rank = 0, B_VALUES}}}, {"one element", BETWEEN((1, 1), (1))},      \
        {"empty, each", BETWEEN((0, 3), (0, 3)), .attrs = {REDUCED(NONE)}},                                            \
        {"the sum of none", BETWEEN((0, 3), (3)), .attrs = {REDUCED(SUM)}},                                            \
        {"the mean of none", BETWEEN((0, 3), (0, 3))}, {"past a block", BETWEEN((8197), (8197))},                      \
        {"past 2^16", BETWEEN((65539), (65539))},                                                                      \
    {                                                                                                                  \
        "past 2^16, each", BETWEEN((65539), (1)), .attrs = { REDUCED(NONE) }                                           \
    }
#define EXACT_PAIRS                                                                                                    \
    {"small integers", .in = {{DIMS(13, 17), .values = VALUES_INTEGERS}, {DIMS(13, 17), .values = VALUES_INTEGERS}},   \
     .attrs = {REDUCED(SUM)}, .exact = true},                                                                          \
    {                                                                                                                  \
        "mean of small integers",                                                                                      \
            .in = {{DIMS(16, 8), .values = VALUES_INTEGERS}, {DIMS(16, 8), .values = VALUES_INTEGERS}}, .exact = true  \
    }
#define A_VALUES .low = -3, .high = 3
#define B_VALUES .low = -3, .high = 3
static const op_sample mse_samples[] = {PAIR_SAMPLES, EXACT_PAIRS};
static const op_sample huber_samples[] = {
    PAIR_SAMPLES, EXACT_PAIRS, {"wider", BETWEEN((5, 7), (5, 7)), .attrs = {WITH_FLOAT("delta", 2.3)}}};
static const op_sample smooth_l1_samples[] = {
    PAIR_SAMPLES, EXACT_PAIRS, {"wider", BETWEEN((5, 7), (5, 7)), .attrs = {WITH_FLOAT("beta", 2.3)}}};
#undef A_VALUES
#undef B_VALUES
#define A_VALUES .low = -9, .high = 9
#define B_VALUES .low = 0, .high = 1
static const op_sample bce_samples[] = {
    PAIR_SAMPLES,
    {"sure", .in = {{DIMS(5, 7), .low = -1e4, .high = 1e4}, {DIMS(5, 7), .low = 0, .high = 1}}},
    {"NaN and infinities, each", .in = {{DIMS(5, 7), .values = VALUES_SPECIALS}, {DIMS(5, 7), .low = 0.1, .high = 0.9}},
     .attrs = {REDUCED(NONE)}, .only_forward = true},
    {"truths", .in = {{DIMS(5, 7)}, {DIMS(5, 7), .values = VALUES_SPARSE}}, .attrs = {REDUCED(NONE)}},
};
#undef A_VALUES
#undef B_VALUES
#define A_VALUES .low = -5, .high = 0
#define B_VALUES .low = 0.01, .high = 1
static const op_sample kl_div_samples[] = {
    PAIR_SAMPLES,
    {"of logarithms", .in = {{DIMS(5, 7), A_VALUES}, {DIMS(5, 7), A_VALUES}}, .attrs = {WITH_BOOL("log_target", 1)}},
    {"of logarithms, each", .in = {{DIMS(5, 7), A_VALUES}, {DIMS(5, 7), A_VALUES}},
     .attrs = {WITH_BOOL("log_target", 1), REDUCED(NONE)}},
    {"NaN and infinities, each", .in = {{DIMS(5, 7), .values = VALUES_SPECIALS}, {DIMS(5, 7), B_VALUES}},
     .attrs = {REDUCED(NONE)}, .only_forward = true},
    {"by the batch", BETWEEN((5, 7), (5, 7)), .attrs = {REDUCED(BATCH_MEAN)}},
    {"of logarithms, by the batch", .in = {{DIMS(3, 4, 5), A_VALUES}, {DIMS(5), A_VALUES}},
     .attrs = {WITH_BOOL("log_target", 1), REDUCED(BATCH_MEAN)}},
    {"without a share", .in = {{DIMS(5, 7), A_VALUES}, {DIMS(5, 7), .values = VALUES_SPARSE}}, .only_forward = true},
};

/* ---- weighted_bce_with_logits ---- */

/* weight ((1 - target) input + (1 - target + pos_weight target) log(1 + exp(-input))) */
static bool weighted_bce_with_logits(reference_call *c)
{
    trace *t = c->t;
    const operand *x = &c->in[0], *target = &c->in[1], *weight = &c->in[2], *pos_weight = &c->in[3];
    int64_t index[TSR_MAX_RANK] = {0}, i = 0;
    term *terms = host_realloc_array(NULL, (size_t)x->count + 1, sizeof *terms);
    if (terms != NULL && x->count > 0)
        do {
            const term a = x->at[broadcast_at(x, x->rank, index)], b = target->at[broadcast_at(target, x->rank, index)];
            const double v = trace_value(t, a), slope = -1 / (1 + exp(v)), value = fmax(-v, 0) + log1p(exp(-fabs(v)));
            const double size = -slope;
            const term rest = trace_sub(t, trace_number(t, 1), b);
            term tail = trace_function(t, value, c->dtype == TSR_F64 ? 10 : 6, 1, &a, &slope, &size, 12);
            if (c->in_count > 3 && pos_weight->at != NULL) {
                const term more = trace_mul(t, b, pos_weight->at[broadcast_at(pos_weight, x->rank, index)]);
                tail = trace_mul(t, trace_add(t, rest, more), tail);
            }
            terms[i] = trace_add(t, trace_mul(t, rest, a), tail);
            if (c->in_count > 2 && weight->at != NULL)
                terms[i] = trace_mul(t, terms[i], weight->at[broadcast_at(weight, x->rank, index)]);
            i++;
        } while (index_next(x->rank, x->shape, index));
    const bool ok = terms != NULL && reduce_terms(c, terms, NULL, x->rank, x->shape);
    host_free(terms);
    return ok;
}

#define LOGIT(shape_)                                                                                                  \
    {                                                                                                                  \
        DIMS shape_, .low = -9, .high = 9                                                                              \
    }
#define SHARE(shape_)                                                                                                  \
    {                                                                                                                  \
        DIMS shape_, .low = 0, .high = 1                                                                               \
    }
#define FACTOR(shape_)                                                                                                 \
    {                                                                                                                  \
        DIMS shape_, .low = 0.5, .high = 3                                                                             \
    }
#define NO_FACTOR                                                                                                      \
    {                                                                                                                  \
        .absent = true                                                                                                 \
    }
static const op_sample weighted_bce_samples[] = {
    {"odd", .in = {LOGIT((5, 7)), SHARE((5, 7)), FACTOR((5, 7)), FACTOR((7))}},
    {"each", .in = {LOGIT((5, 7)), SHARE((5, 7)), FACTOR((5, 1)), FACTOR((7))}, .attrs = {REDUCED(NONE)}},
    {"a sum", .in = {LOGIT((5, 7)), SHARE((5, 7)), FACTOR((7)), FACTOR((5, 7))}, .attrs = {REDUCED(SUM)}},
    {"without a weight", .in = {LOGIT((3, 4, 5)), SHARE((3, 4, 5)), NO_FACTOR, FACTOR((5))}},
    {"without a positive weight", .in = {LOGIT((5, 7)), SHARE((5, 7)), FACTOR((5, 7)), NO_FACTOR}},
    {"without weights", .in = {LOGIT((5, 7)), SHARE((5, 7)), NO_FACTOR, NO_FACTOR}},
    {"truths", .in = {LOGIT((5, 7)), {DIMS(5, 7), .values = VALUES_SPARSE}, NO_FACTOR, FACTOR((7))},
     .attrs = {REDUCED(NONE)}},
    {"sure", .in = {{DIMS(5, 7), .low = -1e4, .high = 1e4}, SHARE((5, 7)), FACTOR((5, 7)), FACTOR((7))}},
    {"one element", .in = {LOGIT((1, 1)), SHARE((1, 1)), FACTOR((1)), FACTOR((1))}},
    {"empty, each", .in = {LOGIT((0, 3)), SHARE((0, 3)), NO_FACTOR, FACTOR((3))}, .attrs = {REDUCED(NONE)}},
    {"the mean of none", .in = {LOGIT((0, 3)), SHARE((0, 3)), NO_FACTOR, FACTOR((3))},
     .declared = true}, /* NaN on both sides */
    {"past 2^16", .in = {LOGIT((65539)), SHARE((65539)), FACTOR((1)), FACTOR((1))}},
};

#define CLASS_LOSS(operator_name, function, list_of)                                                                   \
    {                                                                                                                  \
        .name = operator_name, .family = "softmax and losses", .dtypes = FLOATS, .arity = 3, .results = 2,             \
        .hidden = 1, .differentiable = true, .constant = 3u << 1, .tiny = 0x1p-120, .specials = true,                  \
        .reference = function, SAMPLES(list_of)                                                                        \
    }
#define PAIR_ROW(operator_name, function, list_of, ...)                                                                \
    {                                                                                                                  \
        .name = operator_name, .family = "softmax and losses", .dtypes = FLOATS, .results = 1, .differentiable = true, \
        .reference = function, SAMPLES(list_of), __VA_ARGS__                                                           \
    }
#define SCALES(by) .huge = by, .tiny = 1 / (by)
static const operator_row list[] = {
    CLASS_LOSS("cross_entropy", cross_entropy, cross_entropy_samples),
    CLASS_LOSS("nll", nll, nll_samples),
    PAIR_ROW("mse", mse, mse_samples, .arity = 2, .specials = true, SCALES(0x1p58)),
    PAIR_ROW("l1", l1, mse_samples, .arity = 2, .specials = true, SCALES(0x1p115)),
    PAIR_ROW("smooth_l1", smooth_l1, smooth_l1_samples, .arity = 2, .specials = true, SCALES(0x1p115)),
    PAIR_ROW("huber", huber, huber_samples, .arity = 2, .specials = true, SCALES(0x1p115)),
    PAIR_ROW("bce_with_logits", bce_with_logits, bce_samples, .arity = 2, .specials = true, .tiny = 0x1p-120),
    PAIR_ROW("weighted_bce_with_logits", weighted_bce_with_logits, weighted_bce_samples, .arity = 4),
    PAIR_ROW("kl_div", kl_div, kl_div_samples, .arity = 2, .specials = true, .tiny = 0x1p-58),
};
const row_list losses_rows = {list, COUNT_OF(list)};
