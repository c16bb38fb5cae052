/* Operators that move elements along axes: parts, joins, repetitions, mirror images, edges. Every result is an operand's element, or a number
 * put beside them. */
#include <string.h>

#include "base/compiler.h"
#include "operators.h"

static int64_t axis_in(const reference_call *c, int rank)
{
    const int64_t axis = reference_int(c, "axis", 0);
    return axis < 0 ? axis + rank : axis;
}

/* Row-major, the place of index in x. */
static int64_t place_in(const operand *x, const int64_t *index)
{
    int64_t place = 0;
    for (int d = 0; d < x->rank; d++)
        place = place * x->shape[d] + index[d];
    return place;
}

/* ---- axes of size 1 ---- */

static bool same_elements(reference_call *c, int rank, const int64_t *shape)
{
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = trace_pick(c->t, c->in[0].at[i]);
    return out != NULL;
}

static bool squeeze(reference_call *c)
{
    const operand *x = &c->in[0];
    const tsr_attr *axes = reference_attr(c, "axes");
    int64_t shape[TSR_MAX_RANK];
    int rank = 0;
    for (int d = 0; d < x->rank; d++) {
        bool named = axes == NULL;
        for (int i = 0; axes != NULL && i < axes->count; i++)
            named = named || axes->values[i] == d || axes->values[i] + x->rank == d;
        if (x->shape[d] != 1 || !named)
            shape[rank++] = x->shape[d];
    }
    return same_elements(c, rank, shape);
}

static bool unsqueeze(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t axis = axis_in(c, x->rank + 1);
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d <= x->rank; d++)
        shape[d] = d == axis ? 1 : x->shape[d - (d > axis)];
    return same_elements(c, x->rank + 1, shape);
}

/* ---- parts of an axis ---- */

static bool part(reference_call *c, int64_t start, int64_t length)
{
    const operand *x = &c->in[0];
    const int64_t axis = axis_in(c, x->rank);
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = length;
    term *out = reference_result(c, 0, c->dtype, x->rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        index[axis] += start;
        *out++ = trace_pick(c->t, x->at[place_in(x, index)]);
        index[axis] -= start;
    } while (index_next(x->rank, shape, index));
    return true;
}

static bool narrow(reference_call *c)
{
    const int64_t start = reference_int(c, "start", 0), size = c->in[0].shape[axis_in(c, c->in[0].rank)];
    return part(c, start < 0 ? start + size : start, reference_int(c, "length", 0));
}

static bool part_of_size(reference_call *c, int64_t size)
{
    const int64_t n = c->in[0].shape[axis_in(c, c->in[0].rank)], start = reference_int(c, "index", 0) * size;
    return part(c, start, n - start < size ? n - start : size);
}

static bool split(reference_call *c)
{
    return part_of_size(c, reference_int(c, "size", 1));
}

static bool chunk(reference_call *c)
{
    const int64_t n = c->in[0].shape[axis_in(c, c->in[0].rank)], chunks = reference_int(c, "chunks", 1);
    return part_of_size(c, (n + chunks - 1) / chunks);
}

/* ---- joins ---- */

static bool cat(reference_call *c)
{
    const int rank = c->in[0].rank;
    const int64_t axis = axis_in(c, rank);
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    memcpy(shape, c->in[0].shape, sizeof shape);
    for (int k = 1; k < c->in_count; k++)
        shape[axis] += c->in[k].shape[axis];
    term *out = reference_result(c, 0, c->dtype, rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        int64_t own[TSR_MAX_RANK];
        int k = 0;
        memcpy(own, index, sizeof own);
        for (; own[axis] >= c->in[k].shape[axis]; k++)
            own[axis] -= c->in[k].shape[axis];
        *out++ = trace_pick(c->t, c->in[k].at[place_in(&c->in[k], own)]);
    } while (index_next(rank, shape, index));
    return true;
}

static bool stack(reference_call *c)
{
    const operand *x = &c->in[0];
    const int64_t axis = axis_in(c, x->rank + 1);
    int64_t shape[TSR_MAX_RANK], inner = 1;
    for (int d = 0; d <= x->rank; d++)
        shape[d] = d == axis ? c->in_count : x->shape[d - (d > axis)];
    for (int d = (int)axis; d < x->rank; d++)
        inner *= x->shape[d];
    term *out = reference_result(c, 0, c->dtype, x->rank + 1, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++)
        out[i] = trace_pick(c->t, c->in[i / inner % c->in_count].at[i / (inner * c->in_count) * inner + i % inner]);
    return out != NULL;
}

