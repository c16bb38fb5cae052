/* Views, copies, casts and where: every result is one of the operands' elements. */
#include <string.h>

#include "base/compiler.h"
#include "operators.h"

static bool reshape(reference_call *c)
{
    const operand *x = &c->in[0];
    const tsr_attr *a = reference_attr(c, "shape");
    int64_t shape[TSR_MAX_RANK], known = 1;
    for (int d = 0; d < a->count; d++)
        known *= a->values[d] == -1 ? 1 : a->values[d];
    for (int d = 0; d < a->count; d++)
        shape[d] = a->values[d] == -1 ? x->count / known : a->values[d];
    term *out = reference_result(c, 0, c->dtype, a->count, shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++)
        out[i] = trace_pick(c->t, x->at[i]);
    return out != NULL;
}

bool picking_reference(reference_call *c, int rank, const int64_t *shape, place_of *place)
{
    int64_t index[TSR_MAX_RANK] = {0};
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        const int64_t at = place(c, index);
        *out++ = at < 0 ? trace_number(c->t, reference_float(c, "value", 0)) : trace_pick(c->t, c->in[0].at[at]);
    } while (index_next(rank, shape, index));
    return true;
}

static int64_t permuted_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    int64_t own[TSR_MAX_RANK], place = 0;
    for (int d = 0; d < x->rank; d++) {
        const int64_t axis = reference_list(c, "axes", d, d);
        own[axis < 0 ? axis + x->rank : axis] = index[d];
    }
    for (int d = 0; d < x->rank; d++)
        place = place * x->shape[d] + own[d];
    return place;
}

static bool permute(reference_call *c)
{
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d < c->in[0].rank; d++) {
        const int64_t axis = reference_list(c, "axes", d, d);
        shape[d] = c->in[0].shape[axis < 0 ? axis + c->in[0].rank : axis];
    }
    return picking_reference(c, c->in[0].rank, shape, permuted_place);
}

static int64_t clamped(int64_t v, int64_t size)
{
    v += v < 0 ? size : 0;
    return v < 0 ? 0 : v > size ? size : v;
}

static int64_t sliced_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    const int64_t axis = reference_int(c, "axis", 0), start = clamped(reference_int(c, "start", 0), x->shape[axis]);
    int64_t place = 0;
    for (int d = 0; d < x->rank; d++)
        place = place * x->shape[d] + (d == axis ? start + index[d] * reference_int(c, "step", 1) : index[d]);
    return place;
}

static bool slice(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t axis = reference_int(c, "axis", 0), start = clamped(reference_int(c, "start", 0), x->shape[axis]),
                  stop = clamped(reference_int(c, "stop", INT64_MAX), x->shape[axis]),
                  step = reference_int(c, "step", 1);
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = stop > start ? (stop - start + step - 1) / step : 0;
    return picking_reference(c, x->rank, shape, sliced_place);
}

static int64_t expanded_place(const reference_call *c, const int64_t *index)
{
    return broadcast_at(&c->in[0], reference_attr(c, "shape")->count, index);
}

static bool expand(reference_call *c)
{
    const tsr_attr *a = reference_attr(c, "shape");
    return picking_reference(c, a->count, a->values, expanded_place);
}

static bool clone(reference_call *c)
{
    const operand *x = &c->in[0];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++)
        out[i] = trace_pick(c->t, x->at[i]);
    return out != NULL;
}

static bool cast(reference_call *c)
{
    const operand *x = &c->in[0];
    const tsr_dtype to = (tsr_dtype)reference_int(c, "dtype", 0);
    term *out = reference_result(c, 0, to, x->rank, x->shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++)
        out[i] = trace_cast(c->t, x->at[i], to);
    return out != NULL;
}

static bool where(reference_call *c)
{
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    int rank = 0;
    for (int k = 0; k < 3; k++)
        rank = c->in[k].rank > rank ? c->in[k].rank : rank;
    for (int d = 0; d < rank; d++) {
        shape[d] = 1;
        for (int k = 0; k < 3; k++) {
            const int own = d - (rank - c->in[k].rank);
            shape[d] = own >= 0 && c->in[k].shape[own] != 1 ? c->in[k].shape[own] : shape[d];
        }
    }
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        const int from = trace_value(c->t, c->in[0].at[broadcast_at(&c->in[0], rank, index)]) != 0 ? 1 : 2;
        *out++ = trace_pick(c->t, c->in[from].at[broadcast_at(&c->in[from], rank, index)]);
    } while (index_next(rank, shape, index));
    return true;
}

