/* resample, interpolate and adaptive_avg_pool2d: an axis gets another number of elements, each of which is made of a few neighbours. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "number.h"
#include "operators.h"

/* The weight `value` of one of two neighbours. It comes from a position, of which a double keeps so many digits (three roundings),
 * and is rounded to the arithmetic. */
static term weight_of(reference_call *c, double value, double position)
{
    const tsr_dtype carried = c->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    const double error = 3 * position * 0x1p-53 / number_spacing(carried, value);
    return value == 0 || value == 1 ? trace_number(c->t, value)
                                    : trace_function(c->t, value, 0.5 + error, 0, NULL, NULL, NULL, 0);
}

/* Between elements floor(num / den) and the next; num and den are whole, so that the parts are known exactly. */
static term between(reference_call *c, const term *x, int64_t n, int64_t num, int64_t den)
{
    trace *t = c->t;
    const int64_t first = num / den;
    const double part = (double)(num % den) / (double)den, position = (double)num / (double)den + 1;
    if (first >= n - 1)
        return trace_pick(t, x[n - 1]);
    const term near = trace_mul(t, weight_of(c, 1 - part, position), x[first]),
               far = trace_mul(t, weight_of(c, part, position), x[first + 1]);
    return trace_add(t, near, far);
}

/* Element j of m from n. */
static term resampled(reference_call *c, const term *x, int64_t n, int64_t j, int64_t m, int64_t mode)
{
    if (mode == TSR_NEAREST)
        return trace_pick(c->t, x[j * n / m]);
    if (mode == TSR_LINEAR_CORNERS)
        return between(c, x, n, m > 1 ? j * (n - 1) : 0, m > 1 ? m - 1 : 1);
    if (mode == TSR_LINEAR) {
        const int64_t num = (2 * j + 1) * n - m; /* of 2 m */
        return between(c, x, n, num > 0 ? num : 0, 2 * m);
    }
    const int64_t first = j * n / m, end = ((j + 1) * n + m - 1) / m;
    return trace_div(c->t, reduced_sum(c, x + first, end - first), trace_number(c->t, (double)(end - first)));
}

/* x [outer, n, inner] to out [outer, m, inner]. */
static bool resample_axis(reference_call *c, const term *x, int64_t outer, int64_t n, int64_t inner, int64_t m,
                          int64_t mode, term *out)
{
    term *line = host_realloc_array(NULL, (size_t)n + 1, sizeof *line);
    for (int64_t o = 0; line != NULL && o < outer * inner; o++) {
        const int64_t from = o / inner * n * inner + o % inner, to = o / inner * m * inner + o % inner;
        for (int64_t i = 0; i < n; i++)
            line[i] = x[from + i * inner];
        for (int64_t j = 0; j < m; j++)
            out[to + j * inner] = resampled(c, line, n, j, m, mode);
    }
    host_free(line);
    return line != NULL;
}

static int64_t product(const int64_t *shape, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++)
        n *= shape[d];
    return n;
}

static bool resample(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t given = reference_int(c, "axis", 0), axis = given < 0 ? given + x->rank : given;
    const int64_t size = reference_int(c, "size", 1);
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = size;
    term *out = reference_result(c, 0, c->dtype, x->rank, shape);
    return out != NULL &&
           resample_axis(c, x->at, product(shape, 0, (int)axis), x->shape[axis], product(shape, (int)axis + 1, x->rank),
                         size, reference_int(c, "mode", TSR_NEAREST), out);
}

