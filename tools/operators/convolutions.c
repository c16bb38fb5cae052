/* conv2d and the pools over windows of [n, c, h, w]. */
#include <math.h>

#include "base/compiler.h"
#include "operators.h"

typedef struct window {
    int64_t size[2], kernel[2], stride[2], padding[2], dilation[2], out[2];
} window;

static int64_t stride_or(int64_t stride, int64_t initial)
{
    return stride == 0 ? initial : stride;
}

static window window_of(const reference_call *c, const int64_t *kernel, bool pool)
{
    window w;
    for (int d = 0; d < 2; d++) {
        w.size[d] = c->in[0].shape[2 + d];
        w.kernel[d] = kernel[d];
        w.stride[d] = stride_or(reference_list(c, "stride", d, 0), pool ? kernel[d] : 1);
        w.padding[d] = reference_list(c, "padding", d, 0);
        w.dilation[d] = stride_or(reference_list(c, "dilation", d, 0), 1);
        w.out[d] = (w.size[d] + 2 * w.padding[d] - w.dilation[d] * (kernel[d] - 1) - 1) / w.stride[d] + 1;
    }
    return w;
}

/* Where tap (ky, kx) of the window at (oy, ox) lies in a plane; -1 in the padding. */
static int64_t tap_at(const window *w, int64_t oy, int64_t ox, int64_t ky, int64_t kx)
{
    const int64_t y = oy * w->stride[0] - w->padding[0] + ky * w->dilation[0],
                  x = ox * w->stride[1] - w->padding[1] + kx * w->dilation[1];
    return y < 0 || y >= w->size[0] || x < 0 || x >= w->size[1] ? -1 : y * w->size[1] + x;
}

static bool conv2d(reference_call *c)
{
    const operand *x = &c->in[0], *weight = &c->in[1], *bias = c->in_count > 2 ? &c->in[2] : NULL;
    const int64_t groups = reference_int(c, "groups", 1), n = x->shape[0], channels = x->shape[1], o = weight->shape[0],
                  depth = weight->shape[1];
    const window w = window_of(c, weight->shape + 2, false);
    const int64_t plane = w.size[0] * w.size[1], taps = w.kernel[0] * w.kernel[1];
    const int64_t shape[] = {n, o, w.out[0], w.out[1]};
    term *out = reference_result(c, 0, c->dtype, 4, shape);
    int64_t at[4] = {0};
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        const int64_t first = at[1] / (o / groups) * depth;
        trace_sum_begin(c->t);
        for (int64_t d = 0; d < depth; d++)
            for (int64_t k = 0; k < taps; k++) {
                const int64_t tap = tap_at(&w, at[2], at[3], k / w.kernel[1], k % w.kernel[1]);
                if (tap >= 0)
                    trace_sum_product(c->t, x->at[(at[0] * channels + first + d) * plane + tap],
                                      weight->at[(at[1] * depth + d) * taps + k]);
            }
        if (bias != NULL && bias->at != NULL)
            trace_sum_add(c->t, bias->at[at[1]]);
        *out++ = trace_sum_end(c->t);
    } while (index_next(4, shape, at));
    return true;
}

#define CONV(x, w, b) .in = {{DIMS x}, {DIMS w}, {DIMS b}}
#define CONV_INTEGERS(x, w, b)                                                                                         \
    .in = {{DIMS x, .values = VALUES_INTEGERS},                                                                        \
           {DIMS w, .values = VALUES_INTEGERS},                                                                        \
           {DIMS b, .values = VALUES_INTEGERS}},                                                                       \
    .exact = true
static const op_sample conv2d_samples[] = {
    {"odd", CONV((2, 3, 7, 5), (4, 3, 3, 3), (4))},
    {"padded", CONV((1, 2, 9, 11), (3, 2, 3, 3), (3)), .attrs = {WITH_INTS("padding", 2, 1, 1)}},
    {"strided", CONV((1, 2, 9, 8), (3, 2, 3, 2), (3)), .attrs = {WITH_INTS("stride", 2, 2, 3)}},
    {"dilated", CONV((1, 2, 9, 10), (2, 2, 3, 3), (2)),
     .attrs = {WITH_INTS("dilation", 2, 2, 3), WITH_INTS("padding", 2, 2, 0)}},
    {"groups", CONV((2, 4, 6, 5), (6, 2, 3, 3), (6)), .attrs = {WITH_INT("groups", 2)}},
    {"depthwise", CONV((1, 5, 6, 7), (5, 1, 3, 3), (5)),
     .attrs = {WITH_INT("groups", 5), WITH_INTS("padding", 2, 1, 1)}},
    {"pointwise", CONV((2, 7, 5, 5), (9, 7, 1, 1), (9))},
    {"without bias", .in = {{DIMS(1, 2, 6, 6)}, {DIMS(3, 2, 5, 5)}, {.absent = true}},
     .attrs = {WITH_INTS("padding", 2, 2, 2)}},
    {"small integers", CONV_INTEGERS((2, 3, 8, 9), (5, 3, 3, 3), (5)), .attrs = {WITH_INTS("padding", 2, 1, 1)}},
    {"integers, all options", CONV_INTEGERS((2, 4, 11, 13), (4, 2, 3, 2), (4)),
     .attrs = {WITH_INTS("stride", 2, 2, 1), WITH_INTS("padding", 2, 1, 2), WITH_INTS("dilation", 2, 1, 3),
               WITH_INT("groups", 2)}},
    {"one element", CONV((1, 1, 1, 1), (1, 1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 5, 5), (3, 2, 3, 3), (3))},
    {"many channels", CONV((1, 67, 5, 4), (33, 67, 3, 3), (33)), .attrs = {WITH_INTS("padding", 2, 1, 1)}},
    {"past 2^16", CONV((1, 1, 259, 261), (1, 1, 3, 3), (1)), .attrs = {WITH_INTS("padding", 2, 1, 1)}},
};

