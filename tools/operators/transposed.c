/* Convolutions of one to three dimensions, plain and transposed, by loops over taps. */
#include <string.h>

#include "base/compiler.h"
#include "operators.h"

/* Sizes of what lies behind the channels; `image` is the larger side: x of a convolution, the result of a transposed one. */
typedef struct spatial {
    int dims;
    int64_t image[3], columns[3], kernel[3], stride[3], padding[3], dilation[3];
} spatial;

/* Element k of a list, or the number that one dimension has instead. */
static int64_t size_attr(const reference_call *c, const char *name, int dims, int k, int64_t initial)
{
    const int64_t v = dims == 1 ? reference_int(c, name, 0) : reference_list(c, name, k, 0);
    return v == 0 ? initial : v;
}

static spatial spatial_of(const reference_call *c, bool transposed)
{
    spatial s = {.dims = c->in[0].rank - 2};
    for (int d = 0; d < s.dims; d++) {
        s.kernel[d] = c->in[1].shape[2 + d];
        s.stride[d] = size_attr(c, "stride", s.dims, d, 1);
        s.padding[d] = size_attr(c, "padding", s.dims, d, 0);
        s.dilation[d] = size_attr(c, "dilation", s.dims, d, 1);
        const int64_t own = c->in[0].shape[2 + d], reach = s.dilation[d] * (s.kernel[d] - 1) + 1;
        s.image[d] = transposed ? (own - 1) * s.stride[d] - 2 * s.padding[d] + reach +
                                      size_attr(c, "output_padding", s.dims, d, 0)
                                : own;
        s.columns[d] = transposed ? own : (own + 2 * s.padding[d] - reach) / s.stride[d] + 1;
    }
    return s;
}

/* Where tap `k` of column `at` lies in the image, or, transposed, which column shows image element `at` through it; -1: nowhere. */
static int64_t partner(const spatial *s, bool transposed, const int64_t *at, const int64_t *k)
{
    int64_t place = 0;
    for (int d = 0; d < s->dims; d++) {
        const int64_t size = transposed ? s->columns[d] : s->image[d];
        int64_t i = transposed ? at[d] + s->padding[d] - k[d] * s->dilation[d]
                               : at[d] * s->stride[d] - s->padding[d] + k[d] * s->dilation[d];
        if (transposed && (i < 0 || i % s->stride[d] != 0))
            return -1;
        i = transposed ? i / s->stride[d] : i;
        if (i < 0 || i >= size)
            return -1;
        place = place * size + i;
    }
    return place;
}

static bool convolve(reference_call *c, bool transposed)
{
    const operand *x = &c->in[0], *weight = &c->in[1], *bias = &c->in[2];
    const int64_t groups = reference_int(c, "groups", 1), in = x->shape[1];
    const int64_t out = transposed ? weight->shape[1] * groups : weight->shape[0];
    const int64_t in_group = in / groups, out_group = out / groups;
    const spatial s = spatial_of(c, transposed);
    int64_t shape[5] = {x->shape[0], out}, at[5] = {0};
    memcpy(shape + 2, transposed ? s.image : s.columns, sizeof *shape * (size_t)s.dims);
    const int64_t room = shape_product(s.dims, x->shape + 2), taps = shape_product(s.dims, s.kernel);
    term *y = reference_result(c, 0, c->dtype, s.dims + 2, shape);
    if (y == NULL || c->out[0].count == 0)
        return y != NULL;
    do {
        const int64_t group = at[1] / out_group;
        int64_t k[3] = {0};
        trace_sum_begin(c->t);
        for (int64_t tap = 0; tap < taps; tap++, index_next(s.dims, s.kernel, k)) {
            const int64_t place = partner(&s, transposed, at + 2, k);
            for (int64_t i = group * in_group; place >= 0 && i < (group + 1) * in_group; i++) {
                const int64_t row = transposed ? i * out_group + at[1] % out_group : at[1] * in_group + i % in_group;
                trace_sum_product(c->t, x->at[(at[0] * in + i) * room + place], weight->at[row * taps + tap]);
            }
        }
        if (c->in_count > 2 && bias->at != NULL)
            trace_sum_add(c->t, bias->at[at[1]]);
        *y++ = trace_sum_end(c->t);
    } while (index_next(s.dims + 2, shape, at));
    return true;
}

static bool convolution(reference_call *c)
{
    return convolve(c, false);
}

static bool transposed(reference_call *c)
{
    return convolve(c, true);
}

