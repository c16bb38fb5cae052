/* Operators by index. An index outside takes NaN (of integers and bool 0) and puts or adds nothing (tessera/ops.h). */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "number.h"
#include "operators.h"

static int64_t axis_of(const reference_call *c)
{
    const int64_t axis = reference_int(c, "axis", 0);
    return axis < 0 ? axis + c->in[0].rank : axis;
}

static int64_t place_in(const operand *x, const int64_t *index)
{
    int64_t place = 0;
    for (int d = 0; d < x->rank; d++)
        place = place * x->shape[d] + index[d];
    return place;
}

static bool within(int64_t i, int64_t n)
{
    return i >= 0 && i < n;
}

/* Element `at` of x if it is there. */
static term taken(reference_call *c, bool there, int64_t at)
{
    return there ? trace_pick(c->t, c->in[0].at[at]) : trace_number(c->t, number_is_float(c->dtype) ? (double)NAN : 0);
}

/* ---- embedding, index_select: whole slices ---- */

static bool embedding(reference_call *c)
{
    const operand *weight = &c->in[0], *indices = &c->in[1];
    const int64_t width = weight->shape[1], padding = reference_int(c, "padding_idx", -1);
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, indices->shape, sizeof shape);
    shape[indices->rank] = width;
    term *out = reference_result(c, 0, c->dtype, indices->rank + 1, shape);
    for (int64_t i = 0; out != NULL && i < c->out[0].count; i++) {
        const int64_t row = (int64_t)trace_value(c->t, indices->at[i / width]), at = row * width + i % width;
        out[i] = row == padding && row >= 0 ? trace_number(c->t, trace_value(c->t, weight->at[at]))
                                            : taken(c, within(row, weight->shape[0]), at);
    }
    return out != NULL;
}

static bool index_select(reference_call *c)
{
    const operand *x = &c->in[0], *chosen = &c->in[1];
    const int64_t axis = axis_of(c), size = x->shape[axis];
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    memcpy(shape, x->shape, sizeof shape);
    shape[axis] = chosen->count;
    term *out = reference_result(c, 0, c->dtype, x->rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        int64_t own[TSR_MAX_RANK];
        memcpy(own, index, sizeof own);
        own[axis] = (int64_t)trace_value(c->t, chosen->at[index[axis]]);
        *out++ = taken(c, within(own[axis], size), place_in(x, own));
    } while (index_next(x->rank, shape, index));
    return true;
}

/* ---- gather: element by element; take_along_dim's index is broadcast first ---- */

static bool gather(reference_call *c)
{
    const operand *x = &c->in[0], *chosen = &c->in[1];
    const int64_t axis = axis_of(c);
    int64_t index[TSR_MAX_RANK] = {0}, i = 0;
    term *out = reference_result(c, 0, c->dtype, x->rank, chosen->shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        int64_t own[TSR_MAX_RANK];
        memcpy(own, index, sizeof own);
        own[axis] = (int64_t)trace_value(c->t, chosen->at[i]);
        out[i++] = taken(c, within(own[axis], x->shape[axis]), place_in(x, own));
    } while (index_next(x->rank, chosen->shape, index));
    return true;
}

static bool take_along_dim(reference_call *c)
{
    const operand *x = &c->in[0], *chosen = &c->in[1];
    const int64_t axis = axis_of(c);
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0};
    for (int d = 0; d < x->rank; d++)
        shape[d] = d == axis || x->shape[d] == 1 ? chosen->shape[d] : x->shape[d];
    term *out = reference_result(c, 0, c->dtype, x->rank, shape);
    if (out == NULL || c->out[0].count == 0)
        return out != NULL;
    do {
        int64_t own[TSR_MAX_RANK];
        for (int d = 0; d < x->rank; d++)
            own[d] = x->shape[d] == 1 ? 0 : index[d];
        own[axis] = (int64_t)trace_value(c->t, chosen->at[broadcast_at(chosen, x->rank, index)]);
        *out++ = taken(c, within(own[axis], x->shape[axis]), place_in(x, own));
    } while (index_next(x->rank, shape, index));
    return true;
}