/* ---- pools ---- */

typedef term pool_of(reference_call *c, const term *plane, const window *w, int64_t oy, int64_t ox);

static bool pool(reference_call *c, pool_of *one)
{
    const operand *x = &c->in[0];
    const int64_t kernel[] = {reference_list(c, "kernel", 0, 0), reference_list(c, "kernel", 1, 0)};
    const window w = window_of(c, kernel, true);
    const int64_t shape[] = {x->shape[0], x->shape[1], w.out[0], w.out[1]};
    term *out = reference_result(c, 0, c->dtype, 4, shape);
    int64_t at[4] = {0};
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do
        *out++ = one(c, x->at + (at[0] * shape[1] + at[1]) * w.size[0] * w.size[1], &w, at[2], at[3]);
    while (index_next(4, shape, at));
    return true;
}

static term largest_of(reference_call *c, const term *plane, const window *w, int64_t oy, int64_t ox)
{
    int64_t best = -1;
    for (int64_t k = 0; k < w->kernel[0] * w->kernel[1]; k++) {
        const int64_t tap = tap_at(w, oy, ox, k / w->kernel[1], k % w->kernel[1]);
        if (tap < 0)
            continue;
        const double v = trace_value(c->t, plane[tap]), top = best < 0 ? 0 : trace_value(c->t, plane[best]);
        if (best < 0 || v > top || (isnan(v) && !isnan(top)))
            best = tap;
    }
    return trace_pick(c->t, plane[best]);
}

static term mean_of(reference_call *c, const term *plane, const window *w, int64_t oy, int64_t ox)
{
    int64_t count = 0;
    trace_sum_begin(c->t);
    for (int64_t k = 0; k < w->kernel[0] * w->kernel[1]; k++) {
        const int64_t tap = tap_at(w, oy, ox, k / w->kernel[1], k % w->kernel[1]);
        if (tap >= 0) {
            trace_sum_add(c->t, plane[tap]);
            count++;
        }
    }
    const term sum = trace_sum_end(c->t);
    return trace_scale(
        c->t, sum, 1.0 / (double)(reference_int(c, "exclude_padding", 0) != 0 ? count : w->kernel[0] * w->kernel[1]));
}

static bool max_pool2d(reference_call *c)
{
    return pool(c, largest_of);
}

static bool avg_pool2d(reference_call *c)
{
    return pool(c, mean_of);
}

#define KERNEL(h, w) WITH_INTS("kernel", 2, h, w)
#define POOL_SAMPLES(v)                                                                                                \
    {"odd", .in = {{DIMS(2, 3, 7, 9), .values = v}}, .attrs = {KERNEL(2, 2)}},                                         \
        {"overlapping", .in = {{DIMS(1, 2, 7, 9), .values = v}},                                                       \
         .attrs = {KERNEL(3, 3), WITH_INTS("stride", 2, 2, 1)}},                                                       \
        {"padded", .in = {{DIMS(1, 2, 6, 7), .values = v}},                                                            \
         .attrs = {KERNEL(3, 2), WITH_INTS("stride", 2, 2, 2), WITH_INTS("padding", 2, 1, 1)}},                        \
        {"gaps", .in = {{DIMS(1, 2, 11, 9), .values = v}}, .attrs = {KERNEL(2, 1), WITH_INTS("stride", 2, 3, 4)}},     \
        {"the whole plane", .in = {{DIMS(2, 2, 5, 6), .values = v}}, .attrs = {KERNEL(5, 6)}},                         \
        {"one element", .in = {{DIMS(1, 1, 1, 1), .values = v}}, .attrs = {KERNEL(1, 1)}},                             \
        {"empty batch", .in = {{DIMS(0, 2, 4, 4), .values = v}}, .attrs = {KERNEL(2, 2)}},                             \
        {"small integers", .in = {{DIMS(2, 2, 8, 8), .values = VALUES_INTEGERS}}, .attrs = {KERNEL(2, 2)},             \
         .exact = true},                                                                                               \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(1, 1, 257, 259), .values = v}}, .attrs = {                                           \
            KERNEL(2, 2),                                                                                              \
            WITH_INTS("stride", 2, 1, 1)                                                                               \
        }                                                                                                              \
    }

static const op_sample max_pool2d_samples[] = {POOL_SAMPLES(VALUES_RAMP)};
static const op_sample avg_pool2d_samples[] = {
    POOL_SAMPLES(VALUES_REALS),
    {"without the padding", .in = {{DIMS(1, 2, 6, 7)}},
     .attrs = {KERNEL(3, 3), WITH_INTS("stride", 2, 1, 2), WITH_INTS("padding", 2, 1, 1),
               WITH_BOOL("exclude_padding", 1)}},
};

static const operator_row list[] = {
    {.name = "conv2d",
     .family = "convolutions",
     .dtypes = FLOATS,
     .arity = 3,
     .results = 1,
     .differentiable = true,
     .products = true,
     .huge = 0x1p58,
     .tiny = 0x1p-58,
     .specials = true,
     .reference = conv2d,
     SAMPLES(conv2d_samples)},
    {.name = "max_pool2d",
     .family = "pools",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 2,
     .hidden = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = max_pool2d,
     SAMPLES(max_pool2d_samples)},
    {.name = "avg_pool2d",
     .family = "pools",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = avg_pool2d,
     SAMPLES(avg_pool2d_samples)},
};
const row_list convolutions_rows = {list, COUNT_OF(list)};