#define CONV(x, w, b) .in = {{DIMS x}, {DIMS w}, {DIMS b}}
#define BARE(x, w)    .in = {{DIMS x}, {DIMS w}, {.absent = true}}
#define WHOLE(x, w, b)                                                                                                 \
    .in = {{DIMS x, .values = VALUES_INTEGERS},                                                                        \
           {DIMS w, .values = VALUES_INTEGERS},                                                                        \
           {DIMS b, .values = VALUES_INTEGERS}},                                                                       \
    .exact = true
#define ONE(name, v)         WITH_INT(name, v)
#define TWO(name, a, b)      WITH_INTS(name, 2, a, b)
#define THREE(name, a, b, c) WITH_INTS(name, 3, a, b, c)

static const op_sample conv_transpose1d_samples[] = {
    {"odd", CONV((2, 3, 7), (3, 4, 3), (4))},
    {"strided", CONV((2, 3, 5), (3, 2, 3), (2)), .attrs = {ONE("stride", 3)}},
    {"padded", CONV((1, 2, 6), (2, 3, 4), (3)), .attrs = {ONE("stride", 2), ONE("padding", 2)}},
    {"output padding", BARE((1, 2, 5), (2, 3, 3)), .attrs = {ONE("stride", 3), ONE("output_padding", 2)}},
    {"dilated", CONV((1, 2, 5), (2, 3, 3), (3)), .attrs = {ONE("dilation", 3), ONE("padding", 1)}},
    {"output padding beyond the stride", CONV((1, 2, 5), (2, 3, 2), (3)),
     .attrs = {ONE("dilation", 4), ONE("output_padding", 3)}},
    {"groups", CONV((2, 6, 5), (6, 2, 3), (4)), .attrs = {ONE("groups", 2), ONE("stride", 2)}},
    {"small integers", WHOLE((2, 3, 9), (3, 5, 4), (5)), .attrs = {ONE("stride", 2), ONE("padding", 1)}},
    {"one element", CONV((1, 1, 1), (1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 5), (2, 3, 3), (3))},
    {"many channels", CONV((1, 67, 5), (67, 33, 3), (33)), .attrs = {ONE("stride", 2)}},
    {"past 2^16", CONV((1, 1, 32771), (1, 1, 3), (1)), .attrs = {ONE("stride", 2)}},
};

static const op_sample conv_transpose2d_samples[] = {
    {"odd", CONV((2, 3, 7, 5), (3, 4, 3, 3), (4))},
    {"strided", CONV((1, 2, 4, 5), (2, 3, 3, 2), (3)), .attrs = {TWO("stride", 2, 3)}},
    {"padded", CONV((1, 2, 5, 4), (2, 3, 3, 3), (3)), .attrs = {TWO("stride", 2, 1), TWO("padding", 1, 2)}},
    {"output padding", BARE((1, 2, 3, 4), (2, 3, 3, 3)), .attrs = {TWO("stride", 2, 3), TWO("output_padding", 1, 2)}},
    {"dilated", CONV((1, 2, 4, 5), (2, 2, 3, 2), (2)), .attrs = {TWO("dilation", 2, 3), TWO("padding", 1, 0)}},
    {"output padding beyond the stride", CONV((1, 2, 4, 3), (2, 2, 3, 2), (2)),
     .attrs = {TWO("dilation", 4, 3), TWO("stride", 1, 2), TWO("output_padding", 2, 2)}},
    {"groups", CONV((2, 4, 4, 5), (4, 3, 3, 3), (6)), .attrs = {ONE("groups", 2)}},
    {"depthwise", CONV((1, 5, 4, 3), (5, 1, 3, 3), (5)), .attrs = {ONE("groups", 5), TWO("stride", 2, 2)}},
    {"pointwise", CONV((2, 7, 5, 5), (7, 9, 1, 1), (9))},
    {"integers, all options", WHOLE((2, 4, 5, 6), (4, 2, 3, 2), (4)),
     .attrs = {TWO("stride", 2, 3), TWO("padding", 1, 2), TWO("output_padding", 1, 1), TWO("dilation", 1, 2),
               ONE("groups", 2)}},
    {"one element", CONV((1, 1, 1, 1), (1, 1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 5, 5), (2, 3, 3, 3), (3))},
    {"many channels", CONV((1, 67, 3, 2), (67, 33, 3, 3), (33))},
    {"past 2^16", CONV((1, 1, 129, 131), (1, 1, 2, 2), (1)), .attrs = {TWO("stride", 2, 2)}},
};