/* ---- scatter, scatter_add, index_add: the way there ----
 *
 * What meets in one place, of `count` in all: a list of each place's sources, the latest first. */

typedef struct meetings {
    int64_t *last, *before; /* of a place; of a source: -1 where there is none */
} meetings;

static bool meetings_make(meetings *m, int64_t places, int64_t sources)
{
    m->last = host_realloc_array(NULL, (size_t)places + 1, sizeof *m->last);
    m->before = host_realloc_array(NULL, (size_t)sources + 1, sizeof *m->before);
    for (int64_t i = 0; m->last != NULL && i < places; i++)
        m->last[i] = -1;
    return m->last != NULL && m->before != NULL;
}

static void meet(meetings *m, int64_t place, int64_t source)
{
    m->before[source] = m->last[place];
    m->last[place] = source;
}

static void put(reference_call *c, const meetings *m, bool adds, term *out)
{
    trace *t = c->t;
    const operand *x = &c->in[0], *source = &c->in[2];
    for (int64_t i = 0; i < x->count; i++) {
        if (m->last[i] < 0 || !adds) {
            out[i] = trace_pick(t, m->last[i] < 0 ? x->at[i] : source->at[m->last[i]]);
            continue;
        }
        trace_sum_begin(t);
        trace_sum_add(t, x->at[i]);
        for (int64_t k = m->last[i]; k >= 0; k = m->before[k])
            trace_sum_add(t, source->at[k]);
        out[i] = trace_sum_end(t);
    }
}

static bool put_all(reference_call *c, meetings *m, bool ok, bool adds)
{
    const operand *x = &c->in[0];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    ok = ok && out != NULL;
    if (ok)
        put(c, m, adds, out);
    host_free(m->last);
    host_free(m->before);
    return ok;
}

static bool scatter_to(reference_call *c, bool adds)
{
    const operand *x = &c->in[0], *chosen = &c->in[1], *source = &c->in[2];
    const int64_t axis = axis_of(c);
    int64_t index[TSR_MAX_RANK] = {0}, i = 0;
    meetings m;
    const bool ok = meetings_make(&m, x->count, source->count);
    if (ok && chosen->count > 0)
        do {
            int64_t own[TSR_MAX_RANK];
            memcpy(own, index, sizeof own);
            own[axis] = (int64_t)trace_value(c->t, chosen->at[i++]);
            if (within(own[axis], x->shape[axis]))
                meet(&m, place_in(x, own), place_in(source, index));
        } while (index_next(x->rank, chosen->shape, index));
    return put_all(c, &m, ok, adds);
}

/* With `terms` in the source's place for the time of the call; frees them. */
static bool with_source(reference_call *c, operand source, term *terms, bool (*reference)(reference_call *c))
{
    const operand given = c->in[2];
    const int count = c->in_count;
    source.at = terms;
    c->in[2] = source;
    c->in_count = 3;
    const bool ok = terms != NULL && reference(c);
    c->in[2] = given;
    c->in_count = count;
    host_free(terms);
    return ok;
}

static bool scatter_source(reference_call *c)
{
    return scatter_to(c, false);
}

static bool scatter(reference_call *c)
{
    operand source = c->in[1];
    if (c->in_count > 2 && c->in[2].at != NULL)
        return scatter_source(c);
    term *terms = host_realloc_array(NULL, (size_t)source.count + 1, sizeof *terms);
    for (int64_t i = 0; terms != NULL && i < source.count; i++)
        terms[i] = trace_number(c->t, reference_float(c, "value", 0));
    return with_source(c, source, terms, scatter_source);
}

static bool scatter_add(reference_call *c)
{
    return scatter_to(c, true);
}

static bool index_add_source(reference_call *c)
{
    const operand *x = &c->in[0], *chosen = &c->in[1], *source = &c->in[2];
    const int64_t axis = axis_of(c);
    int64_t index[TSR_MAX_RANK] = {0};
    meetings m;
    const bool ok = meetings_make(&m, x->count, source->count);
    if (ok && source->count > 0)
        do {
            int64_t own[TSR_MAX_RANK];
            memcpy(own, index, sizeof own);
            own[axis] = (int64_t)trace_value(c->t, chosen->at[index[axis]]);
            if (within(own[axis], x->shape[axis]))
                meet(&m, place_in(x, own), place_in(source, index));
        } while (index_next(x->rank, source->shape, index));
    return put_all(c, &m, ok, true);
}

