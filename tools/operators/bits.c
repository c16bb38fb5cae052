/* Bits of integers; and operators that put a number in the place of elements: masked_fill, nan_to_num. */
#include <math.h>

#include "base/compiler.h"
#include "number.h"
#include "operators.h"

/* ---- bits ----
 *
 * Numbers come as doubles, which hold what samples.c draws; what does not fit an integer of the dtype is cut to its bits. */

static int width_of(tsr_dtype dtype)
{
    return dtype == TSR_I64 ? 64 : dtype == TSR_I32 ? 32 : dtype == TSR_U8 ? 8 : 1;
}

/* The dtype's number that has these lowest bits. */
static double number_of(tsr_dtype dtype, uint64_t bits)
{
    const int width = width_of(dtype);
    if (width == 64)
        return (double)(int64_t)bits;
    bits &= ((uint64_t)1 << width) - 1;
    return width == 32 ? (double)(int32_t)(uint32_t)bits : (double)bits;
}

typedef uint64_t bits_of(int64_t a, int64_t b, int width);

static bool bitwise(reference_call *c, bits_of *of)
{
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0}, i = 0;
    const int rank = broadcast_shape(c, shape);
    const operand *a = &c->in[0], *b = c->in_count > 1 ? &c->in[1] : a;
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        const double x = trace_value(c->t, a->at[broadcast_at(a, rank, index)]),
                     y = trace_value(c->t, b->at[broadcast_at(b, rank, index)]);
        out[i++] = trace_number(c->t, number_of(c->dtype, of((int64_t)x, (int64_t)y, width_of(c->dtype))));
    } while (index_next(rank, shape, index));
    return true;
}

/* A shift by less than 0, or by all bits or more, shifts everything out. */
static uint64_t left(int64_t a, int64_t b, int width)
{
    return b < 0 || b >= width ? 0 : (uint64_t)a << b;
}

static uint64_t right(int64_t a, int64_t b, int width)
{
    const int by = b < 0 || b >= width ? 63 : (int)b;
    return a < 0 ? ~(~(uint64_t)a >> by) : (uint64_t)a >> by;
}

#define BITS(name, expression)                                                                                         \
    static uint64_t name##_bits(int64_t a, int64_t b, int width)                                                       \
    {                                                                                                                  \
        (void)b;                                                                                                       \
        (void)width;                                                                                                   \
        return expression;                                                                                             \
    }                                                                                                                  \
    static bool name(reference_call *c)                                                                                \
    {                                                                                                                  \
        return bitwise(c, name##_bits);                                                                                \
    }
BITS(bitwise_not, ~(uint64_t)a)
BITS(bitwise_and, (uint64_t)a &(uint64_t)b)
BITS(bitwise_or, (uint64_t)a | (uint64_t)b)
BITS(bitwise_xor, (uint64_t)a ^ (uint64_t)b)
BITS(bitwise_left_shift, left(a, b, width))
BITS(bitwise_right_shift, right(a, b, width))

/* ---- masked_fill: mask ? value : x ---- */

static bool masked_fill(reference_call *c)
{
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0}, i = 0;
    const int rank = broadcast_shape(c, shape);
    const operand *x = &c->in[0], *mask = &c->in[1];
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do
        out[i++] = trace_value(c->t, mask->at[broadcast_at(mask, rank, index)]) != 0
                       ? trace_number(c->t, reference_float(c, "value", 0))
                       : trace_pick(c->t, x->at[broadcast_at(x, rank, index)]);
    while (index_next(rank, shape, index));
    return true;
}

#define FILLED(x, m, value_)                                                                                           \
    .in = {{DIMS x}, {DIMS m, .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true}},      \
    .attrs = {WITH_FLOAT("value", value_)}
static const op_sample masked_fill_samples[] = {
    {"odd", FILLED((5, 7), (5, 7), 3)},
    {"one", FILLED((5, 7), (5, 7), 1)},
    {"broadcast mask", FILLED((3, 4, 5), (4, 1), 2)},
    {"broadcast x", FILLED((1, 5), (4, 5), 2)},
    {"both", FILLED((3, 1, 5), (4, 1), 2)},
    {"scalars", .in = {{.rank = 0}, {.rank = 0, .low = 1, .high = 2, .dtype = TSR_BOOL, .typed = true}},
     .attrs = {WITH_FLOAT("value", 1)}},
    {"one element", FILLED((1, 1), (1), 1)},
    {"empty", FILLED((0, 3), (3), 1)},
    {"small integers",
     .in = {{DIMS(9, 6), .values = VALUES_INTEGERS},
            {DIMS(9, 6), .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true}},
     .attrs = {WITH_FLOAT("value", 3)}, .exact = true},
    {"past a span", FILLED((4099), (4099), 2)},
    {"past 2^16", FILLED((65539), (65539), 1)},
};

