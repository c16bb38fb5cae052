/* conv1d and the pools over windows of [n, c, w]; outer and dot. */
#include <math.h>

#include "base/compiler.h"
#include "operators.h"

typedef struct window {
    int64_t size, kernel, stride, padding, dilation, out;
} window;

static window window_of(const reference_call *c, int64_t kernel, int64_t initial_stride)
{
    const int64_t stride = reference_int(c, "stride", 0), dilation = reference_int(c, "dilation", 1);
    window w = {c->in[0].shape[2], kernel, stride == 0 ? initial_stride : stride, reference_int(c, "padding", 0),
                dilation,          0};
    w.out = (w.size + 2 * w.padding - dilation * (kernel - 1) - 1) / w.stride + 1;
    return w;
}

/* Where tap k of window o lies; -1 in the padding. */
static int64_t tap_at(const window *w, int64_t o, int64_t k)
{
    const int64_t at = o * w->stride - w->padding + k * w->dilation;
    return at < 0 || at >= w->size ? -1 : at;
}

static bool conv1d(reference_call *c)
{
    const operand *x = &c->in[0], *weight = &c->in[1];
    const term *bias = c->in_count > 2 ? c->in[2].at : NULL;
    const int64_t channels = x->shape[1], outs = weight->shape[0], depth = weight->shape[1];
    const window w = window_of(c, weight->shape[2], 1);
    const int64_t shape[] = {x->shape[0], outs, w.out};
    term *out = reference_result(c, 0, c->dtype, 3, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++) {
        const int64_t n = i / (outs * w.out), o = i / w.out % outs;
        const int64_t first = o / (outs / reference_int(c, "groups", 1)) * depth;
        trace_sum_begin(c->t);
        for (int64_t d = 0; d < depth; d++)
            for (int64_t k = 0; k < w.kernel; k++) {
                const int64_t tap = tap_at(&w, i % w.out, k);
                if (tap >= 0)
                    trace_sum_product(c->t, x->at[(n * channels + first + d) * w.size + tap],
                                      weight->at[(o * depth + d) * w.kernel + k]);
            }
        if (bias != NULL)
            trace_sum_add(c->t, bias[o]);
        out[i] = trace_sum_end(c->t);
    }
    return out != NULL;
}

static term largest_of(reference_call *c, const term *x, const window *w, int64_t o)
{
    int64_t best = -1;
    for (int64_t k = 0; k < w->kernel; k++) {
        const int64_t tap = tap_at(w, o, k);
        const double v = tap < 0 ? 0 : trace_value(c->t, x[tap]), top = best < 0 ? 0 : trace_value(c->t, x[best]);
        if (tap >= 0 && (best < 0 || v > top || (isnan(v) && !isnan(top))))
            best = tap;
    }
    return trace_pick(c->t, x[best]);
}

static term mean_of(reference_call *c, const term *x, const window *w, int64_t o)
{
    int64_t count = 0;
    trace_sum_begin(c->t);
    for (int64_t k = 0; k < w->kernel; k++)
        if (tap_at(w, o, k) >= 0) {
            trace_sum_add(c->t, x[tap_at(w, o, k)]);
            count++;
        }
    const term sum = trace_sum_end(c->t);
    return trace_scale(c->t, sum, 1.0 / (double)(reference_int(c, "exclude_padding", 0) != 0 ? count : w->kernel));
}