static bool index_add(reference_call *c)
{
    const operand source = c->in[2];
    const double alpha = reference_float(c, "alpha", 1);
    if (alpha == 1)
        return index_add_source(c);
    term *terms = host_realloc_array(NULL, (size_t)source.count + 1, sizeof *terms);
    for (int64_t i = 0; terms != NULL && i < source.count; i++)
        terms[i] = trace_cast(c->t, trace_scale(c->t, source.at[i], alpha), c->dtype);
    return with_source(c, source, terms, index_add_source);
}

/* ---- samples ---- */

#define INDEX(shape_, low_, high_, type)                                                                               \
    {                                                                                                                  \
        DIMS shape_, .values = VALUES_INTEGERS, .low = low_, .high = high_, .dtype = type, .typed = true               \
    }
#define TO(shape_, n) INDEX(shape_, 0, n, TSR_I64)
#define ALONG(a)      .attrs = {WITH_INT("axis", a)}
#define WHOLE(shape_)                                                                                                  \
    {                                                                                                                  \
        DIMS shape_, .values = VALUES_INTEGERS                                                                         \
    }

static const op_sample embedding_samples[] = {
    {"odd", .in = {{DIMS(5, 7)}, TO((9), 5)}},
    {"i32 indices", .in = {{DIMS(5, 7)}, INDEX((9), 0, 5, TSR_I32)}},
    {"two axes", .in = {{DIMS(11, 3)}, TO((4, 6), 11)}},
    {"one index", .in = {{DIMS(11, 3)}, {.rank = 0, .high = 11, .dtype = TSR_I64, .typed = true}}},
    {"padding", .in = {{DIMS(3, 4)}, TO((17), 3)}, .attrs = {WITH_INT("padding_idx", 1)}, .declared = true},
    {"outside", .in = {{DIMS(3, 4)}, INDEX((33), -2, 6, TSR_I64)}, .only_forward = true},
    {"often the same", .in = {{DIMS(2, 3)}, TO((1031), 2)}},
    {"one element", .in = {{DIMS(1, 1)}, TO((1), 1)}},
    {"empty", .in = {{DIMS(0, 4)}, TO((0), 1)}},
    {"no indices", .in = {{DIMS(3, 4)}, TO((0, 2), 3)}},
    {"small integers", .in = {WHOLE((5, 7)), TO((99), 5)}, .exact = true},
    {"past 2^16", .in = {{DIMS(9377, 7)}, TO((33), 9377)}},
    {"past 2^16 out", .in = {{DIMS(17, 7)}, TO((9377), 17)}},
};

#define SELECTIONS                                                                                                     \
    {"odd", .in = {{DIMS(5, 7)}, TO((4), 5)}, ALONG(0)}, {"last axis", .in = {{DIMS(5, 7)}, TO((9), 7)}, ALONG(-1)},   \
        {"middle axis", .in = {{DIMS(3, 5, 4)}, INDEX((6), 0, 5, TSR_I32)}, ALONG(1)},                                 \
        {"outside", .in = {{DIMS(3, 5)}, INDEX((33), -2, 8, TSR_I64)}, ALONG(1), .only_forward = true},                \
        {"often the same", .in = {{DIMS(3, 2)}, TO((517), 2)}, ALONG(1)},                                              \
        {"one element", .in = {{DIMS(1)}, TO((1), 1)}, ALONG(0)},                                                      \
        {"empty", .in = {{DIMS(0, 3)}, TO((4), 3)}, ALONG(1)},                                                         \
        {"no indices", .in = {{DIMS(3, 4)}, TO((0), 3)}, ALONG(0)},                                                    \
        {"small integers", .in = {WHOLE((9, 6)), TO((50), 9)}, ALONG(0), .exact = true},                               \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(9377, 7)}, TO((9377), 9377)}, ALONG(0)                                               \
    }
