/* scaled_dot_product_attention and rotary_embedding. */
#include <math.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "operators.h"

/* ---- softmax(scale q kᵀ + mask) v ---- */

enum { Q, K, V, MASK_OF };

typedef struct heads {
    int64_t outer, heads, group, rows, keys, width, values;
} heads;

static heads heads_of(const reference_call *c)
{
    const operand *q = &c->in[Q], *k = &c->in[K];
    const int r = q->rank;
    heads s = {1, 1, 1, q->shape[r - 2], k->shape[r - 2], q->shape[r - 1], c->in[V].shape[r - 1]};
    for (int d = 0; d < r - 3; d++)
        s.outer *= q->shape[d];
    if (r > 2) {
        s.heads = q->shape[r - 3];
        s.group = s.heads == 0 ? 1 : s.heads / k->shape[r - 3];
    }
    return s;
}

/* Whether query i sees key j, and the score then. */
static bool score(reference_call *c, const heads *s, int64_t head, int64_t i, int64_t j, term *out)
{
    trace *t = c->t;
    const int64_t shared = head / s->heads * (s->heads / s->group) + head % s->heads / s->group;
    const term *q = c->in[Q].at + (head * s->rows + i) * s->width, *k = c->in[K].at + (shared * s->keys + j) * s->width;
    const operand *mask = c->in_count > MASK_OF ? &c->in[MASK_OF] : NULL;
    const double scale = reference_float(c, "scale", 0);
    int64_t index[TSR_MAX_RANK];
    int r = c->in[Q].rank;
    index[r - 1] = j;
    index[r - 2] = i;
    for (int64_t d = r - 3, rest = head; d >= 0; d--) {
        index[d] = rest % c->in[Q].shape[d];
        rest /= c->in[Q].shape[d];
    }
    const term m = mask == NULL || mask->at == NULL ? -1 : mask->at[broadcast_at(mask, r, index)];
    if ((reference_int(c, "causal", 0) != 0 && j > i) || (m >= 0 && mask->dtype == TSR_BOOL && trace_value(t, m) == 0))
        return false;
    trace_sum_begin(t);
    for (int64_t w = 0; w < s->width; w++)
        trace_sum_product(t, q[w], k[w]);
    *out = trace_scale(t, trace_sum_end(t), scale == 0 ? 1 / sqrt((double)s->width) : scale);
    if (m >= 0 && mask->dtype != TSR_BOOL)
        *out = trace_add(t, *out, m);
    return true;
}

/* One query of one head; e and from have room for all keys. */
static void attend(reference_call *c, const heads *s, int64_t head, int64_t i, term *e, int64_t *from, term *out)
{
    trace *t = c->t;
    const int64_t shared = head / s->heads * (s->heads / s->group) + head % s->heads / s->group;
    int64_t seen = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        from[seen] = j;
        seen += score(c, s, head, i, j, &e[seen]);
    }
    double top = -(double)INFINITY;
    for (int64_t j = 0; j < seen; j++)
        top = isnan(top) || trace_value(t, e[j]) <= top ? top : trace_value(t, e[j]);
    if (top == -(double)INFINITY) /* minus infinity hides a key too, and a query that sees none gives 0 */
        seen = 0;
    const term shift = trace_number(t, seen == 0 ? 0 : top);
    for (int64_t j = 0; j < seen; j++)
        e[j] = trace_exp(t, trace_sub(t, e[j], shift));
    const term total = reduced_sum(c, e, seen);
    /* The way back makes probabilities again from top + log total: what that and its rounding err by. */
    const double log_total = log(trace_value(t, total)), slack = fabs(top + log_total) + 4 * fabs(log_total), one = 1;
    for (int64_t w = 0; w < s->values; w++) {
        trace_sum_begin(t);
        for (int64_t j = 0; j < seen; j++)
            trace_sum_product(t, e[j], c->in[V].at[(shared * s->keys + from[j]) * s->values + w]);
        const term sum = trace_sum_end(t);
        const term y = seen == 0 ? trace_number(t, 0) : trace_div(t, sum, total);
        out[w] = seen == 0 ? y : trace_function(t, trace_value(t, y), 0, 1, &y, &one, &one, slack);
    }
}