static const op_sample conv3d_samples[] = {
    {"odd", CONV((2, 3, 4, 5, 3), (4, 3, 3, 3, 3), (4))},
    {"padded", CONV((1, 2, 3, 5, 4), (3, 2, 3, 3, 3), (3)), .attrs = {THREE("padding", 1, 1, 1)}},
    {"strided", CONV((1, 2, 7, 5, 6), (3, 2, 3, 3, 2), (3)), .attrs = {THREE("stride", 2, 2, 3)}},
    {"strides that leave planes out", BARE((1, 2, 9, 5, 5), (2, 2, 2, 3, 3)), .attrs = {THREE("stride", 4, 1, 1)}},
    {"dilated", CONV((1, 2, 7, 6, 5), (2, 2, 3, 2, 2), (2)),
     .attrs = {THREE("dilation", 2, 3, 1), THREE("padding", 1, 0, 2)}},
    {"groups", CONV((2, 4, 3, 4, 5), (6, 2, 2, 3, 3), (6)), .attrs = {ONE("groups", 2)}},
    {"flat", CONV((2, 3, 3, 5, 4), (4, 3, 1, 3, 3), (4))},
    {"integers, all options", WHOLE((2, 4, 5, 7, 6), (4, 2, 3, 3, 2), (4)),
     .attrs = {THREE("stride", 2, 2, 1), THREE("padding", 1, 1, 2), THREE("dilation", 1, 1, 3), ONE("groups", 2)}},
    {"one element", CONV((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 3, 5, 5), (3, 2, 2, 3, 3), (3))},
    {"many channels", CONV((1, 35, 3, 3, 2), (17, 35, 2, 2, 2), (17))},
    {"past 2^16", CONV((1, 1, 5, 117, 119), (1, 1, 2, 2, 2), (1)), .attrs = {THREE("padding", 1, 0, 0)}},
};

static const op_sample conv_transpose3d_samples[] = {
    {"odd", CONV((2, 3, 3, 4, 3), (3, 4, 3, 3, 3), (4))},
    {"strided", CONV((1, 2, 3, 2, 3), (2, 3, 2, 3, 2), (3)), .attrs = {THREE("stride", 2, 2, 3)}},
    {"strides that leave planes out", BARE((1, 2, 3, 3, 3), (2, 2, 2, 2, 2)), .attrs = {THREE("stride", 3, 1, 1)}},
    {"padded", CONV((1, 2, 4, 4, 3), (2, 3, 3, 3, 3), (3)),
     .attrs = {THREE("stride", 2, 1, 2), THREE("padding", 2, 1, 1)}},
    {"output padding", BARE((1, 2, 3, 2, 3), (2, 3, 3, 2, 2)),
     .attrs = {THREE("stride", 3, 2, 2), THREE("output_padding", 2, 1, 1)}},
    {"output padding beyond the stride", CONV((1, 2, 3, 3, 2), (2, 2, 2, 2, 2), (2)),
     .attrs = {THREE("dilation", 3, 3, 1), THREE("output_padding", 2, 2, 0)}},
    {"groups", CONV((2, 4, 2, 3, 3), (4, 3, 2, 2, 3), (6)), .attrs = {ONE("groups", 2)}},
    {"integers, all options", WHOLE((2, 4, 3, 3, 4), (4, 2, 3, 3, 2), (4)),
     .attrs = {THREE("stride", 2, 3, 2), THREE("padding", 1, 2, 1), THREE("output_padding", 1, 1, 0),
               THREE("dilation", 2, 1, 2), ONE("groups", 2)}},
    {"one element", CONV((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1))},
    {"empty batch", CONV((0, 2, 3, 3, 3), (2, 3, 2, 2, 2), (3))},
    {"many channels", CONV((1, 35, 2, 2, 2), (35, 17, 2, 2, 2), (17))},
    {"past 2^16", CONV((1, 1, 3, 58, 59), (1, 1, 2, 2, 2), (1)), .attrs = {THREE("stride", 2, 2, 2)}},
};

#define CONVOLUTION(operator, by)                                                                                      \
    {                                                                                                                  \
        .name = #operator, .family = "convolutions", .dtypes = FLOATS, .arity = 3, .results = 1,                       \
        .differentiable = true, .products = true, .huge = 0x1p58, .tiny = 0x1p-58, .reference = by,                    \
        SAMPLES(operator##_samples)                                                                                    \
    }
static const operator_row list[] = {
    CONVOLUTION(conv3d, convolution),
    CONVOLUTION(conv_transpose1d, transposed),
    CONVOLUTION(conv_transpose2d, transposed),
    CONVOLUTION(conv_transpose3d, transposed),
};
const row_list transposed_rows = {list, COUNT_OF(list)};