/* ---- one operand, by places ---- */

static int64_t repeated_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    const int extra = reference_attr(c, "times")->count - x->rank;
    int64_t place = 0;
    for (int d = 0; d < x->rank; d++)
        place = place * x->shape[d] + index[d + extra] % x->shape[d];
    return place;
}

static bool repeat(reference_call *c)
{
    const operand *x = &c->in[0];
    const tsr_attr *times = reference_attr(c, "times");
    const int extra = times->count - x->rank;
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d < times->count; d++)
        shape[d] = times->values[d] * (d < extra ? 1 : x->shape[d - extra]);
    return picking_reference(c, times->count, shape, repeated_place);
}

static int64_t rolled(int64_t i, int64_t shift, int64_t n)
{
    return ((i - shift) % n + n) % n;
}

static int64_t rolled_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    const tsr_attr *axes = reference_attr(c, "axes");
    int64_t own[TSR_MAX_RANK];
    if (axes == NULL)
        return rolled(place_in(x, index), reference_list(c, "shifts", 0, 0), x->count);
    memcpy(own, index, sizeof own);
    for (int i = 0; i < axes->count; i++) {
        const int64_t d = axes->values[i] + (axes->values[i] < 0 ? x->rank : 0);
        own[d] = rolled(own[d], reference_list(c, "shifts", i, 0), x->shape[d]);
    }
    return place_in(x, own);
}

static bool roll(reference_call *c)
{
    return picking_reference(c, c->in[0].rank, c->in[0].shape, rolled_place);
}

static int64_t flipped_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    const tsr_attr *axes = reference_attr(c, "axes");
    int64_t own[TSR_MAX_RANK];
    memcpy(own, index, sizeof own);
    for (int i = 0; i < axes->count && x->rank > 0; i++) {
        const int64_t d = axes->values[i] + (axes->values[i] < 0 ? x->rank : 0);
        own[d] = x->shape[d] - 1 - index[d];
    }
    return place_in(x, own);
}

static bool flip(reference_call *c)
{
    return picking_reference(c, c->in[0].rank, c->in[0].shape, flipped_place);
}

/* Below the last row that `diagonal` leaves, or above the first. */
static int64_t lower_place(const reference_call *c, const int64_t *index)
{
    const int r = c->in[0].rank;
    return index[r - 1] - index[r - 2] > reference_int(c, "diagonal", 0) ? -1 : place_in(&c->in[0], index);
}

static int64_t upper_place(const reference_call *c, const int64_t *index)
{
    const int r = c->in[0].rank;
    return index[r - 1] - index[r - 2] < reference_int(c, "diagonal", 0) ? -1 : place_in(&c->in[0], index);
}

static bool tril(reference_call *c)
{
    return picking_reference(c, c->in[0].rank, c->in[0].shape, lower_place);
}

static bool triu(reference_call *c)
{
    return picking_reference(c, c->in[0].rank, c->in[0].shape, upper_place);
}

/* Where i of a padded axis comes from; -1: from the number beside it. */
static int64_t padded(int64_t i, int64_t n, int64_t mode)
{
    if (i >= 0 && i < n)
        return i;
    if (mode == TSR_PAD_REFLECT)
        return i < 0 ? -i : 2 * n - 2 - i;
    return mode == TSR_PAD_CONSTANT ? -1 : i < 0 ? 0 : n - 1;
}

static int64_t padded_place(const reference_call *c, const int64_t *index)
{
    const operand *x = &c->in[0];
    int64_t own[TSR_MAX_RANK];
    for (int d = 0; d < x->rank; d++) {
        own[d] = padded(index[d] - reference_list(c, "sizes", 2 * (x->rank - 1 - d), 0), x->shape[d],
                        reference_int(c, "mode", TSR_PAD_CONSTANT));
        if (own[d] < 0)
            return -1;
    }
    return place_in(x, own);
}

static bool pad(reference_call *c)
{
    const operand *x = &c->in[0];
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d < x->rank; d++)
        shape[d] = x->shape[d] + reference_list(c, "sizes", 2 * (x->rank - 1 - d), 0) +
                   reference_list(c, "sizes", 2 * (x->rank - 1 - d) + 1, 0);
    return picking_reference(c, x->rank, shape, padded_place);
}

/* ---- samples ---- */