#define SHAPE(n, ...) .attrs = {WITH_INTS("shape", n, __VA_ARGS__)}
#define NUMBERS       .low = -99, .high = 99
static const op_sample reshape_samples[] = {
    {"odd", .in = {{DIMS(5, 7), NUMBERS}}, SHAPE(2, 7, 5)},
    {"flat", .in = {{DIMS(3, 4, 5), NUMBERS}}, SHAPE(1, -1)},
    {"more axes", .in = {{DIMS(24), NUMBERS}}, SHAPE(4, 2, -1, 1, 3)},
    {"six axes", .in = {{DIMS(3, 4, 2, 5), NUMBERS}}, SHAPE(6, 3, 2, 2, 1, 2, 5)},
    {"to a scalar", .in = {{DIMS(1, 1), NUMBERS}}, .attrs = {{.name = "shape", .kind = TSR_ATTR_INTS}}},
    {"empty", .in = {{DIMS(0, 6), NUMBERS}}, SHAPE(2, 3, 0)},
    {"small integers", .in = {{DIMS(6, 6), .values = VALUES_INTEGERS}}, SHAPE(2, 4, 9), .exact = true},
    {"extreme values", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}, SHAPE(1, -1)},
    {"past 2^16", .in = {{DIMS(257, 256), NUMBERS}}, SHAPE(3, 2, -1, 257)},
};

#define PERMUTED(n, ...) .attrs = {WITH_INTS("axes", n, __VA_ARGS__)}
static const op_sample permute_samples[] = {
    {"transpose", .in = {{DIMS(5, 7), NUMBERS}}, PERMUTED(2, 1, 0)},
    {"three axes", .in = {{DIMS(3, 4, 5), NUMBERS}}, PERMUTED(3, 2, 0, 1)},
    {"four axes", .in = {{DIMS(2, 3, 4, 5), NUMBERS}}, PERMUTED(4, 0, 3, 1, 2)},
    {"nothing", .in = {{DIMS(4, 3), NUMBERS}}, PERMUTED(2, 0, 1)},
    {"one element", .in = {{DIMS(1, 1, 1), NUMBERS}}, PERMUTED(3, 1, 2, 0)},
    {"empty", .in = {{DIMS(3, 0, 2), NUMBERS}}, PERMUTED(3, 1, 0, 2)},
    {"small integers", .in = {{DIMS(9, 6), .values = VALUES_INTEGERS}}, PERMUTED(2, 1, 0), .exact = true},
    {"extreme values", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}, PERMUTED(2, 1, 0)},
    {"past 2^16", .in = {{DIMS(257, 259), NUMBERS}}, PERMUTED(2, 1, 0)},
};

#define SLICE(a, from, to, by)                                                                                         \
    .attrs = {WITH_INT("axis", a), WITH_INT("start", from), WITH_INT("stop", to), WITH_INT("step", by)}
static const op_sample slice_samples[] = {
    {"odd", .in = {{DIMS(5, 9), NUMBERS}}, SLICE(1, 1, 8, 2)},
    {"first axis", .in = {{DIMS(7, 4), NUMBERS}}, SLICE(0, 2, 6, 1)},
    {"from the end", .in = {{DIMS(4, 9), NUMBERS}}, SLICE(1, -6, -1, 3)},
    {"beyond the end", .in = {{DIMS(3, 5), NUMBERS}}, SLICE(1, 2, INT64_MAX, 1)},
    {"nothing", .in = {{DIMS(3, 5), NUMBERS}}, SLICE(1, 4, 2, 1)},
    {"one of many", .in = {{DIMS(3, 3, 3), NUMBERS}}, SLICE(2, 1, 2, 5)},
    {"one element", .in = {{DIMS(1), NUMBERS}}, SLICE(0, 0, 1, 1)},
    {"empty", .in = {{DIMS(0, 5), NUMBERS}}, SLICE(1, 1, 3, 1)},
    {"small integers", .in = {{DIMS(9, 6), .values = VALUES_INTEGERS}}, SLICE(0, 1, 9, 4), .exact = true},
    {"past 2^16", .in = {{DIMS(2, 65539), NUMBERS}}, SLICE(1, 1, 65539, 1)},
};

static const op_sample expand_samples[] = {
    {"odd", .in = {{DIMS(1, 7), NUMBERS}}, SHAPE(2, 5, 7)},
    {"column", .in = {{DIMS(6, 1), NUMBERS}}, SHAPE(2, 6, 5)},
    {"more axes", .in = {{DIMS(3, 1), NUMBERS}}, SHAPE(4, 2, 2, 3, 4)},
    {"scalar", .in = {{.rank = 0, NUMBERS}}, SHAPE(2, 3, 5)},
    {"nothing", .in = {{DIMS(4, 3), NUMBERS}}, SHAPE(2, 4, 3)},
    {"to nothing", .in = {{DIMS(1, 3), NUMBERS}}, SHAPE(2, 0, 3)},
    {"empty", .in = {{DIMS(0, 1), NUMBERS}}, SHAPE(2, 0, 3)},
    {"small integers", .in = {{DIMS(1, 6), .values = VALUES_INTEGERS}}, SHAPE(2, 9, 6), .exact = true},
    {"past 2^16", .in = {{DIMS(257, 1), NUMBERS}}, SHAPE(2, 257, 259)},
    {"past 2^16 from one", .in = {{DIMS(1), NUMBERS}}, SHAPE(1, 65539)},
};