static bool attention(reference_call *c)
{
    const operand *q = &c->in[Q];
    const heads s = heads_of(c);
    int64_t shape[TSR_MAX_RANK];
    for (int d = 0; d < q->rank; d++)
        shape[d] = d == q->rank - 1 ? s.values : q->shape[d];
    term *out = reference_result(c, 0, c->dtype, q->rank, shape),
         *e = host_realloc_array(NULL, (size_t)s.keys + 1, sizeof *e);
    int64_t *from = host_realloc_array(NULL, (size_t)s.keys + 1, sizeof *from);
    const bool ok = out != NULL && e != NULL && from != NULL;
    for (int64_t row = 0; ok && row < s.outer * s.heads * s.rows; row++)
        attend(c, &s, row / s.rows, row % s.rows, e, from, out + row * s.values);
    host_free(e);
    host_free(from);
    return ok;
}

#define QKV(q, k, v) .in = {{DIMS q}, {DIMS k}, {DIMS v}, {.absent = true}}
#define BOOLS(m)                                                                                                       \
    {                                                                                                                  \
        DIMS m, .values = VALUES_INTEGERS, .low = 0, .high = 2, .dtype = TSR_BOOL, .typed = true                       \
    }
#define CAUSAL WITH_BOOL("causal", 1)
static const op_sample attention_samples[] = {
    {"odd", QKV((2, 5, 3), (2, 7, 3), (2, 7, 4))},
    {"one head", QKV((5, 6), (7, 6), (7, 3))},
    {"two batches", QKV((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5))},
    {"causal", QKV((2, 7, 3), (2, 7, 3), (2, 7, 5)), .attrs = {CAUSAL}},
    {"causal, fewer keys", QKV((2, 7, 3), (2, 4, 3), (2, 4, 5)), .attrs = {CAUSAL}},
    {"grouped heads", QKV((2, 6, 4, 3), (2, 2, 5, 3), (2, 2, 5, 4))},
    {"one key head, causal", QKV((4, 5, 3), (1, 5, 3), (1, 5, 3)), .attrs = {CAUSAL}},
    {"truth mask", .in = {{DIMS(2, 5, 3)}, {DIMS(2, 7, 3)}, {DIMS(2, 7, 4)}, BOOLS((5, 7))}},
    {"truth mask that hides all of a row", .in = {{DIMS(9, 3)}, {DIMS(2, 3)}, {DIMS(2, 4)}, BOOLS((9, 2))}},
    {"mask of heads, causal", .in = {{DIMS(2, 3, 4, 3)}, {DIMS(2, 3, 4, 3)}, {DIMS(2, 3, 4, 5)}, BOOLS((3, 1, 4))},
     .attrs = {CAUSAL}},
    {"number mask", .in = {{DIMS(2, 5, 3)}, {DIMS(2, 7, 3)}, {DIMS(2, 7, 4)}, {DIMS(2, 5, 7), .low = -4, .high = 4}}},
    {"number mask, broadcast", .in = {{DIMS(2, 5, 3)}, {DIMS(2, 7, 3)}, {DIMS(2, 7, 4)}, {DIMS(5, 1)}}},
    {"number mask that hides",
     .in = {{DIMS(2, 5, 3)}, {DIMS(2, 3, 3)}, {DIMS(2, 3, 4)}, {DIMS(2, 5, 3), .values = VALUES_HIDING}}},
    {"wide number mask, grouped heads",
     .in = {{DIMS(4, 5, 3)}, {DIMS(2, 7, 3)}, {DIMS(2, 7, 4)}, {DIMS(4, 1, 7), .wide = true}}},
    {"scale", QKV((2, 5, 3), (2, 7, 3), (2, 7, 4)), .attrs = {WITH_FLOAT("scale", 1.7)}},
    {"far apart", .in = {{DIMS(5, 3), .low = -60, .high = 60},
                         {DIMS(7, 3), .low = -60, .high = 60},
                         {DIMS(7, 4)},
                         {.absent = true}}},
    {"one element", QKV((1, 1), (1, 1), (1, 1))},
    {"empty", QKV((0, 5, 3), (0, 7, 3), (0, 7, 4))},
    {"no queries", QKV((2, 0, 3), (2, 7, 3), (2, 7, 4))},
    {"no keys", QKV((2, 5, 3), (2, 0, 3), (2, 0, 4))},
    {"many keys", QKV((2, 3, 5), (2, 1031, 5), (2, 1031, 4))},
    {"many queries, causal", QKV((263, 5), (263, 5), (263, 3)), .attrs = {CAUSAL}},
    {"past 2^16", QKV((2185, 2, 3, 5), (2185, 1, 2, 5), (2185, 1, 2, 3))},
};