#define X(...)       .in = {{DIMS(__VA_ARGS__), .low = -99, .high = 99}}
#define EXACT_X(...) .in = {{DIMS(__VA_ARGS__), .values = VALUES_INTEGERS}}, .exact = true
#define AXIS(a)      WITH_INT("axis", a)

#define AXES(n, ...) .attrs = {WITH_INTS("axes", n, __VA_ARGS__)}
static const op_sample squeeze_samples[] = {
    {"all of them", X(3, 1, 5, 1)},
    {"none there", X(3, 5)},
    {"one", X(1, 7, 1), AXES(1, -1)},
    {"not of size 1", X(3, 1, 4), AXES(2, 0, 1)},
    {"one element", X(1, 1)},
    {"scalar", .in = {{.rank = 0}}},
    {"empty", X(1, 0, 3)},
    {"small integers", EXACT_X(5, 1, 4), AXES(1, 1)},
    {"past 2^16", X(257, 1, 259)},
};

static const op_sample unsqueeze_samples[] = {
    {"front", X(5, 7), .attrs = {AXIS(0)}},
    {"between", X(5, 7), .attrs = {AXIS(1)}},
    {"behind", X(5, 7), .attrs = {AXIS(-1)}},
    {"third from behind", X(2, 3, 4), .attrs = {AXIS(-3)}},
    {"scalar", .in = {{.rank = 0}}, .attrs = {AXIS(0)}},
    {"one element", X(1), .attrs = {AXIS(1)}},
    {"empty", X(3, 0), .attrs = {AXIS(1)}},
    {"small integers", EXACT_X(5, 4), .attrs = {AXIS(1)}},
    {"past 2^16", X(257, 259), .attrs = {AXIS(1)}},
};

#define PART(a, key, n, index_) .attrs = {AXIS(a), WITH_INT(key, n), WITH_INT("index", index_)}
#define NARROW(a, from, n)      .attrs = {AXIS(a), WITH_INT("start", from), WITH_INT("length", n)}
static const op_sample narrow_samples[] = {
    {"odd", X(5, 9), NARROW(1, 2, 5)},
    {"first axis", X(7, 4), NARROW(0, 3, 2)},
    {"from the end", X(4, 9), NARROW(-1, -6, 4)},
    {"all", X(3, 5), NARROW(1, 0, 5)},
    {"nothing", X(3, 5), NARROW(1, 5, 0)},
    {"one element", X(1), NARROW(0, 0, 1)},
    {"empty", X(0, 5), NARROW(1, 1, 2)},
    {"small integers", EXACT_X(9, 6), NARROW(0, 1, 7)},
    {"past 2^16", X(2, 65539), NARROW(1, 1, 65537)},
};
#define PARTS(key)                                                                                                     \
    {"odd", X(5, 9), PART(1, key, 4, 1)}, {"first", X(7, 4), PART(0, key, 3, 0)},                                      \
        {"the rest", X(7, 4), PART(0, key, 3, 2)}, {"from the end", X(4, 6), PART(-2, key, 2, 1)},                     \
        {"larger than the axis", X(3, 5), PART(1, key, 9, 0)}, {"one element", X(1), PART(0, key, 1, 0)},              \
        {"empty", X(0, 5), PART(1, key, 2, 1)}, {"small integers", EXACT_X(9, 6), PART(0, key, 2, 1)},                 \
    {                                                                                                                  \
        "past 2^16", X(2, 65539), PART(1, key, 2, 0)                                                                   \
    }
static const op_sample split_samples[] = {PARTS("size")};
static const op_sample chunk_samples[] = {PARTS("chunks")};

#define ABSENT                                                                                                         \
    {                                                                                                                  \
        .absent = true                                                                                                 \
    }
#define TWO(a, b)      .in = {{DIMS a}, {DIMS b}, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT}
#define THREE(a, b, d) .in = {{DIMS a}, {DIMS b}, {DIMS d}, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT}
#define JOINS(name)                                                                                                    \
    {name " of eight",                                                                                                 \
     .in = {{DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)},                                                                                              \
            {DIMS(2, 3)}},                                                                                             \
     .attrs = {AXIS(1)}},                                                                                              \
        {"scalars or single elements", TWO((1), (1))},                                                                 \
        {"one alone", .in = {{DIMS(3, 5)}, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT}},                   \
        {"empty", TWO((0, 3), (0, 3)), .attrs = {AXIS(1)}},                                                            \
        {"last axis", TWO((2, 3, 4), (2, 3, 4)), .attrs = {AXIS(-1)}},                                                 \
    {                                                                                                                  \
        "past 2^16", TWO((257, 129), (257, 129)), .attrs = { AXIS(1) }                                                 \
    }