static const op_sample clone_samples[] = {
    {"odd", .in = {{DIMS(5, 7), NUMBERS}}},
    {"four axes", .in = {{DIMS(2, 3, 4, 5), .layout = LAYOUT_REVERSED, NUMBERS}}},
    {"scalar", .in = {{.rank = 0, NUMBERS}}},
    {"one element", .in = {{DIMS(1, 1), NUMBERS}}},
    {"empty", .in = {{DIMS(0, 3), NUMBERS}}},
    {"small integers", .in = {{DIMS(9, 6), .values = VALUES_INTEGERS}}, .exact = true},
    {"extreme values", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}},
    {"past 2^16", .in = {{DIMS(65539), NUMBERS}}},
    {"past 2^16, turned", .in = {{DIMS(257, 259), .layout = LAYOUT_REVERSED, NUMBERS}}},
};

#define TO(to) .attrs = {WITH_DTYPE("dtype", to)}
static const op_sample cast_samples[] = {
    {"to f32", .in = {{DIMS(5, 7), NUMBERS}}, TO(TSR_F32)},
    {"to f64", .in = {{DIMS(3, 5), NUMBERS}}, TO(TSR_F64)},
    {"to f16", .in = {{DIMS(5, 7), NUMBERS}}, TO(TSR_F16)},
    {"to bf16", .in = {{DIMS(5, 7), NUMBERS}}, TO(TSR_BF16)},
    {"to i32", .in = {{DIMS(5, 7), NUMBERS}}, TO(TSR_I32)},
    {"to i64", .in = {{DIMS(5, 7), NUMBERS}}, TO(TSR_I64)},
    {"to bool", .in = {{DIMS(5, 7), .values = VALUES_INTEGERS}}, TO(TSR_BOOL)},
    {"to u8", .in = {{DIMS(5, 7), .low = 1, .high = 99}}, TO(TSR_U8)},
    {"extreme values to bf16", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}, TO(TSR_BF16)},
    {"extreme values to f16", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}, TO(TSR_F16)},
    {"one element", .in = {{DIMS(1), NUMBERS}}, TO(TSR_F32)},
    {"empty", .in = {{DIMS(0, 3), NUMBERS}}, TO(TSR_F16)},
    {"past 2^16", .in = {{DIMS(65539), NUMBERS}}, TO(TSR_F16)},
};

#define WHERE(c, a, b)                                                                                                 \
    .in = {{DIMS c, .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true},                 \
           {DIMS a, NUMBERS},                                                                                          \
           {DIMS b, NUMBERS}}
static const op_sample where_samples[] = {
    {"odd", WHERE((5, 7), (5, 7), (5, 7))},
    {"broadcast", WHERE((4, 1), (3, 1, 5), (4, 5))},
    {"one condition", WHERE((1), (6, 5), (5))},
    {"scalar", .in = {{.rank = 0, .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true},
                      {.rank = 0},
                      {.rank = 0}}},
    {"one element", WHERE((1, 1), (1), (1))},
    {"empty", WHERE((0, 3), (0, 3), (3))},
    {"small integers",
     .in = {{DIMS(9, 6), .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true},
            {DIMS(9, 6), .values = VALUES_INTEGERS},
            {DIMS(6), .values = VALUES_INTEGERS}},
     .exact = true},
    {"past a span", WHERE((4099), (4099), (1))},
    {"past 2^16", WHERE((65539), (1), (65539))},
};

#define VIEW_ROW(operator_name, function, list_of, is_view)                                                            \
    {                                                                                                                  \
        .name = operator_name, .family = "shapes and copies", .dtypes = FLOATS | INTEGERS | BYTES, .arity = 1,         \
        .results = 1, .differentiable = true, .huge = 0x1p120, .tiny = 0x1p-120, .specials = true,                     \
        .reference = function, .view = is_view, SAMPLES(list_of)                                                       \
    }
static const operator_row list[] = {
    VIEW_ROW("reshape", reshape, reshape_samples, true),
    VIEW_ROW("permute", permute, permute_samples, true),
    VIEW_ROW("slice", slice, slice_samples, true),
    VIEW_ROW("expand", expand, expand_samples, true),
    VIEW_ROW("clone", clone, clone_samples, false),
    {.name = "cast",
     .family = "shapes and copies",
     .dtypes = FLOATS | INTEGERS | BYTES,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .reference = cast,
     SAMPLES(cast_samples)},
    {.name = "where",
     .family = "shapes and copies",
     .dtypes = FLOATS | INTEGERS | BYTES,
     .arity = 3,
     .results = 1,
     .differentiable = true,
     .constant = 1u,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .reference = where,
     SAMPLES(where_samples)},
};
const row_list shapes_rows = {list, COUNT_OF(list)};