static const op_sample index_select_samples[] = {SELECTIONS};

static const op_sample gather_samples[] = {
    {"odd", .in = {{DIMS(5, 7)}, TO((5, 4), 7)}, ALONG(1)},
    {"first axis", .in = {{DIMS(5, 7)}, TO((9, 7), 5)}, ALONG(0)},
    {"middle axis", .in = {{DIMS(3, 5, 4)}, INDEX((2, 6, 3), 0, 5, TSR_I32)}, ALONG(-2)},
    {"smaller", .in = {{DIMS(5, 7)}, TO((2, 3), 7)}, ALONG(1)},
    {"outside", .in = {{DIMS(3, 5)}, INDEX((3, 33), -2, 8, TSR_I64)}, ALONG(1), .only_forward = true},
    {"often the same", .in = {{DIMS(2, 3)}, TO((2, 517), 2)}, ALONG(1)},
    {"one element", .in = {{DIMS(1)}, TO((1), 1)}, ALONG(0)},
    {"empty", .in = {{DIMS(0, 3)}, TO((0, 2), 3)}, ALONG(1)},
    {"no indices", .in = {{DIMS(3, 4)}, TO((0, 4), 3)}, ALONG(0)},
    {"small integers", .in = {WHOLE((9, 6)), TO((50, 6), 9)}, ALONG(0), .exact = true},
    {"past 2^16", .in = {{DIMS(9377, 7)}, TO((9377, 7), 7)}, ALONG(1)},
};

static const op_sample take_along_dim_samples[] = {
    {"odd", .in = {{DIMS(5, 7)}, TO((5, 4), 7)}, ALONG(1)},
    {"broadcast index", .in = {{DIMS(5, 7)}, TO((1, 4), 7)}, ALONG(1)},
    {"broadcast x", .in = {{DIMS(1, 7)}, TO((5, 4), 7)}, ALONG(1)},
    {"both", .in = {{DIMS(3, 1, 4)}, INDEX((1, 5, 2), 0, 4, TSR_I32)}, ALONG(2)},
    {"first axis", .in = {{DIMS(5, 1, 4)}, TO((3, 6, 4), 5)}, ALONG(0)},
    {"outside", .in = {{DIMS(3, 5)}, INDEX((1, 33), -2, 8, TSR_I64)}, ALONG(1), .only_forward = true},
    {"one element", .in = {{DIMS(1)}, TO((1), 1)}, ALONG(0)},
    {"empty", .in = {{DIMS(0, 3)}, TO((1, 2), 3)}, ALONG(1)},
    {"small integers", .in = {WHOLE((9, 6)), TO((50, 1), 9)}, ALONG(0), .exact = true},
    {"past 2^16", .in = {{DIMS(9377, 7)}, TO((9377, 1), 7)}, ALONG(1)},
};

/* With a source for each index. */
#define SCATTERS                                                                                                       \
    {"odd", .in = {{DIMS(5, 7)}, TO((5, 4), 7), {DIMS(5, 4)}}, ALONG(1)},                                              \
        {"first axis", .in = {{DIMS(5, 7)}, TO((3, 7), 5), {DIMS(3, 7)}}, ALONG(0)},                                   \
        {"middle axis", .in = {{DIMS(3, 5, 4)}, INDEX((2, 6, 3), 0, 5, TSR_I32), {DIMS(2, 6, 3)}}, ALONG(-2)},         \
        {"larger source", .in = {{DIMS(5, 7)}, TO((2, 3), 7), {DIMS(4, 6)}}, ALONG(1)},                                \
        {"outside", .in = {{DIMS(3, 5)}, INDEX((3, 9), -2, 8, TSR_I64), {DIMS(3, 9)}}, ALONG(1)},                      \
        {"often the same", .in = {{DIMS(2, 3)}, TO((2, 517), 2), {DIMS(2, 517)}}, ALONG(1)},                           \
        {"one element", .in = {{DIMS(1)}, TO((1), 1), {DIMS(1)}}, ALONG(0)},                                           \
        {"empty", .in = {{DIMS(0, 3)}, TO((0, 2), 3), {DIMS(0, 2)}}, ALONG(1)},                                        \
        {"no indices", .in = {{DIMS(3, 4)}, TO((0, 4), 3), {DIMS(2, 4)}}, ALONG(0)},                                   \
        {"small integers", .in = {WHOLE((9, 6)), TO((50, 6), 9), WHOLE((50, 6))}, ALONG(0), .exact = true},            \
    {                                                                                                                  \
        "past 2^16", .in = {{DIMS(9377, 7)}, TO((9377, 7), 7), {DIMS(9377, 7)}}, ALONG(1)                              \
    }