/* ---- nan_to_num ---- */

static bool nan_to_num(reference_call *c)
{
    const operand *x = &c->in[0];
    const double top = number_largest(c->dtype);
    const double above = reference_float(c, "posinf", (double)NAN), below = reference_float(c, "neginf", (double)NAN);
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t i = 0; out != NULL && i < x->count; i++) {
        const double v = trace_value(c->t, x->at[i]);
        out[i] = isfinite(v) ? trace_pick(c->t, x->at[i])
                             : trace_number(c->t, isnan(v) ? reference_float(c, "nan", 0)
                                                  : v > 0  ? (isnan(above) ? top : above)
                                                           : (isnan(below) ? -top : below));
    }
    return out != NULL;
}

#define NUMBERS(...)      .in = {{DIMS(__VA_ARGS__)}}
#define SPECIALS(...)     .in = {{DIMS(__VA_ARGS__), .values = VALUES_SPECIALS}}, .declared = true
#define REPLACED(a, b, c) .attrs = {WITH_FLOAT("nan", a), WITH_FLOAT("posinf", b), WITH_FLOAT("neginf", c)}
static const op_sample nan_to_num_samples[] = {
    {"odd", NUMBERS(5, 7)},
    {"the dtype's ends", SPECIALS(9, 11)},
    {"by numbers", SPECIALS(9, 11), REPLACED(0.75, 3, -5)},
    {"by one number", SPECIALS(67), .attrs = {WITH_FLOAT("nan", -2)}},
    {"by infinities", SPECIALS(67), REPLACED((double)INFINITY, -(double)INFINITY, (double)INFINITY)},
    {"scalar", .in = {{.rank = 0}}},
    {"one element", NUMBERS(1, 1)},
    {"empty", NUMBERS(0, 3)},
    {"extreme values", .in = {{DIMS(9, 10), .values = VALUES_EXTREMES}}},
    {"small integers", .in = {{DIMS(9, 10), .values = VALUES_INTEGERS}}, .exact = true},
    {"past a span", SPECIALS(4099)},
    {"past 2^16", SPECIALS(65539)},
};

#define OF_BITS(operator_name, takes, operands, ...)                                                                   \
    {                                                                                                                  \
        .name = #operator_name, .family = "bits and masks", .dtypes = takes, .arity = operands, .results = 1,          \
        .whole = VALUES_BITS, .reference = operator_name, __VA_ARGS__                                                  \
    }
/* beyond the bits of 64, and of less */
#define SHIFT .b_low = -3, .b_high = 70
static const operator_row list[] = {
    OF_BITS(bitwise_not, INTEGERS | BYTES, 1, .low = 0),
    OF_BITS(bitwise_and, INTEGERS | BYTES, 2, .low = 0),
    OF_BITS(bitwise_or, INTEGERS | BYTES, 2, .low = 0),
    OF_BITS(bitwise_xor, INTEGERS | BYTES, 2, .low = 0),
    OF_BITS(bitwise_left_shift, INTEGERS | MASK(TSR_U8), 2, SHIFT),
    OF_BITS(bitwise_right_shift, INTEGERS | MASK(TSR_U8), 2, SHIFT),
    {.name = "masked_fill",
     .family = "bits and masks",
     .dtypes = FLOATS | INTEGERS | BYTES,
     .arity = 2,
     .results = 1,
     .differentiable = true,
     .constant = 1u << 1,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = masked_fill,
     SAMPLES(masked_fill_samples)},
    {.name = "nan_to_num",
     .family = "bits and masks",
     .dtypes = FLOATS,
     .arity = 1,
     .results = 1,
     .differentiable = true,
     .huge = 0x1p120,
     .tiny = 0x1p-120,
     .specials = true,
     .reference = nan_to_num,
     SAMPLES(nan_to_num_samples)},
};
const row_list bits_rows = {list, COUNT_OF(list)};