static bool pool(reference_call *c, term (*one)(reference_call *c, const term *x, const window *w, int64_t o))
{
    const operand *x = &c->in[0];
    const int64_t kernel = reference_int(c, "kernel", 1);
    const window w = window_of(c, kernel, kernel);
    const int64_t shape[] = {x->shape[0], x->shape[1], w.out};
    term *out = reference_result(c, 0, c->dtype, 3, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = one(c, x->at + i / w.out * w.size, &w, i % w.out);
    return out != NULL;
}

static bool max_pool1d(reference_call *c)
{
    return pool(c, largest_of);
}

static bool avg_pool1d(reference_call *c)
{
    return pool(c, mean_of);
}

static bool outer(reference_call *c)
{
    const int64_t shape[] = {c->in[0].count, c->in[1].count};
    term *out = reference_result(c, 0, c->dtype, 2, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = trace_mul(c->t, c->in[0].at[i / shape[1]], c->in[1].at[i % shape[1]]);
    return out != NULL;
}

static bool dot(reference_call *c)
{
    term *out = reference_result(c, 0, c->dtype, 0, NULL);
    trace_sum_begin(c->t);
    for (int64_t i = 0; i < c->in[0].count; i++)
        trace_sum_product(c->t, c->in[0].at[i], c->in[1].at[i]);
    const term sum = trace_sum_end(c->t);
    if (out != NULL)
        out[0] = sum;
    return out != NULL;
}

/* ---- samples ---- */

#define CONV(x, w, b) .in = {{DIMS x}, {DIMS w}, {DIMS b}}
#define WHOLE(shape_)                                                                                                  \
    {                                                                                                                  \
        DIMS shape_, .values = VALUES_INTEGERS                                                                         \
    }
#define OPTION(name, v) WITH_INT(name, v)
static const op_sample conv1d_samples[] = {
    {"odd", CONV((2, 3, 9), (4, 3, 3), (4))},
    {"padded", CONV((1, 2, 11), (3, 2, 3), (3)), .attrs = {OPTION("padding", 2)}},
    {"strided", CONV((1, 2, 12), (3, 2, 5), (3)), .attrs = {OPTION("stride", 3)}},
    {"dilated", CONV((1, 2, 13), (2, 2, 3), (2)), .attrs = {OPTION("dilation", 3), OPTION("padding", 1)}},
    {"groups", CONV((2, 4, 7), (6, 2, 3), (6)), .attrs = {OPTION("groups", 2)}},
    {"depthwise", CONV((1, 5, 8), (5, 1, 3), (5)), .attrs = {OPTION("groups", 5), OPTION("padding", 1)}},
    {"pointwise", CONV((2, 7, 5), (9, 7, 1), (9))},
    {"without bias", .in = {{DIMS(1, 2, 6)}, {DIMS(3, 2, 5)}, {.absent = true}}},
    {"small integers", .in = {WHOLE((2, 3, 17)), WHOLE((5, 3, 3)), WHOLE((5))}, .attrs = {OPTION("padding", 1)},
     .exact = true},
    {"integers, all options", .in = {WHOLE((2, 4, 29)), WHOLE((4, 2, 3)), WHOLE((4))},
     .attrs = {OPTION("stride", 2), OPTION("padding", 3), OPTION("dilation", 3), OPTION("groups", 2)}, .exact = true},
    {"one element", CONV((1, 1, 1), (1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 5), (3, 2, 3), (3))},
    {"many channels", CONV((1, 67, 9), (33, 67, 3), (33))},
    {"past 2^16", CONV((1, 1, 65539), (1, 1, 3), (1)), .attrs = {OPTION("padding", 1)}},
};

#define POOLS(v)                                                                                                       \
    {"odd", .in = {{DIMS(2, 3, 9), .values = v}}, .attrs = {OPTION("kernel", 2)}},                                     \
        {"overlapping", .in = {{DIMS(1, 2, 9), .values = v}}, .attrs = {OPTION("kernel", 3), OPTION("stride", 2)}},    \
        {"padded", .in = {{DIMS(1, 2, 7), .values = v}},                                                               \
         .attrs = {OPTION("kernel", 3), OPTION("stride", 2), OPTION("padding", 1)}},                                   \
        {"gaps", .in = {{DIMS(1, 2, 11), .values = v}}, .attrs = {OPTION("kernel", 2), OPTION("stride", 4)}},          \
        {"the whole line", .in = {{DIMS(2, 2, 5), .values = v}}, .attrs = {OPTION("kernel", 5)}},                      \
        {"one element", .in = {{DIMS(1, 1, 1), .values = v}}, .attrs = {OPTION("kernel", 1)}},                         \
        {"empty batch", .in = {{DIMS(0, 2, 4), .values = v}}, .attrs = {OPTION("kernel", 2)}},                         \
        {"small integers", .in = {WHOLE((2, 2, 8))}, .attrs = {OPTION("kernel", 2)}, .exact = true},                   \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(1, 1, 65539), .values = v}}, .attrs = { OPTION("kernel", 3), OPTION("stride", 1) }   \
    }
static const op_sample max_pool1d_samples[] = {POOLS(VALUES_RAMP)};
static const op_sample avg_pool1d_samples[] = {
    POOLS(VALUES_REALS),
    {"without the padding", .in = {{DIMS(1, 2, 7)}},
     .attrs = {OPTION("kernel", 3), OPTION("stride", 2), OPTION("padding", 1), WITH_BOOL("exclude_padding", 1)}},
};

#define TWO(m, n) .in = {{DIMS(m)}, {DIMS(n)}}
static const op_sample outer_samples[] = {
    {"odd", TWO(5, 7)},
    {"row", TWO(1, 9)},
    {"column", TWO(9, 1)},
    {"one element", TWO(1, 1)},
    {"empty", TWO(0, 3)},
    {"empty on the right", TWO(3, 0)},
    {"small integers", .in = {WHOLE((13)), WHOLE((11))}, .exact = true},
    {"long", TWO(3, 8195)},
    {"past 2^16", TWO(257, 259)},
};
static const op_sample dot_samples[] = {
    {"odd", TWO(7, 7)},
    {"two", TWO(2, 2)},
    {"one element", TWO(1, 1)},
    {"empty", TWO(0, 0)},
    {"past a run", TWO(257, 257)},
    {"long", TWO(8195, 8195)},
    {"small integers", .in = {WHOLE((99)), WHOLE((99))}, .exact = true},
    {"long integers", .in = {WHOLE((65539)), WHOLE((65539))}, .exact = true},
    {"past 2^16", TWO(65539, 65539)},
};

#define LINE(operator_name, family_, takes, operands, by, ...)                                                         \
    {                                                                                                                  \
        .name = #operator_name, .family = family_, .dtypes = takes, .arity = operands, .results = 1,                   \
        .differentiable = true, .huge = by, .tiny = 1 / (by), .specials = true, .reference = operator_name,            \
        SAMPLES(operator_name##_samples), __VA_ARGS__                                                                  \
    }
static const operator_row list[] = {
    LINE(outer, "products", FLOATS | INTEGERS, 2, 0x1p58, .products = false),
    LINE(dot, "products", FLOATS, 2, 0x1p58, .products = true),
    LINE(conv1d, "lines", FLOATS, 3, 0x1p58, .products = true),
    LINE(max_pool1d, "lines", FLOATS, 1, 0x1p120, .products = false),
    LINE(avg_pool1d, "lines", FLOATS, 1, 0x1p120, .products = false),
};
const row_list lines_rows = {list, COUNT_OF(list)};