static const op_sample cat_samples[] = {
    {"odd", THREE((5, 7), (5, 2), (5, 4)), .attrs = {AXIS(1)}},
    {"first axis", TWO((3, 5), (4, 5))},
    {"middle axis", THREE((2, 3, 5), (2, 1, 5), (2, 4, 5)), .attrs = {AXIS(1)}},
    {"with an empty one", THREE((2, 3), (2, 0), (2, 1)), .attrs = {AXIS(1)}},
    {"small integers",
     .in = {{DIMS(5, 3), .values = VALUES_INTEGERS},
            {DIMS(5, 4), .values = VALUES_INTEGERS},
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT},
     .attrs = {AXIS(1)}, .exact = true},
    JOINS("cat"),
};
static const op_sample stack_samples[] = {
    {"odd", THREE((5, 7), (5, 7), (5, 7)), .attrs = {AXIS(1)}},
    {"first axis", TWO((3, 5), (3, 5))},
    {"behind", THREE((2, 3, 5), (2, 3, 5), (2, 3, 5)), .attrs = {AXIS(3)}},
    {"small integers",
     .in = {{DIMS(5, 3), .values = VALUES_INTEGERS},
            {DIMS(5, 3), .values = VALUES_INTEGERS},
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT,
            ABSENT},
     .attrs = {AXIS(1)}, .exact = true},
    JOINS("stack"),
};

#define TIMES(n, ...) .attrs = {WITH_INTS("times", n, __VA_ARGS__)}
static const op_sample repeat_samples[] = {
    {"odd", X(5, 7), TIMES(2, 2, 3)},
    {"more axes", X(3, 4), TIMES(4, 2, 1, 1, 3)},
    {"column", X(5, 1), TIMES(2, 1, 4)},
    {"once", X(3, 5), TIMES(2, 1, 1)},
    {"no times", X(3, 5), TIMES(2, 0, 2)},
    {"scalar", .in = {{.rank = 0}}, TIMES(2, 3, 2)},
    {"one element", X(1), TIMES(1, 5)},
    {"empty", X(0, 3), TIMES(2, 2, 2)},
    {"small integers", EXACT_X(4, 3), TIMES(2, 3, 2)},
    {"past 2^16", X(257, 3), TIMES(2, 1, 86)},
};

#define ROLL(n, shifts_, axes_) .attrs = {WITH_INTS("shifts", n, shifts_), WITH_INTS("axes", n, axes_)}
#define PAIR(a, b)              a, b
static const op_sample roll_samples[] = {
    {"odd", X(5, 7), ROLL(1, 3, 1)},
    {"flat", X(5, 7), .attrs = {WITH_INTS("shifts", 1, 4)}},
    {"backwards", X(3, 4, 5), ROLL(1, -2, -2)},
    {"two axes", X(5, 7), ROLL(2, PAIR(2, -9), PAIR(0, 1))},
    {"nowhere", X(5, 7), ROLL(1, 0, 1)},
    {"all the way", X(5, 7), ROLL(1, 14, 1)},
    {"one element", X(1), ROLL(1, 5, 0)},
    {"scalar", .in = {{.rank = 0}}, .attrs = {WITH_INTS("shifts", 1, 4)}},
    {"empty", X(0, 3), ROLL(1, 1, 0)},
    {"small integers", EXACT_X(5, 6), ROLL(1, 2, 0)},
    {"past 2^16", X(3, 21851), ROLL(1, 777, 1)},
};