static const op_sample scatter_samples[] = {
    SCATTERS,
    {"a number", .in = {{DIMS(5, 7)}, TO((5, 3), 7), {.absent = true}},
     .attrs = {WITH_INT("axis", 1), WITH_FLOAT("value", 2)}},
};
static const op_sample scatter_add_samples[] = {SCATTERS};

static const op_sample index_add_samples[] = {
    {"odd", .in = {{DIMS(5, 7)}, TO((4), 5), {DIMS(4, 7)}}, ALONG(0)},
    {"last axis", .in = {{DIMS(5, 7)}, TO((9), 7), {DIMS(5, 9)}}, ALONG(-1)},
    {"middle axis", .in = {{DIMS(3, 5, 4)}, INDEX((6), 0, 5, TSR_I32), {DIMS(3, 6, 4)}}, ALONG(1)},
    {"outside", .in = {{DIMS(3, 5)}, INDEX((9), -2, 8, TSR_I64), {DIMS(3, 9)}}, ALONG(1)},
    {"often the same", .in = {{DIMS(3, 2)}, TO((517), 2), {DIMS(3, 517)}}, ALONG(1)},
    {"one element", .in = {{DIMS(1)}, TO((1), 1), {DIMS(1)}}, ALONG(0)},
    {"empty", .in = {{DIMS(0, 3)}, TO((4), 3), {DIMS(0, 4)}}, ALONG(1)},
    {"no indices", .in = {{DIMS(3, 4)}, TO((0), 3), {DIMS(0, 4)}}, ALONG(0)},
    {"small integers", .in = {WHOLE((9, 6)), TO((50), 9), WHOLE((50, 6))}, ALONG(0), .exact = true},
    {"scaled", .in = {{DIMS(5, 7)}, TO((9), 5), {DIMS(9, 7)}}, .attrs = {WITH_INT("axis", 0), WITH_FLOAT("alpha", -3)}},
    {"past 2^16", .in = {{DIMS(9377, 7)}, TO((33), 9377), {DIMS(33, 7)}}, ALONG(0)},
    {"past 2^16 in", .in = {{DIMS(17, 7)}, TO((9377), 17), {DIMS(9377, 7)}}, ALONG(0)},
};

/* Sums are in the order of the indices, so as deep as many meet. */
#define BY_INDEX(operator_name, takes, operands, list_of)                                                              \
    {                                                                                                                  \
        .name = #operator_name, .family = "by index", .dtypes = takes, .arity = operands, .results = 1,                \
        .differentiable = true, .constant = 1u << 1, .products = true, .huge = 0x1p110, .tiny = 0x1p-110,              \
        .specials = true, .reference = operator_name, SAMPLES(list_of)                                                 \
    }
#define ALL (FLOATS | INTEGERS | BYTES)
static const operator_row list[] = {
    BY_INDEX(embedding, FLOATS, 2, embedding_samples),
    BY_INDEX(index_select, ALL, 2, index_select_samples),
    BY_INDEX(gather, ALL, 2, gather_samples),
    BY_INDEX(take_along_dim, ALL, 2, take_along_dim_samples),
    BY_INDEX(scatter, ALL, 3, scatter_samples),
    BY_INDEX(scatter_add, FLOATS | INTEGERS, 3, scatter_add_samples),
    BY_INDEX(index_add, FLOATS | INTEGERS, 3, index_add_samples),
};
const row_list indexing_rows = {list, COUNT_OF(list)};