/* The last axes, one for each size, the last one first. */
static bool resample_axes(reference_call *c, int64_t mode)
{
    const operand *x = &c->in[0];
    const int axes = reference_attr(c, "sizes")->count;
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    const term *from = x->at;
    term *made = NULL;
    bool ok = true;
    for (int axis = x->rank - 1; ok && axis >= x->rank - axes; axis--) {
        const int64_t n = shape[axis];
        shape[axis] = reference_list(c, "sizes", axis - (x->rank - axes), 1);
        term *next = host_realloc_array(NULL, (size_t)shape_product(x->rank, shape) + 1, sizeof *next);
        ok = next != NULL && resample_axis(c, from, product(shape, 0, axis), n, product(shape, axis + 1, x->rank),
                                           shape[axis], mode, next);
        host_free(made);
        from = made = next;
    }
    term *out = ok ? reference_result(c, 0, c->dtype, x->rank, shape) : NULL;
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = made[i];
    host_free(made);
    return out != NULL;
}

static bool interpolate(reference_call *c)
{
    return resample_axes(c, reference_int(c, "mode", TSR_NEAREST));
}

static bool adaptive_avg_pool2d(reference_call *c)
{
    return resample_axes(c, TSR_MEAN);
}

/* ---- samples ---- */

#define TO(a, n, m) .attrs = {WITH_INT("axis", a), WITH_INT("size", n), WITH_INT("mode", m)}
static const op_sample resample_samples[] = {
    {"odd", .in = {{DIMS(3, 7)}}, TO(1, 11, TSR_LINEAR)},
    {"fewer", .in = {{DIMS(3, 11)}}, TO(-1, 4, TSR_LINEAR)},
    {"first axis", .in = {{DIMS(9, 5)}}, TO(0, 13, TSR_LINEAR)},
    {"corners", .in = {{DIMS(3, 7)}}, TO(1, 11, TSR_LINEAR_CORNERS)},
    {"corners, middle axis", .in = {{DIMS(2, 5, 4)}}, TO(1, 3, TSR_LINEAR_CORNERS)},
    {"corners, to one", .in = {{DIMS(3, 7)}}, TO(1, 1, TSR_LINEAR_CORNERS)},
    {"nearest", .in = {{DIMS(3, 7)}}, TO(1, 10, TSR_NEAREST)},
    {"nearest, fewer", .in = {{DIMS(7, 5)}}, TO(0, 3, TSR_NEAREST)},
    {"mean", .in = {{DIMS(3, 11)}}, TO(1, 4, TSR_MEAN)},
    {"mean, more", .in = {{DIMS(4, 3, 5)}}, TO(1, 5, TSR_MEAN)},
    {"mean of all", .in = {{DIMS(3, 515)}}, TO(1, 1, TSR_MEAN)},
    {"the same", .in = {{DIMS(3, 7)}}, TO(1, 7, TSR_LINEAR)},
    {"from one", .in = {{DIMS(3, 1)}}, TO(1, 5, TSR_LINEAR)},
    {"one element", .in = {{DIMS(1, 1)}}, TO(1, 1, TSR_LINEAR)},
    {"empty", .in = {{DIMS(0, 5)}}, TO(1, 3, TSR_LINEAR)},
    {"small integers", .in = {{DIMS(5, 8), .values = VALUES_INTEGERS}}, TO(1, 2, TSR_MEAN), .exact = true},
    {"integers, doubled", .in = {{DIMS(5, 9), .values = VALUES_INTEGERS}}, TO(1, 18, TSR_LINEAR), .exact = true},
    {"long", .in = {{DIMS(2, 8197)}}, TO(1, 12289, TSR_LINEAR)},
    {"past 2^16", .in = {{DIMS(65539)}}, TO(0, 4099, TSR_LINEAR)},
};