#define PAD_(n, m, ...) .attrs = {WITH_INTS("sizes", n, __VA_ARGS__), WITH_INT("mode", m), WITH_FLOAT("value", 3)}
static const op_sample pad_samples[] = {
    {"odd", X(5, 7), PAD_(4, TSR_PAD_CONSTANT, 1, 2, 3, 0)},
    {"last axis", X(3, 4, 5), PAD_(2, TSR_PAD_CONSTANT, 2, 1)},
    {"three axes", X(2, 3, 4), PAD_(6, TSR_PAD_CONSTANT, 1, 0, 0, 2, 1, 1)},
    {"cut off", X(5, 7), PAD_(4, TSR_PAD_CONSTANT, -1, 2, 1, -2)},
    {"only cut off", X(5, 7), PAD_(2, TSR_PAD_CONSTANT, -2, -1)},
    {"nothing", X(5, 7), PAD_(2, TSR_PAD_CONSTANT, 0, 0)},
    {"with zeros", X(3, 4), .attrs = {WITH_INTS("sizes", 2, 1, 1)}},
    {"reflect", X(4, 6), PAD_(4, TSR_PAD_REFLECT, 5, 2, 3, 1)},
    {"reflect, last axis", X(2, 3, 5), PAD_(2, TSR_PAD_REFLECT, 0, 4)},
    {"replicate", X(4, 6), PAD_(4, TSR_PAD_REPLICATE, 7, 2, 0, 5)},
    {"replicate, three axes", X(2, 3, 2), PAD_(6, TSR_PAD_REPLICATE, 1, 0, 0, 2, 3, 1)},
    {"one element", X(1), PAD_(2, TSR_PAD_REPLICATE, 2, 1)},
    {"empty", X(0, 3), PAD_(2, TSR_PAD_CONSTANT, 1, 1)},
    {"from nothing", X(0, 3), PAD_(4, TSR_PAD_CONSTANT, 0, 1, 2, 0)},
    {"small integers", EXACT_X(5, 6), PAD_(4, TSR_PAD_REFLECT, 1, 1, 1, 1)},
    {"past 2^16", X(255, 257), PAD_(4, TSR_PAD_REFLECT, 1, 1, 1, 1)},
};

static const op_sample flip_samples[] = {
    {"odd", X(5, 7), AXES(1, 1)},
    {"first axis", X(5, 7), AXES(1, 0)},
    {"two axes", X(3, 4, 5), AXES(2, -1, 0)},
    {"no axis", X(3, 5), .attrs = {{.name = "axes", .kind = TSR_ATTR_INTS}}},
    {"one column", X(5, 1), AXES(1, 1)},
    {"one element", X(1), AXES(1, 0)},
    {"empty", X(0, 3), AXES(1, 1)},
    {"small integers", EXACT_X(5, 6), AXES(2, 0, 1)},
    {"past 2^16", X(257, 259), AXES(1, 1)},
};

#define DIAGONAL(d) .attrs = {WITH_INT("diagonal", d)}
static const op_sample triangle_samples[] = {
    {"odd", X(5, 7)},
    {"tall", X(7, 4)},
    {"above", X(5, 6), DIAGONAL(2)},
    {"below", X(5, 6), DIAGONAL(-3)},
    {"beyond the corner", X(4, 3), DIAGONAL(9)},
    {"beyond the other corner", X(4, 3), DIAGONAL(-9)},
    {"three axes", X(2, 4, 5), DIAGONAL(1)},
    {"one element", X(1, 1)},
    {"empty", X(0, 3)},
    {"no columns", X(3, 0)},
    {"small integers", EXACT_X(6, 5)},
    {"past 2^16", X(257, 259)},
};

#define MOVE(operator_name, function, takes, operands, list_of, ...)                                                   \
    {                                                                                                                  \
        .name = operator_name, .family = "shapes and copies", .dtypes = takes, .arity = operands, .results = 1,        \
        .differentiable = true, .huge = 0x1p120, .tiny = 0x1p-120, .specials = true, .reference = function,            \
        SAMPLES(list_of), __VA_ARGS__                                                                                  \
    }
#define ALL (FLOATS | INTEGERS | BYTES)
static const operator_row list[] = {
    MOVE("squeeze", squeeze, ALL, 1, squeeze_samples, .view = true),
    MOVE("unsqueeze", unsqueeze, ALL, 1, unsqueeze_samples, .view = true),
    MOVE("narrow", narrow, ALL, 1, narrow_samples, .view = true),
    MOVE("split", split, ALL, 1, split_samples, .view = true),
    MOVE("chunk", chunk, ALL, 1, chunk_samples, .view = true),
    MOVE("cat", cat, ALL, 8, cat_samples, .view = false),
    MOVE("stack", stack, ALL, 8, stack_samples, .view = false),
    MOVE("repeat", repeat, ALL, 1, repeat_samples, .view = false),
    MOVE("roll", roll, ALL, 1, roll_samples, .view = false),
    MOVE("pad", pad, ALL, 1, pad_samples, .view = false),
    MOVE("flip", flip, ALL, 1, flip_samples, .view = false),
    MOVE("tril", tril, FLOATS | INTEGERS, 1, triangle_samples, .view = false),
    MOVE("triu", triu, FLOATS | INTEGERS, 1, triangle_samples, .view = false),
};
const row_list moves_rows = {list, COUNT_OF(list)};