/* ---- pairs turned by angles ---- */

static bool rotary(reference_call *c)
{
    trace *t = c->t;
    const operand *x = &c->in[0], *cosine = &c->in[1], *sine = &c->in[2];
    const bool interleaved = reference_int(c, "interleaved", 0) != 0;
    const int64_t pairs = cosine->shape[1], positions = cosine->shape[0], width = x->shape[x->rank - 1];
    term *out = reference_result(c, 0, c->dtype, x->rank, x->shape);
    for (int64_t row = 0; out != NULL && width > 0 && row < x->count / width; row++) {
        const term *from = x->at + row * width;
        for (int64_t i = 2 * pairs; i < width; i++)
            out[row * width + i] = trace_pick(t, from[i]);
        for (int64_t i = 0; i < pairs; i++) {
            const int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + pairs,
                          angle = row % positions * pairs + i;
            const term cos_of = cosine->at[angle], sin_of = sine->at[angle];
            out[row * width + a] = trace_sub(t, trace_mul(t, from[a], cos_of), trace_mul(t, from[b], sin_of));
            out[row * width + b] = trace_add(t, trace_mul(t, from[b], cos_of), trace_mul(t, from[a], sin_of));
        }
    }
    return out != NULL;
}

#define TABLES(n, pairs)                                                                                               \
    {DIMS(n, pairs), .wide = true},                                                                                    \
    {                                                                                                                  \
        DIMS(n, pairs), .wide = true                                                                                   \
    }
#define INTERLEAVED .attrs = {WITH_BOOL("interleaved", 1)}
static const op_sample rotary_samples[] = {
    {"odd", .in = {{DIMS(3, 5, 6)}, TABLES(5, 3)}},
    {"interleaved", .in = {{DIMS(3, 5, 6)}, TABLES(5, 3)}, INTERLEAVED},
    {"heads", .in = {{DIMS(2, 3, 5, 8)}, TABLES(5, 4)}},
    {"part of the width", .in = {{DIMS(3, 5, 9)}, TABLES(5, 2)}},
    {"part of the width, interleaved", .in = {{DIMS(3, 5, 9)}, TABLES(5, 2)}, INTERLEAVED},
    {"no pairs", .in = {{DIMS(3, 5)}, TABLES(3, 0)}},
    {"one element", .in = {{DIMS(1, 1)}, TABLES(1, 0)}},
    {"one pair", .in = {{DIMS(1, 2)}, TABLES(1, 1)}},
    {"empty", .in = {{DIMS(0, 5, 6)}, TABLES(5, 3)}},
    {"no positions", .in = {{DIMS(2, 0, 6)}, TABLES(0, 3)}},
    {"small integers",
     .in = {{DIMS(2, 5, 6), .values = VALUES_INTEGERS},
            {DIMS(5, 3), .values = VALUES_INTEGERS, .wide = true},
            {DIMS(5, 3), .values = VALUES_INTEGERS, .wide = true}},
     .exact = true},
    {"past 2^16", .in = {{DIMS(7, 1021, 10)}, TABLES(1021, 5)}},
};

static const operator_row list[] = {
    {.name = "scaled_dot_product_attention",
     .family = "attention",
     .dtypes = FLOATS,
     .arity = 4,
     .results = 2,
     .hidden = 1,
     .differentiable = true,
     .products = true,
     .tiny = 0x1p-50,
     .specials = true,
     .reference = attention,
     SAMPLES(attention_samples)},
    {.name = "rotary_embedding",
     .family = "attention",
     .dtypes = FLOATS,
     .arity = 3,
     .results = 1,
     .differentiable = true,
     .constant = 3u << 1,
     .huge = 0x1p118,
     .tiny = 0x1p-100,
     .specials = true,
     .reference = rotary,
     SAMPLES(rotary_samples)},
};
const row_list attention_rows = {list, COUNT_OF(list)};