#define SIZES(n, ...) WITH_INTS("sizes", n, __VA_ARGS__)
#define MODE(m)       WITH_INT("mode", TSR_##m)
static const op_sample interpolate_samples[] = {
    {"odd", .in = {{DIMS(2, 3, 5, 7)}}, .attrs = {SIZES(2, 8, 11), MODE(LINEAR)}},
    {"nearest", .in = {{DIMS(2, 3, 5, 7)}}, .attrs = {SIZES(2, 8, 11)}},
    {"corners", .in = {{DIMS(2, 3, 5, 7)}}, .attrs = {SIZES(2, 8, 11), MODE(LINEAR_CORNERS)}},
    {"fewer", .in = {{DIMS(2, 3, 9, 7)}}, .attrs = {SIZES(2, 4, 3), MODE(LINEAR)}},
    {"one way and the other", .in = {{DIMS(1, 2, 4, 9)}}, .attrs = {SIZES(2, 9, 4), MODE(LINEAR_CORNERS)}},
    {"a line", .in = {{DIMS(2, 3, 7)}}, .attrs = {SIZES(1, 10), MODE(LINEAR)}},
    {"a room, nearest", .in = {{DIMS(1, 2, 3, 4, 5)}}, .attrs = {SIZES(3, 5, 3, 7), MODE(NEAREST)}},
    {"a room", .in = {{DIMS(1, 2, 3, 4, 5)}}, .attrs = {SIZES(3, 5, 3, 7), MODE(LINEAR)}},
    {"the same", .in = {{DIMS(1, 2, 3, 4)}}, .attrs = {SIZES(2, 3, 4), MODE(LINEAR)}},
    {"one element", .in = {{DIMS(1, 1, 1, 1)}}, .attrs = {SIZES(2, 3, 2), MODE(LINEAR)}},
    {"empty batch", .in = {{DIMS(0, 2, 3, 4)}}, .attrs = {SIZES(2, 5, 5), MODE(LINEAR)}},
    {"small integers", .in = {{DIMS(2, 2, 5, 4), .values = VALUES_INTEGERS}}, .attrs = {SIZES(2, 10, 8), MODE(LINEAR)},
     .exact = true},
    {"past 2^16", .in = {{DIMS(1, 1, 257, 259)}}, .attrs = {SIZES(2, 65, 131), MODE(LINEAR)}},
};

static const op_sample adaptive_samples[] = {
    {"odd", .in = {{DIMS(2, 3, 7, 9)}}, .attrs = {SIZES(2, 3, 4)}},
    {"to one", .in = {{DIMS(2, 3, 7, 5)}}, .attrs = {SIZES(2, 1, 1)}},
    {"more", .in = {{DIMS(1, 2, 3, 4)}}, .attrs = {SIZES(2, 5, 7)}},
    {"halves", .in = {{DIMS(1, 2, 8, 6)}}, .attrs = {SIZES(2, 4, 3)}},
    {"the same", .in = {{DIMS(1, 2, 3, 4)}}, .attrs = {SIZES(2, 3, 4)}},
    {"one way", .in = {{DIMS(1, 2, 9, 4)}}, .attrs = {SIZES(2, 2, 4)}},
    {"one element", .in = {{DIMS(1, 1, 1, 1)}}, .attrs = {SIZES(2, 1, 1)}},
    {"empty batch", .in = {{DIMS(0, 2, 3, 4)}}, .attrs = {SIZES(2, 2, 2)}},
    {"small integers", .in = {{DIMS(2, 2, 8, 8), .values = VALUES_INTEGERS}}, .attrs = {SIZES(2, 4, 2)}, .exact = true},
    {"past 2^16", .in = {{DIMS(1, 1, 257, 259)}}, .attrs = {SIZES(2, 65, 131)}},
};

/* Sums go in order: as deep as neighbours meet. */
#define RESAMPLING(operator_name, list_of)                                                                             \
    {                                                                                                                  \
        .name = #operator_name, .family = "resampling", .dtypes = FLOATS, .arity = 1, .results = 1,                    \
        .differentiable = true, .products = true, .huge = 0x1p110, .tiny = 0x1p-100, .specials = true,                 \
        .reference = operator_name, SAMPLES(list_of)                                                                   \
    }
static const operator_row list[] = {
    RESAMPLING(resample, resample_samples),
    RESAMPLING(interpolate, interpolate_samples),
    RESAMPLING(adaptive_avg_pool2d, adaptive_samples),
};
const row_list resampling_rows = {list, COUNT_OF(list)};
